// Stochastic gradient descent over the flat buffer, with penalties, clipping and learning rate fused in:
//     v ← μv + g;  θ ← kθ − ηv, or θ ← kθ − η(g + μv) with Nesterov momentum;  θ ← kθ − ηg without momentum, k = 1 − ηλ.
// One thread per 16 bytes of parameters; 12 bytes are moved for each one in float32 without momentum, 20 with, and 2 more
// with a 16-bit copy. Nothing happens once a step has failed, or in one that is skipped.
// Source: Sutskever et al. (2013), "On the importance of initialization and momentum", eq. 1-4, in PyTorch's form (η
// outside of v).
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float; Low in float, __half, __nv_bfloat16
// instances: T in double; Low in double
template <typename T, typename Low>
__global__ void sgd(long long n, long long n_low, long long n_segments, T momentum, bool nesterov, long long n_decay,
                    double weight_decay, T max_value,
                    const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                    const double* __restrict__ decay_table /* any (n_decay), may be null */,
                    const long long* __restrict__ decay_position /* any (1), may be null */,
                    const double* __restrict__ learning_rate /* any (1) */,
                    const double* __restrict__ clip_scale /* any (1), may be null */,
                    const double* __restrict__ loss_scale /* any (1), may be null */,
                    const long long* __restrict__ skip /* any (1), may be null */,
                    const long long* __restrict__ failed_step /* any (1) */, const T* __restrict__ gradients /* any (n) */,
                    T* __restrict__ values /* any (n) */, Low* __restrict__ low /* any (n_low), may be null */,
                    T* __restrict__ velocity /* any (n), may be null */) {
    if (is_idle(failed_step, skip)) n = 0;  // no return: the numbers below are on their way meanwhile
    const T eta = static_cast<T>(*learning_rate);
    const T pull = static_cast<T>(*learning_rate * scheduled_value(weight_decay, n_decay, decay_table, decay_position));
    const bool has_momentum = velocity != nullptr;
    const Clipping<T> clipping(loss_scale, clip_scale, max_value);
    update_parameters(n, n_low, n_segments, segments, clipping, gradients, values, velocity, static_cast<T*>(nullptr), low,
                      [=](T g, T& theta, T& v, T&, const Segment<T>& segment) {
                          if (has_momentum) {
                              v = multiply_add(momentum, v, g);
                              g = nesterov ? multiply_add(momentum, v, g) : v;
                          }
                          decay_parameter(theta, pull, segment);
                          theta = multiply_add(-eta * segment.rate, g, theta);
                      });
}
