// out_i = Σ_c partial_ic, in the order of the chunks: the second stage of every sum over samples (unit_tile.cuh).
//
// One thread per unit; there are at most a few hundred chunks, and neighbouring threads read neighbouring elements.
#include "common.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void sum_chunks(long long n, long long n_chunks,
                           const Accumulator<T>* __restrict__ partial /* any (n*n_chunks) */,
                           T* __restrict__ out /* any (n) */) {
    for (long long i = first_index(); i < n; i += index_stride()) {
        Accumulator<T> sum = 0;
        for (long long c = 0; c < n_chunks; ++c) sum += partial[c * n + i];
        out[i] = from_accumulator<T>(sum);
    }
}
