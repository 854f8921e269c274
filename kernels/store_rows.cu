// out[cursor + j] = rows[j]: the results of a batch into an array for all samples. A thread per one or two vectors.
//
// The cursor lives in device memory, so that a replayed graph stores each batch in its own place. Rows that would fall
// outside of `out` are not stored.
#include "common.cuh"
#include "scaled.cuh"
#include "vector.cuh"

// instances: T in float, double, __half, __nv_bfloat16; U in float, double
// instances: T in long long; U in long long
template <typename T, typename U>
__global__ void store_rows(long long batch, long long n_columns, long long n_samples,
                           const long long* __restrict__ cursor /* any (1) */,
                           const T* __restrict__ rows /* C (batch, n_columns) */,
                           U* __restrict__ out /* C (n_samples, n_columns) */) {
    const long long begin = *cursor;  // the row of out that rows[0] belongs at
    const long long first = begin < 0 ? -begin : 0, end = n_samples - begin < batch ? n_samples - begin : batch;
    if (first >= end) return;
    const T* source = rows + first * n_columns;
    U* target = out + (begin + first) * n_columns;
    constexpr int width = vector_width<T, U>;
    for_each_place<width>((end - first) * n_columns, is_aligned<width>(source, target), [&](auto place) {
        const auto from = place.load(source);
        Vector<U, place.size> to;
        #pragma unroll
        for (int k = 0; k < place.size; ++k) to[k] = converted<U>(from[k]);
        place.store(target, to);
    });
}
