// Sums over samples, unit by unit, of an (n, batch) F-ordered matrix, in accesses of 16 bytes.
//
// A block takes a tile: a chunk of consecutive samples of the units that eight lanes hold, 16 bytes each, which is 128
// neighbouring bytes of a sample. A warp works on four samples at a time, and a thread on four that are a block's rows
// apart, with all their loads in flight. What a block finds is a partial sum; a second kernel adds the chunks' partial
// sums in order. The chunk depends on the batch only, never on the device or the grid, so a sum has the same bits on
// every GPU and in every run; nor does it depend on whether the elements were read in vectors or, where n or the arrays'
// addresses forbid that, one by one.
//
//     for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
//         const Tile<T> tile(item, n, batch, chunk_size);
//         Vector<Accumulator<T>, tile.width> sum = {};
//         tile.for_each_sample(aligned, [&](auto place) {
//             const auto x = place.load(X);
//             for (int k = 0; k < place.size; ++k) sum[k % tile.width] = add_rounded(sum[k % tile.width], to_accumulator(x[k]));
//         });
//         sum_over_rows(sum);
//         tile.store(sum, partial);
//     }
#pragma once

#include "common.cuh"
#include "vector.cuh"

constexpr int TILE_LANES = 8;

// One thread's units of SAMPLES samples, `step` elements from one sample to the next: as a Place, but where vectors are
// not allowed only the first `count` of a sample's WIDTH units are touched; the others read as 0.
template <int WIDTH, int SAMPLES, bool VECTORS> struct TilePlace {
    static constexpr int width = WIDTH, size = WIDTH * SAMPLES;
    long long first, step;
    int count;

    template <typename T> __device__ __forceinline__ Vector<T, size> load(const T* x) const {
        Vector<T, size> loaded;
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s) {
            if constexpr (VECTORS) {
                const Vector<T, WIDTH> one = load_vector<WIDTH>(x + (first + s * step));
                #pragma unroll
                for (int k = 0; k < WIDTH; ++k) loaded[s * WIDTH + k] = one[k];
            } else {
                #pragma unroll
                for (int k = 0; k < WIDTH; ++k)
                    loaded[s * WIDTH + k] = k < count ? x[first + s * step + k] : from_accumulator<T>(0.0f);
            }
        }
        return loaded;
    }
    template <typename T> __device__ __forceinline__ void store(T* x, const Vector<T, size>& elements) const {
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s) {
            if constexpr (VECTORS) {
                Vector<T, WIDTH> one;
                #pragma unroll
                for (int k = 0; k < WIDTH; ++k) one[k] = elements[s * WIDTH + k];
                store_vector<WIDTH>(x + (first + s * step), one);
            } else {
                #pragma unroll
                for (int k = 0; k < WIDTH; ++k)
                    if (k < count) x[first + s * step + k] = elements[s * WIDTH + k];
            }
        }
    }
};

template <typename T> struct Tile {
    static constexpr int width = vector_width<T>, units = TILE_LANES * width;
    long long n, unit;      // the first of this thread's units; may lie outside, at n or beyond
    long long chunk;        // number of the chunk
    long long begin, end;   // samples of the chunk
    int count;              // units of this thread that lie inside

    __device__ Tile(long long item, long long n_units, long long batch, long long chunk_size) : n(n_units) {
        const long long n_tiles = (n + units - 1) / units;
        unit = item % n_tiles * units + threadIdx.x % TILE_LANES * width;
        chunk = item / n_tiles;
        begin = chunk * chunk_size;
        end = begin + chunk_size < batch ? begin + chunk_size : batch;
        count = static_cast<int>(n <= unit ? 0 : n - unit < width ? n - unit : width);
    }

    // Calls body(place) for this thread's samples of the chunk, in order. `aligned`: every array that body touches may
    // be read in vectors (is_aligned<width>).
    template <int SAMPLES = 4, typename Body> __device__ __forceinline__ void for_each_sample(bool aligned, Body body) const {
        const long long rows = blockDim.x / TILE_LANES;
        long long j = count ? begin + threadIdx.x / TILE_LANES : end;  // a thread outside has nothing to add
        if (aligned && n % width == 0) {
            for (; j + (SAMPLES - 1) * rows < end; j += SAMPLES * rows)
                body(TilePlace<width, SAMPLES, true>{j * n + unit, rows * n, width});
            for (; j < end; j += rows) body(TilePlace<width, 1, true>{j * n + unit, 0, width});
        } else {
            for (; j < end; j += rows) body(TilePlace<width, 1, false>{j * n + unit, 0, count});
        }
    }

    // partial[chunk·n + unit] = sum, by one row of threads.
    template <typename A> __device__ __forceinline__ void store(const Vector<A, width>& sum, A* partial) const {
        if (threadIdx.x >= TILE_LANES) return;
        #pragma unroll
        for (int k = 0; k < width; ++k)
            if (k < count) partial[chunk * n + unit + k] = sum[k];
    }
};

template <typename T> __device__ __forceinline__ long long count_tiles(long long n, long long n_chunks) {
    return (n + Tile<T>::units - 1) / Tile<T>::units * n_chunks;
}

// Adds `sum` over the threads that hold the same units; each of them gets the totals, and the whole block must call it.
template <int WIDTH, typename A> __device__ void sum_over_rows(Vector<A, WIDTH>& sum) {
    __shared__ __align__(16) A of_warp[32][TILE_LANES * WIDTH];
    const int lane = threadIdx.x % 32, column = threadIdx.x % TILE_LANES * WIDTH;
    #pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        #pragma unroll
        for (int offset = TILE_LANES; offset < 32; offset *= 2) sum[k] += __shfl_xor_sync(full_warp, sum[k], offset);
        if (lane < TILE_LANES) of_warp[threadIdx.x / 32][column + k] = sum[k];
    }
    __syncthreads();
    #pragma unroll
    for (int k = 0; k < WIDTH; ++k) sum[k] = of_warp[0][column + k];
    for (int warp = 1; warp < static_cast<int>(blockDim.x / 32); ++warp) {
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) sum[k] += of_warp[warp][column + k];
    }
    __syncthreads();  // the next call overwrites of_warp
}
