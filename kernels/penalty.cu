// The penalty Σ λ₁|w| + λ₂w² over the flat buffer, and the gradient of data loss and penalty together.
#include "common.cuh"
#include "flat_parameters.cuh"

// total = Σ λ₁|w| + λ₂w²: a block per part of the buffer, and the last one adds the parts' sums in double.
// instances: T in float, double
template <typename T>
__global__ void penalty(long long n, long long part_size, long long n_parts, long long n_segments,
                        const double* __restrict__ segments /* C (n_segments, 5) */,
                        const T* __restrict__ values /* any (n) */, T* __restrict__ partial /* any (n_parts) */,
                        unsigned int* __restrict__ arrived /* any (1) */, double* __restrict__ total /* any (1) */) {
    constexpr int width = vector_width<T>;
    for (long long part = blockIdx.x; part < n_parts; part += gridDim.x) {
        SegmentFinder<T> finder(segments, n_segments);
        T sum = 0;
        const T* none = nullptr;
        visit_part<1>(part, part_size, n, values, none, [&](long long i, const auto& w, const auto&) {
            visit_segments(finder, Place<width, 1>{i, 0}, [&](int k) {
                const Segment<T>& segment = finder.segment;
                // Where there is no penalty a diverged weight must not make one: 0·∞ is NaN.
                if (segment.l1 != 0) sum = multiply_add(segment.l1, fabs(w[k]), sum);
                if (segment.twice_l2 != 0) sum = multiply_add(segment.twice_l2 / 2 * w[k], w[k], sum);
            });
        });
        sum = block_sum(sum);
        if (threadIdx.x == 0) partial[part] = sum;
    }
    if (!is_last_block(arrived)) return;
    const double sum = block_sum(thread_sum_of_parts(n_parts, partial));
    if (threadIdx.x == 0) *total = sum;
}

// out = g/loss_scale + 2λ₂w + λ₁ sign(w); out may be the gradients. One thread per 16 bytes of parameters.
// instances: T in float, double
template <typename T>
__global__ void penalized_gradient(long long n, long long n_segments,
                                   const double* __restrict__ segments /* C (n_segments, 5) */,
                                   const double* __restrict__ loss_scale /* any (1), may be null */,
                                   const T* __restrict__ values /* any (n) */, const T* gradients /* any (n) */,
                                   T* out /* any (n) */) {
    constexpr int width = vector_width<T>;
    const T inverse = inverse_scale<T>(loss_scale);
    SegmentFinder<T> finder(segments, n_segments);
    for_each_vector<width>(n, is_aligned<width>(gradients, values, out), [&](auto place) {
        auto g = place.load(gradients);
        const auto w = place.load(values);
        visit_segments(finder, place, [&](int k) { g[k] = penalized(multiply_rounded(g[k], inverse), w[k], finder.segment); });
        place.store(out, g);
    });
}
