// How many elements of an array are NaN or infinite: the check of a data set that is on the device already.
//
// A thread goes over every index_stride()-th element; a block adds up its threads' counts and adds them to the total.
// Integers are added atomically: their sum does not depend on the order.
#include "common.cuh"

// count ← count + the number of i with x_i not finite
// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void count_nonfinite(long long n, const T* __restrict__ x /* any (n) */,
                                long long* __restrict__ count /* any (1) */) {
    long long found = 0;
    for (long long i = first_index(); i < n; i += index_stride()) {
        const Accumulator<T> value = to_accumulator(x[i]);
        found += value - value != 0;  // ∞ − ∞ is NaN
    }
    found = block_sum(found);
    if (threadIdx.x == 0 && found)
        atomicAdd(reinterpret_cast<unsigned long long*>(count), static_cast<unsigned long long>(found));
}
