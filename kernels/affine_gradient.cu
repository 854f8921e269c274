// The gradients of γ and β in out = γ x̂ + β, which batch and layer normalization share:
//     dγ_i = Σ_j dy_ij x̂_ij,    dβ_i = Σ_j dy_ij.
// First stage: a block per tile of units and samples (vector_tile.cuh) leaves both partial sums; the second adds them up,
// chunk by chunk in order. Where there is one chunk only, the partial sums are the gradients themselves.
#include "common.cuh"
#include "unit_tile.cuh"
#include "vector_tile.cuh"

// instances: T in float, double, __half, __nv_bfloat16
// block: at most 512
template <typename T>
__global__ void affine_gradient(long long n, long long batch, long long chunk_size, long long n_chunks,
                                const T* __restrict__ dY /* F (n, batch) */,
                                const T* __restrict__ x_hat /* F (n, batch) */,
                                Accumulator<T>* __restrict__ partial_dgamma /* any (n*n_chunks) */,
                                Accumulator<T>* __restrict__ partial_dbeta /* any (n*n_chunks) */) {
    constexpr int width = Tile<T>::width;
    const bool aligned = is_aligned<width>(dY, x_hat);
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        Vector<Accumulator<T>, width> dgamma = {}, dbeta = {};
        tile.template for_each_sample<2>(aligned, [&](auto place) {
            const auto dy = place.load(dY);
            const auto h = place.load(x_hat);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                dgamma[k % width] =
                    multiply_add(to_accumulator(dy[k]), to_accumulator(h[k]), dgamma[k % width]);
                dbeta[k % width] += to_accumulator(dy[k]);
            }
        });
        sum_over_rows(dgamma);
        sum_over_rows(dbeta);
        tile.store(dgamma, partial_dgamma);
        tile.store(dbeta, partial_dbeta);
    }
}

// A block per 32 units: each warp adds up every so many-th chunk in order, then the warps' sums are added in order.
// instances: A in float, double
template <typename A>
__global__ void affine_gradient_sum(long long n, long long n_chunks,
                                    const A* __restrict__ partial_dgamma /* any (n*n_chunks) */,
                                    const A* __restrict__ partial_dbeta /* any (n*n_chunks) */,
                                    A* __restrict__ dgamma /* any (n) */, A* __restrict__ dbeta /* any (n) */) {
    for (long long tile = blockIdx.x; tile < count_unit_tiles(n); tile += gridDim.x) {
        const long long unit = tile * TILE_UNITS + threadIdx.x % 32;
        A gamma_sum = 0, beta_sum = 0;
        if (unit < n) {
            #pragma unroll 4
            for (long long c = threadIdx.x / 32; c < n_chunks; c += blockDim.x / 32) {
                gamma_sum += partial_dgamma[c * n + unit];
                beta_sum += partial_dbeta[c * n + unit];
            }
        }
        gamma_sum = sum_over_warps(gamma_sum);
        beta_sum = sum_over_warps(beta_sum);
        if (threadIdx.x < TILE_UNITS && unit < n) {
            dgamma[unit] = gamma_sum;
            dbeta[unit] = beta_sum;
        }
    }
}
