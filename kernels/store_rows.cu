// out[cursor + j] = rows[j]: the results of a batch into an array for all samples. One thread per element.
//
// The cursor lives in device memory, so that a replayed graph stores each batch in its own place. Rows that would fall
// outside of `out` are not stored.
#include "common.cuh"

// instances: T in float, double; U in float, double
// instances: T in __half, __nv_bfloat16; U in float
// instances: T in long long; U in long long
template <typename T, typename U>
__global__ void store_rows(long long batch, long long n_columns, long long n_samples,
                           const long long* __restrict__ cursor /* any (1) */,
                           const T* __restrict__ rows /* C (batch, n_columns) */,
                           U* __restrict__ out /* C (n_samples, n_columns) */) {
    const long long begin = *cursor * n_columns;
    for (long long i = first_index(); i < batch * n_columns; i += index_stride()) {
        const long long target = begin + i;
        if (target >= 0 && target < n_samples * n_columns) out[target] = static_cast<U>(rows[i]);
    }
}
