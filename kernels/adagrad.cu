// Adagrad over the flat buffer, with penalties, clipping and learning rate fused in:
//     s ← s + g²;  θ ← θ − η/(1 + (t − 1)·decay) · g/(√s + ε), t = step + 1.
// One thread per parameter, 20 bytes each in float32. Nothing happens once a step has failed.
// Source: Duchi, Hazan & Singer (2011), "Adaptive subgradient methods", section 1.1, diagonal form; ε as in PyTorch.
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float, double
template <typename T>
__global__ void adagrad(long long n, long long n_segments, double decay, T eps, T max_value,
                        const double* __restrict__ segments /* C (n_segments, 4) */,
                        const long long* __restrict__ step /* any (1) */,
                        const double* __restrict__ learning_rate /* any (1) */,
                        const double* __restrict__ clip_scale /* any (1), may be null */,
                        const long long* __restrict__ failed_step /* any (1) */,
                        const T* __restrict__ gradients /* any (n) */, T* __restrict__ values /* any (n) */,
                        T* __restrict__ s /* any (n) */) {
    if (*failed_step >= 0) return;
    const T eta = static_cast<T>(*learning_rate / (1 + static_cast<double>(*step) * decay));
    const T scale = read_clip_scale<T>(clip_scale);
    SegmentFinder<T> finder(segments, n_segments);
    for (long long i = first_index(); i < n; i += index_stride()) {
        T theta = values[i];
        const T g = update_gradient(gradients[i], theta, finder.at(i), scale, max_value);
        const T square = s[i] + g * g;
        s[i] = square;
        values[i] = theta - eta * (g / (sqrt(square) + eps));
    }
}
