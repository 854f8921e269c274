// The numbers that a training step keeps on the device: whether it failed or is skipped, the norm that gradients are clipped
// by, how many steps are done, the loss scale, sums and counters.
//
// A step's health is two sums, Σ losses and Σ g²: they are not finite as soon as any loss or gradient is not. The pass over
// the gradients that gives the squares gives their norm as well.
// Sources: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1 (clipping
// by the norm of all gradients together); Micikevicius et al. (2018), "Mixed precision training", section 3.2 (loss scale).
#include "common.cuh"
#include "flat_parameters.cuh"

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }  // ∞ − ∞ is NaN

// min(1, c/(‖g‖ + 10⁻⁶)). A norm that is NaN scales nothing: the step fails or is skipped.
__device__ __forceinline__ double clip_ratio(double max_norm, double norm) {
    const double ratio = max_norm / (norm + 1e-6);
    return ratio < 1 ? ratio : 1.0;
}

// With g the gradient divided by the loss scale, bare = Σ g² and penalized = Σ (g + 2λ₂w + λ₁ sign(w))², or the same where
// not PENALIZED: a block per part of the buffer, and the last one adds the parts' sums in double. It alone goes on:
//     clip_scale ← min(1, max_norm/(√penalized + 10⁻⁶));  total += Σ losses;
//     failed_step ← step, once, if Σ losses or bare is not finite; but where the loss scale is above `smallest`, squares
//     that are not finite only set skip ← step, which is −1 in any other step.
// A null failed_step leaves out the last of these.
// instances: T in float, double; PENALIZED in false, true
template <typename T, bool PENALIZED>
__global__ void check_finite(long long n, long long part_size, long long n_parts, long long n_segments, long long batch,
                             double max_norm, double smallest,
                             const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                             const double* __restrict__ loss_scale /* any (1), may be null */,
                             const long long* __restrict__ step /* any (1) */,
                             const T* __restrict__ losses /* any (batch), may be null */,
                             const T* __restrict__ values /* any (n) */, const T* __restrict__ gradients /* any (n) */,
                             T* __restrict__ bare /* any (n_parts) */,
                             T* __restrict__ penalized_parts /* any (n_parts), may be null */,
                             unsigned int* __restrict__ arrived /* any (1) */,
                             long long* __restrict__ failed_step /* any (1), may be null */,
                             long long* __restrict__ skip /* any (1), may be null */,
                             double* __restrict__ clip_scale /* any (1), may be null */,
                             double* __restrict__ total /* any (1), may be null */) {
    constexpr int width = vector_width<T>, at_once = PENALIZED ? 1 : 4;
    const T inverse = inverse_scale<T>(loss_scale);
    const T* weights = PENALIZED ? values : nullptr;
    for (long long part = blockIdx.x; part < n_parts; part += gridDim.x) {
        SegmentFinder<T> finder(segments, n_segments);
        T bare_sum = 0, sum = 0;
        visit_part<at_once>(part, part_size, n, gradients, weights, [&](long long i, const auto& g, const auto& w) {
            #pragma unroll
            for (int k = 0; k < width; ++k) {
                const T unscaled = g[k] * inverse;
                bare_sum = multiply_add(unscaled, unscaled, bare_sum);
            }
            if constexpr (PENALIZED) {
                visit_segments(finder, Place<width, 1>{i, 0}, [&](int k) {
                    const T whole = penalized(multiply_rounded(g[k], inverse), w[k], finder.segment);
                    sum = multiply_add(whole, whole, sum);
                });
            }
        });
        bare_sum = block_sum(bare_sum);
        if constexpr (PENALIZED) sum = block_sum(sum);
        if (threadIdx.x == 0) {
            bare[part] = bare_sum;
            if (PENALIZED) penalized_parts[part] = sum;
        }
    }

    if (!is_last_block(arrived)) return;
    double loss = thread_sum(losses != nullptr ? batch : 0, losses), square = thread_sum_of_parts(n_parts, bare);
    double whole = PENALIZED ? thread_sum_of_parts(n_parts, penalized_parts) : 0;
    loss = block_sum(loss);
    square = block_sum(square);
    whole = PENALIZED ? block_sum(whole) : square;
    if (threadIdx.x != 0) return;
    if (clip_scale != nullptr) *clip_scale = clip_ratio(max_norm, sqrt(whole));
    if (total != nullptr) *total += loss;
    if (failed_step == nullptr || *failed_step >= 0) return;
    const bool can_skip = loss_scale != nullptr && *loss_scale > smallest;
    const bool skips = is_finite(loss) && !is_finite(square) && can_skip;
    if (!skips && !is_finite(loss + square)) *failed_step = *step;
    if (skip != nullptr) *skip = skips ? *step : -1;
}

// step ← step + 1, unless a step has failed; and each counter += its number. With a loss scale, a skipped step does not
// count and halves the scale, and after `growth_interval` others in a row it doubles.
__global__ void finish_step(long long growth_interval, double smallest, double largest, long long by0, long long by1,
                            long long by2, long long by3, const long long* __restrict__ failed_step /* any (1) */,
                            const long long* __restrict__ skip /* any (1), may be null */,
                            long long* __restrict__ step /* any (1) */,
                            double* __restrict__ loss_scale /* any (1), may be null */,
                            long long* __restrict__ good_steps /* any (1), may be null */,
                            long long* __restrict__ skipped /* any (1), may be null */,
                            long long* __restrict__ counter0 /* any (1), may be null */,
                            long long* __restrict__ counter1 /* any (1), may be null */,
                            long long* __restrict__ counter2 /* any (1), may be null */,
                            long long* __restrict__ counter3 /* any (1), may be null */) {
    if (first_index() != 0) return;
    if (counter0 != nullptr) *counter0 += by0;
    if (counter1 != nullptr) *counter1 += by1;
    if (counter2 != nullptr) *counter2 += by2;
    if (counter3 != nullptr) *counter3 += by3;
    if (*failed_step >= 0) return;
    const bool skips = skip != nullptr && *skip >= 0;
    if (!skips) *step += 1;
    if (loss_scale == nullptr) return;
    if (skips) {
        const double half = *loss_scale / 2;
        *loss_scale = half > smallest ? half : smallest;
        *good_steps = 0;
        *skipped += 1;
    } else if (++*good_steps >= growth_interval) {
        const double twice = *loss_scale * 2;
        *loss_scale = twice < largest ? twice : largest;
        *good_steps = 0;
    }
}

// total += Σ x, in double
// instances: T in float, double
template <typename T>
__global__ void accumulate_sum(long long n, const T* __restrict__ x /* any (n) */,
                               double* __restrict__ total /* any (1) */) {
    if (blockIdx.x != 0) return;
    const double sum = block_sum(thread_sum(n, x));
    if (threadIdx.x == 0) *total += sum;
}

// counter += by
__global__ void advance(long long by, long long* __restrict__ counter /* any (1) */) {
    if (first_index() == 0) *counter += by;
}
