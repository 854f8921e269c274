// The gradients of γ and β in out = γ x̂ + β, which batch and layer normalization share:
//     dγ_i = Σ_j dy_ij x̂_ij,    dβ_i = Σ_j dy_ij.
// First stage: a block per 32 units and chunk of samples (unit_tile.cuh) leaves both partial sums; sum_chunks adds
// them up. Where there is one chunk only, the partial sums are the gradients themselves.
#include "common.cuh"
#include "unit_tile.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void affine_gradient(long long n, long long batch, long long chunk_size, long long n_chunks,
                                const T* __restrict__ dY /* F (n, batch) */,
                                const T* __restrict__ x_hat /* F (n, batch) */,
                                Accumulator<T>* __restrict__ partial_dgamma /* any (n*n_chunks) */,
                                Accumulator<T>* __restrict__ partial_dbeta /* any (n*n_chunks) */) {
    for (long long item = blockIdx.x; item < count_unit_tiles(n, n_chunks); item += gridDim.x) {
        UnitTile tile(item, n, batch, chunk_size);
        Accumulator<T> dgamma = 0, dbeta = 0;
        for (long long j = tile.first; j < tile.end; j += tile.step) {
            const Accumulator<T> dy = to_accumulator(dY[j * n + tile.unit]);
            dgamma += dy * to_accumulator(x_hat[j * n + tile.unit]);
            dbeta += dy;
        }
        dgamma = sum_over_warps(dgamma);
        dbeta = sum_over_warps(dbeta);
        if (threadIdx.x < TILE_UNITS && tile.unit < n) {
            partial_dgamma[tile.chunk * n + tile.unit] = dgamma;
            partial_dbeta[tile.chunk * n + tile.unit] = dbeta;
        }
    }
}
