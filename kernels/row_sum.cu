// Sums over the batch, unit by unit: out_i = Σ_j X_ij, for X (n, batch) F-ordered. db = dZ·1 is one.
//
// A block per 32 units and chunk of samples (unit_tile.cuh). With one chunk, O = T and out is the result; with several,
// O is the accumulator type, out holds partial sums and sum_chunks (sum_chunks.cu) adds them up in order.
#include "common.cuh"
#include "unit_tile.cuh"

// instances: T in float, __half, __nv_bfloat16; O in float
// instances: T in double; O in double
// instances: T in __half; O in __half
// instances: T in __nv_bfloat16; O in __nv_bfloat16
template <typename T, typename O>
__global__ void row_sum(long long n, long long batch, long long chunk_size, long long n_chunks,
                        const T* __restrict__ X /* F (n, batch) */, O* __restrict__ out /* any (n*n_chunks) */) {
    for (long long item = blockIdx.x; item < count_unit_tiles(n, n_chunks); item += gridDim.x) {
        const UnitTile tile(item, n, batch, chunk_size);
        Accumulator<T> sum = 0;
        for (long long j = tile.first; j < tile.end; j += tile.step) sum += to_accumulator(X[j * n + tile.unit]);
        sum = sum_over_warps(sum);
        if (threadIdx.x < TILE_UNITS && tile.unit < n) out[tile.chunk * n + tile.unit] = from_accumulator<O>(sum);
    }
}
