// RMSprop over the flat buffer, with penalties, clipping and learning rate fused in:
//     v ← ρv + (1 − ρ)g²;  u = g/(√v + ε);  θ ← θ − ηu, or with momentum b ← μb + u, θ ← θ − ηb.
// One thread per parameter, 20 bytes each in float32 without momentum, 28 with. Nothing happens once a step has failed.
// Source: Tieleman & Hinton (2012), Coursera lecture 6.5, in PyTorch's form (ε outside of the root).
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float, double
template <typename T>
__global__ void rmsprop(long long n, long long n_segments, double rho, T eps, T momentum, T max_value,
                        const double* __restrict__ segments /* C (n_segments, 4) */,
                        const double* __restrict__ learning_rate /* any (1) */,
                        const double* __restrict__ clip_scale /* any (1), may be null */,
                        const long long* __restrict__ failed_step /* any (1) */,
                        const T* __restrict__ gradients /* any (n) */, T* __restrict__ values /* any (n) */,
                        T* __restrict__ v /* any (n) */, T* __restrict__ velocity /* any (n), may be null */) {
    if (*failed_step >= 0) return;
    const T eta = static_cast<T>(*learning_rate);
    const T keep = static_cast<T>(rho), take = static_cast<T>(1 - rho);
    const T scale = read_clip_scale<T>(clip_scale);
    SegmentFinder<T> finder(segments, n_segments);
    for (long long i = first_index(); i < n; i += index_stride()) {
        T theta = values[i];
        const T g = update_gradient(gradients[i], theta, finder.at(i), scale, max_value);
        const T square = keep * v[i] + take * (g * g);
        v[i] = square;
        T u = g / (sqrt(square) + eps);
        if (velocity != nullptr) {
            u += momentum * velocity[i];
            velocity[i] = u;
        }
        values[i] = theta - eta * u;
    }
}
