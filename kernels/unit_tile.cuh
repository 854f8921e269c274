// What is left to do unit by unit once the samples of each chunk are summed (vector_tile.cuh): a block takes 32 units, one
// in each lane, and its warps share out the chunks. The order of a sum depends on the number of warps alone, so it has the
// same bits on every GPU and in every run.
#pragma once

#include "common.cuh"

constexpr int TILE_UNITS = 32;

__device__ __forceinline__ long long count_unit_tiles(long long n) {
    return (n + TILE_UNITS - 1) / TILE_UNITS;
}

// Adds `value` over the block's warps, lane by lane; every thread gets its lane's sum, and all of them must call it.
template <typename A> __device__ A sum_over_warps(A value) {
    __shared__ A of_warp[32][TILE_UNITS];
    of_warp[threadIdx.x / 32][threadIdx.x % 32] = value;
    __syncthreads();
    A sum = of_warp[0][threadIdx.x % 32];
    for (int warp = 1; warp < static_cast<int>(blockDim.x / 32); ++warp) sum += of_warp[warp][threadIdx.x % 32];
    __syncthreads();  // the next call overwrites of_warp
    return sum;
}
