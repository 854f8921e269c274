// out_i = Σ_c partial_ic: the second stage of every sum over samples (vector_tile.cuh).
//
// A block per 32 units: each warp adds up every so many-th chunk in order, then the warps' sums are added in order.
#include "common.cuh"
#include "unit_tile.cuh"

// instances: T in float, double
template <typename T>
__global__ void sum_chunks(long long n, long long n_chunks, const T* __restrict__ partial /* any (n*n_chunks) */,
                           T* __restrict__ out /* any (n) */) {
    const int n_warps = static_cast<int>(blockDim.x / 32);
    for (long long tile = blockIdx.x; tile < count_unit_tiles(n); tile += gridDim.x) {
        const long long unit = tile * TILE_UNITS + threadIdx.x % 32;
        T sum = 0;
        if (unit < n) {
            #pragma unroll 8
            for (long long c = threadIdx.x / 32; c < n_chunks; c += n_warps) sum += partial[c * n + unit];
        }
        sum = sum_over_warps(sum);
        if (threadIdx.x < TILE_UNITS && unit < n) out[unit] = sum;
    }
}
