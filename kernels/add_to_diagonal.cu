// X_gii ← X_gii + value for `groups` square matrices of n rows, one behind the other. A thread per element of a diagonal.
#include "common.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void add_to_diagonal(long long groups, long long n, Accumulator<T> value, T* __restrict__ X /* any (groups*n*n) */) {
    for (long long i = first_index(); i < groups * n; i += index_stride()) {
        T& x = X[i * n + i % n];
        x = from_accumulator<T>(to_accumulator(x) + value);
    }
}
