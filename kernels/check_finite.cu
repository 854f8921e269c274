// The numbers that a training step keeps on the device: whether it failed, how many steps are done, sums and counters.
//
// A step's health is one number, Σ losses + Σ g²: it is not finite as soon as any loss or gradient is not. The squares'
// partial sums come from gradient_clip.cu's square_parts without segments. All kernels here are launched with one block.
#include "common.cuh"
#include "flat_parameters.cuh"

// failed_step ← step, once, if Σ losses + Σ partial is not finite
// instances: T in float, double
template <typename T>
__global__ void check_finite(long long batch, long long n_parts, const T* __restrict__ losses /* any (batch) */,
                             const T* __restrict__ partial /* any (n_parts) */,
                             const long long* __restrict__ step /* any (1) */,
                             long long* __restrict__ failed_step /* any (1) */) {
    if (blockIdx.x != 0) return;
    T sum = 0;
    for (long long j = threadIdx.x; j < batch; j += blockDim.x) sum += losses[j];
    double health = block_sum(static_cast<double>(sum)) + sum_of_parts(n_parts, partial);
    if (threadIdx.x == 0 && *failed_step < 0 && health - health != 0) *failed_step = *step;  // ∞ − ∞ is NaN
}

// step ← step + 1, unless a step has failed
__global__ void finish_step(const long long* __restrict__ failed_step /* any (1) */,
                            long long* __restrict__ step /* any (1) */) {
    if (first_index() == 0 && *failed_step < 0) *step += 1;
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
