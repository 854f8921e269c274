// Stochastic gradient descent over the flat buffer, with penalties, clipping and learning rate fused in:
//     v ← μv + g;  θ ← θ − ηv, or θ ← θ − η(g + μv) with Nesterov momentum;  θ ← θ − ηg without momentum.
// One thread per parameter, 12 bytes each in float32 without momentum, 20 with. Nothing happens once a step has failed.
// Source: Sutskever et al. (2013), "On the importance of initialization and momentum", eq. 1-4, in PyTorch's form (η
// outside of v).
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float, double
template <typename T>
__global__ void sgd(long long n, long long n_segments, T momentum, bool nesterov, T max_value,
                    const double* __restrict__ segments /* C (n_segments, 4) */,
                    const double* __restrict__ learning_rate /* any (1) */,
                    const double* __restrict__ clip_scale /* any (1), may be null */,
                    const long long* __restrict__ failed_step /* any (1) */, const T* __restrict__ gradients /* any (n) */,
                    T* __restrict__ values /* any (n) */, T* __restrict__ velocity /* any (n), may be null */) {
    if (*failed_step >= 0) return;
    const T eta = static_cast<T>(*learning_rate);
    const T scale = read_clip_scale<T>(clip_scale);
    SegmentFinder<T> finder(segments, n_segments);
    for (long long i = first_index(); i < n; i += index_stride()) {
        T theta = values[i];
        T g = update_gradient(gradients[i], theta, finder.at(i), scale, max_value);
        if (velocity != nullptr) {
            T v = momentum * velocity[i] + g;
            velocity[i] = v;
            g = nesterov ? g + momentum * v : v;
        }
        values[i] = theta - eta * g;
    }
}
