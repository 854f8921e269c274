// Sums over samples, unit by unit, of an (n, batch) F-ordered matrix.
//
// A block takes 32 units and a chunk of consecutive samples: the lanes of a warp hold neighbouring units (so a warp
// reads 32 neighbouring elements), and its warps share out the samples. What a block finds is a partial sum; a second
// kernel adds the chunks' partial sums in order. The chunk depends on the batch only, never on the device or the grid,
// so a sum has the same bits on every GPU and in every run.
#pragma once

#include "common.cuh"

constexpr int TILE_UNITS = 32;

struct UnitTile {
    long long unit;         // of this thread; may lie outside, at n or beyond
    long long chunk;        // number of the chunk
    long long begin, end;   // samples of the chunk
    long long first, step;  // samples of this thread: first, first + step, ... below end

    __device__ UnitTile(long long item, long long n, long long batch, long long chunk_size) {
        long long n_tiles = (n + TILE_UNITS - 1) / TILE_UNITS;
        unit = item % n_tiles * TILE_UNITS + threadIdx.x % 32;
        chunk = item / n_tiles;
        begin = chunk * chunk_size;
        end = begin + chunk_size < batch ? begin + chunk_size : batch;
        first = unit < n ? begin + threadIdx.x / 32 : end;  // a thread outside has nothing to add
        step = blockDim.x / 32;
    }
};

__device__ __forceinline__ long long count_unit_tiles(long long n, long long n_chunks) {
    return (n + TILE_UNITS - 1) / TILE_UNITS * n_chunks;
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
