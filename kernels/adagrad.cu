// Adagrad over the flat buffer, with penalties, clipping and learning rate fused in:
//     s ← s + g²;  θ ← θ(1 − η_t λ) − η_t g/(√s + ε), η_t = η/(1 + (t − 1)·lr_decay), t = step + 1.
// One thread per 16 bytes of parameters; 20 bytes are moved for each one in float32, 22 with a 16-bit copy. Nothing
// happens once a step has failed, or in one that is skipped.
// Source: Duchi, Hazan & Singer (2011), "Adaptive subgradient methods", section 1.1, diagonal form; ε as in PyTorch.
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float; Low in float, __half, __nv_bfloat16
// instances: T in double; Low in double
// block: at most 512
template <typename T, typename Low>
__global__ void adagrad(long long n, long long n_low, long long n_segments, double lr_decay, T eps, long long n_decay,
                        double weight_decay, T max_value,
                        const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                        const double* __restrict__ decay_table /* any (n_decay), may be null */,
                        const long long* __restrict__ decay_position /* any (1), may be null */,
                        const long long* __restrict__ step /* any (1) */,
                        const double* __restrict__ learning_rate /* any (1) */,
                        const double* __restrict__ clip_scale /* any (1), may be null */,
                        const double* __restrict__ loss_scale /* any (1), may be null */,
                        const long long* __restrict__ skip /* any (1), may be null */,
                        const long long* __restrict__ failed_step /* any (1) */,
                        const T* __restrict__ gradients /* any (n) */, T* __restrict__ values /* any (n) */,
                        Low* __restrict__ low /* any (n_low), may be null */, T* __restrict__ s /* any (n) */) {
    if (is_idle(failed_step, skip)) n = 0;  // no return: the numbers below are on their way meanwhile
    const double slowed = *learning_rate / multiply_add(static_cast<double>(*step), lr_decay, 1.0);
    const T eta = static_cast<T>(slowed);
    const T pull = static_cast<T>(slowed * scheduled_value(weight_decay, n_decay, decay_table, decay_position));
    const Clipping<T> clipping(loss_scale, clip_scale, max_value);
    update_parameters(n, n_low, n_segments, segments, clipping, gradients, values, s, static_cast<T*>(nullptr), low,
                      [=](T g, T& theta, T& square, T&, const Segment<T>& segment) {
                          square = multiply_add(g, g, square);
                          decay_parameter(theta, pull, segment);
                          theta = multiply_add(-eta * segment.rate, g / (sqrt(square) + eps), theta);
                      });
}
