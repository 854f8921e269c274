// RMSprop over the flat buffer, with penalties, clipping and learning rate fused in:
//     v ← ρv + (1 − ρ)g²;  u = g/(√v + ε);  θ ← kθ − ηu, or with momentum b ← μb + u, θ ← kθ − ηb, k = 1 − ηλ.
// One thread per 16 bytes of parameters; 20 bytes are moved for each one in float32 without momentum, 28 with, and 2 more
// with a 16-bit copy. Nothing happens once a step has failed, or in one that is skipped.
// Source: Tieleman & Hinton (2012), Coursera lecture 6.5, in PyTorch's form (ε outside of the root).
#include "common.cuh"
#include "flat_parameters.cuh"

// block: at most 512
// instances: T in float; Low in float, __half, __nv_bfloat16
// instances: T in double; Low in double
template <typename T, typename Low>
__global__ void rmsprop(long long n, long long n_low, long long n_segments, double rho, T eps, T momentum, long long n_decay,
                        double weight_decay, T max_value,
                        const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                        const double* __restrict__ decay_table /* any (n_decay), may be null */,
                        const long long* __restrict__ decay_position /* any (1), may be null */,
                        const double* __restrict__ learning_rate /* any (1) */,
                        const double* __restrict__ clip_scale /* any (1), may be null */,
                        const double* __restrict__ loss_scale /* any (1), may be null */,
                        const long long* __restrict__ skip /* any (1), may be null */,
                        const long long* __restrict__ failed_step /* any (1) */,
                        const T* __restrict__ gradients /* any (n) */, T* __restrict__ values /* any (n) */,
                        Low* __restrict__ low /* any (n_low), may be null */, T* __restrict__ v /* any (n) */,
                        T* __restrict__ velocity /* any (n), may be null */) {
    if (is_idle(failed_step, skip)) n = 0;  // no return: the numbers below are on their way meanwhile
    const T eta = static_cast<T>(*learning_rate);
    const T pull = static_cast<T>(*learning_rate * scheduled_value(weight_decay, n_decay, decay_table, decay_position));
    const T keep = static_cast<T>(rho), take = static_cast<T>(1 - rho);
    const bool has_momentum = velocity != nullptr;
    const Clipping<T> clipping(loss_scale, clip_scale, max_value);
    update_parameters(n, n_low, n_segments, segments, clipping, gradients, values, v, velocity, low,
                      [=](T g, T& theta, T& square, T& b, const Segment<T>& segment) {
                          square = multiply_add(keep, square, multiply_rounded(take, g * g));
                          T u = g / (sqrt(square) + eps);
                          if (has_momentum) u = b = multiply_add(momentum, b, u);
                          decay_parameter(theta, pull, segment);
                          theta = multiply_add(-eta * segment.rate, u, theta);
                      });
}
