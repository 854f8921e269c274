// The numbers that a training step keeps on the device: whether it failed or is skipped, how many steps are done, the loss
// scale, sums and counters.
//
// A step's health is two sums, Σ losses and Σ g²: they are not finite as soon as any loss or gradient is not. The squares'
// partial sums come from gradient_clip.cu's square_parts. All kernels here are launched with one block.
// Source of the loss scaling: Micikevicius et al. (2018), "Mixed precision training", section 3.2.
#include "common.cuh"
#include "flat_parameters.cuh"

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }  // ∞ − ∞ is NaN

// failed_step ← step, once, if Σ losses or Σ bare is not finite; but with a loss scale above `smallest` squares that are not
// finite only set skip ← step, which is −1 in any other step. clip_scale ← min(1, max_norm/(√Σ partial + 10⁻⁶)). total +=
// Σ losses.
// instances: T in float, double
template <typename T>
__global__ void check_finite(long long batch, long long n_parts, double max_norm, double smallest,
                             const T* __restrict__ losses /* any (batch) */, const T* __restrict__ bare /* any (n_parts) */,
                             const T* __restrict__ partial /* any (n_parts), may be null */,
                             const long long* __restrict__ step /* any (1) */,
                             const double* __restrict__ loss_scale /* any (1), may be null */,
                             long long* __restrict__ failed_step /* any (1) */,
                             long long* __restrict__ skip /* any (1), may be null */,
                             double* __restrict__ clip_scale /* any (1), may be null */,
                             double* __restrict__ total /* any (1), may be null */) {
    if (blockIdx.x != 0) return;
    const double loss = sum_of_parts(batch, losses), square = sum_of_parts(n_parts, bare);
    const double clipped = partial != nullptr ? sum_of_parts(n_parts, partial) : square;
    if (threadIdx.x != 0) return;
    if (total != nullptr) *total += loss;
    if (clip_scale != nullptr) *clip_scale = clip_ratio(max_norm, sqrt(clipped));
    if (*failed_step >= 0) return;
    const bool can_skip = loss_scale != nullptr && *loss_scale > smallest;
    if (!is_finite(loss) || (!is_finite(square) && !can_skip)) *failed_step = *step;
    if (skip != nullptr) *skip = is_finite(loss) && !is_finite(square) && can_skip ? *step : -1;
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
    double sum = sum_of_parts(n, x);
    if (threadIdx.x == 0) *total += sum;
}

// counter += by
__global__ void advance(long long by, long long* __restrict__ counter /* any (1) */) {
    if (first_index() == 0) *counter += by;
}
