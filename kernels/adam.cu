// Adam and AdamW over the flat buffer, with penalties, clipping and learning rate fused in:
//     m ← β₁m + g, v ← β₂v + g²;  θ ← θ(1 − ηλ) − η m̂/(√v̂ + ε), λ the decoupled weight decay (0 in Adam), where
//     m̂ = m(1 − β₁)/(1 − β₁ᵗ), v̂ = v(1 − β₂)/(1 − β₂ᵗ): the moments are kept without their factors (1 − β).
// With c = √((1 − β₂)/(1 − β₂ᵗ)) the step is η(1 − β₁)/(c(1 − β₁ᵗ)) · m/(√v + ε/c).
//
// η and λ are those of all parameters times the factors of a parameter's segment. λ is a number or the table's for this step.
//
// One thread per 16 bytes of parameters; 28 bytes are moved for each one in float32, 30 with a 16-bit copy. t = step + 1
// and η come from device memory, so a replayed graph sees new ones. 1 − βᵗ is −expm1(t ln β), which keeps its digits in
// float32 when β is near 1. Nothing happens once a step has failed, or in one that is skipped.
// Sources: Kingma & Ba (2015), "Adam", algorithm 1; Loshchilov & Hutter (2019), "Decoupled weight decay", algorithm 2.
#include "common.cuh"
#include "flat_parameters.cuh"

// block: at most 512
// instances: T in float; Low in float, __half, __nv_bfloat16
// instances: T in double; Low in double
template <typename T, typename Low>
__global__ void adam(long long n, long long n_low, long long n_segments, double beta1, double beta2, double log_beta1,
                     double log_beta2, double eps, long long n_decay, double weight_decay, T max_value,
                     const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                     const double* __restrict__ decay_table /* any (n_decay), may be null */,
                     const long long* __restrict__ decay_position /* any (1), may be null */,
                     const long long* __restrict__ step /* any (1) */,
                     const double* __restrict__ learning_rate /* any (1) */,
                     const double* __restrict__ clip_scale /* any (1), may be null */,
                     const double* __restrict__ loss_scale /* any (1), may be null */,
                     const long long* __restrict__ skip /* any (1), may be null */,
                     const long long* __restrict__ failed_step /* any (1) */, const T* __restrict__ gradients /* any (n) */,
                     T* __restrict__ values /* any (n) */, Low* __restrict__ low /* any (n_low), may be null */,
                     T* __restrict__ m /* any (n) */, T* __restrict__ v /* any (n) */) {
    if (is_idle(failed_step, skip)) n = 0;  // no return: the numbers below are on their way meanwhile
    const double t = static_cast<double>(*step + 1);
    const T remaining1 = -expm1(static_cast<T>(multiply_rounded(t, log_beta1)));
    const T remaining2 = -expm1(static_cast<T>(multiply_rounded(t, log_beta2)));
    const T c = sqrt(static_cast<T>(1 - beta2) / remaining2);
    const T rate = static_cast<T>(*learning_rate * (1 - beta1)) / (remaining1 * c);
    const T scaled_eps = static_cast<T>(eps) / c;
    const T pull = static_cast<T>(*learning_rate * scheduled_value(weight_decay, n_decay, decay_table, decay_position));
    const T decay1 = static_cast<T>(beta1), decay2 = static_cast<T>(beta2);
    const Clipping<T> clipping(loss_scale, clip_scale, max_value);
    update_parameters(n, n_low, n_segments, segments, clipping, gradients, values, m, v, low,
                      [=](T g, T& theta, T& first, T& second, const Segment<T>& segment) {
                          first = multiply_add(decay1, first, g);
                          second = multiply_add(decay2, second, multiply_rounded(g, g));
                          decay_parameter(theta, pull, segment);
                          theta = multiply_add(-rate * segment.rate, first / (sqrt(second) + scaled_eps), theta);
                      });
}
