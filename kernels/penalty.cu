// The penalty Σ λ₁|w| + λ₂w² over the flat buffer, and the gradient of data loss and penalty together.
//
// The value in two stages: a block per part of the buffer, then one block that adds the parts' sums in double.
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float, double
template <typename T>
__global__ void penalty_parts(long long n, long long part_size, long long n_parts, long long n_segments,
                              const double* __restrict__ segments /* C (n_segments, 4) */,
                              const T* __restrict__ values /* any (n) */, T* __restrict__ partial /* any (n_parts) */) {
    for (long long part = blockIdx.x; part < n_parts; part += gridDim.x) {
        SegmentFinder<T> finder(segments, n_segments);
        T sum = sum_of_part<T>(part, part_size, n, [&](long long i) {
            const Segment<T>& segment = finder.at(i);
            T w = values[i];
            // Where there is no penalty a diverged weight must not make one: 0·∞ is NaN.
            T value = segment.l1 != 0 ? segment.l1 * fabs(w) : T(0);
            return segment.twice_l2 != 0 ? value + segment.twice_l2 / 2 * w * w : value;
        });
        if (threadIdx.x == 0) partial[part] = sum;
    }
}

// total = Σ partial; launched with one block
// instances: T in float, double
template <typename T>
__global__ void penalty_total(long long n_parts, const T* __restrict__ partial /* any (n_parts) */,
                              double* __restrict__ total /* any (1) */) {
    if (blockIdx.x != 0) return;
    double sum = sum_of_parts(n_parts, partial);
    if (threadIdx.x == 0) *total = sum;
}

// out = g + 2λ₂w + λ₁ sign(w); out may be the gradients. One thread per parameter.
// instances: T in float, double
template <typename T>
__global__ void penalized_gradient(long long n, long long n_segments,
                                   const double* __restrict__ segments /* C (n_segments, 4) */,
                                   const T* __restrict__ values /* any (n) */, const T* gradients /* any (n) */,
                                   T* out /* any (n) */) {
    SegmentFinder<T> finder(segments, n_segments);
    for (long long i = first_index(); i < n; i += index_stride()) {
        out[i] = penalized(gradients[i], values[i], finder.at(i));
    }
}
