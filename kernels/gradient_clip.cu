// clip_scale = min(1, c/(‖g‖ + 10⁻⁶)), g the penalized gradient: clipping by the norm of all gradients together.
//
// Two stages: a block per part of the buffer sums g², then one block adds the parts' sums in double. The updates read
// the scale; no pass over the gradients applies it. The same pass gives check_finite.cu the squares of the bare gradient.
// Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1.
#include "common.cuh"
#include "flat_parameters.cuh"

// bare_p = Σ g² and partial_p = Σ (g + 2λ₂w + λ₁ sign(w))² over part p, g the gradient divided by the loss scale. Without
// PENALIZED, partial is not written.
// instances: T in float, double; PENALIZED in false, true
template <typename T, bool PENALIZED>
__global__ void square_parts(long long n, long long part_size, long long n_parts, long long n_segments,
                             const double* __restrict__ segments /* C (n_segments, 4), may be null */,
                             const double* __restrict__ loss_scale /* any (1), may be null */,
                             const T* __restrict__ values /* any (n) */, const T* __restrict__ gradients /* any (n) */,
                             T* __restrict__ bare /* any (n_parts) */,
                             T* __restrict__ partial /* any (n_parts), may be null */) {
    constexpr int width = vector_width<T>, unrolled = PENALIZED ? 1 : 4;
    const T inverse = inverse_scale<T>(loss_scale);
    const T* weights = PENALIZED ? values : nullptr;
    for (long long part = blockIdx.x; part < n_parts; part += gridDim.x) {
        SegmentFinder<T> finder(segments, n_segments);
        T bare_sum = 0, sum = 0;
        visit_part<unrolled>(part, part_size, n, gradients, weights, [&](long long i, const auto& g, const auto& w) {
            #pragma unroll
            for (int k = 0; k < width; ++k) bare_sum += (g[k] * inverse) * (g[k] * inverse);
            if constexpr (PENALIZED) {
                visit_segments<width>(finder, i, [&](int k) {
                    const T whole = penalized(g[k] * inverse, w[k], finder.segment);
                    sum += whole * whole;
                });
            }
        });
        bare_sum = block_sum(bare_sum);
        if constexpr (PENALIZED) sum = block_sum(sum);
        if (threadIdx.x == 0) {
            bare[part] = bare_sum;
            if (PENALIZED) partial[part] = sum;
        }
    }
}

// launched with one block
// instances: T in float, double
template <typename T>
__global__ void clip_scale(long long n_parts, double max_norm, const T* __restrict__ partial /* any (n_parts) */,
                           double* __restrict__ scale /* any (1) */) {
    if (blockIdx.x != 0) return;
    const double norm = sqrt(sum_of_parts(n_parts, partial));
    if (threadIdx.x == 0) *scale = clip_ratio(max_norm, norm);
}
