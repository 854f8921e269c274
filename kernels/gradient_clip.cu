// clip_scale = min(1, c/(‖g‖ + 10⁻⁶)), g the penalized gradient: clipping by the norm of all gradients together.
//
// Two stages: a block per part of the buffer sums g², then one block adds the parts' sums in double. The updates read
// the scale; no pass over the gradients applies it.
// Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1.
#include "common.cuh"
#include "flat_parameters.cuh"

// partial_p = Σ g² over part p. Without segments (n_segments 0) g is the bare gradient.
// instances: T in float, double
template <typename T>
__global__ void square_parts(long long n, long long part_size, long long n_parts, long long n_segments,
                             const double* __restrict__ segments /* C (n_segments, 4), may be null */,
                             const T* __restrict__ values /* any (n) */, const T* __restrict__ gradients /* any (n) */,
                             T* __restrict__ partial /* any (n_parts) */) {
    for (long long part = blockIdx.x; part < n_parts; part += gridDim.x) {
        SegmentFinder<T> finder(segments, n_segments);
        T sum = sum_of_part<T>(part, part_size, n, [&](long long i) {
            T g = penalized(gradients[i], values[i], finder.at(i));
            return g * g;
        });
        if (threadIdx.x == 0) partial[part] = sum;
    }
}

// launched with one block
// instances: T in float, double
template <typename T>
__global__ void clip_scale(long long n_parts, double max_norm, const T* __restrict__ partial /* any (n_parts) */,
                           double* __restrict__ scale /* any (1) */) {
    if (blockIdx.x != 0) return;
    double norm = sqrt(sum_of_parts(n_parts, partial));
    if (threadIdx.x == 0) {
        double ratio = max_norm / (norm + 1e-6);
        *scale = ratio < 1 ? ratio : 1.0;  // a norm that is NaN scales nothing: check_finite stops the step
    }
}
