// Batch normalization: over the samples of each unit.
//     μ = mean_j x_j, σ² = mean_j (x_j − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β;
//     running ← (1 − momentum)·running + momentum·(μ, σ²·m/(m − 1)), m the batch size;
//     dβ = Σ_j dy_j, dγ = Σ_j dy_j x̂_j, dX = γ/√(σ² + ε) · (dY − (dβ + x̂ dγ)/m).
// Sources: Ioffe & Szegedy (2015), algorithm 1 and section 3; moments.cuh for the variance.
//
// All work in tiles of 128 neighbouring bytes of several samples (vector_tile.cuh), so that what belongs to a unit is read
// once per thread. A batch of up to 256 samples is held in registers by one block per tile: the kernels `_held` read X,
// or dY and x̂, once and are one launch each. Of a larger batch, a block per tile and chunk of samples finds the chunk's
// moments, a block per 32 units combines the chunks, and a second pass normalizes; backward likewise, with the sums of
// affine_gradient.cu.
#include "common.cuh"
#include "moments.cuh"
#include "unit_tile.cuh"
#include "vector_tile.cuh"

// ---- the units of a tile --------------------------------------------------------------------------------------------

// per_unit[i] for the thread's units i, and 0 for those outside.
template <typename T, typename A>
__device__ __forceinline__ Vector<A, Tile<T>::width> load_units(const Tile<T>& tile, const A* per_unit) {
    Vector<A, Tile<T>::width> values;
    #pragma unroll
    for (int k = 0; k < Tile<T>::width; ++k) values[k] = k < tile.count ? per_unit[tile.unit + k] : A(0);
    return values;
}

// Writes 1/√(σ² + ε) of one unit and moves its running statistics.
template <typename A>
__device__ __forceinline__ void write_statistics(long long unit, A m, A eps, A momentum, A mean, A square, A* inv_std,
                                                 A* running_mean, A* running_var) {
    const A variance = square / m;
    inv_std[unit] = inverse_root(variance + eps);
    running_mean[unit] = multiply_add(1 - momentum, running_mean[unit], multiply_rounded(momentum, mean));
    const A unbiased = (m > 1 ? m / (m - 1) : A(1)) * variance;
    running_var[unit] = multiply_add(1 - momentum, running_var[unit], multiply_rounded(momentum, unbiased));
}

// ---- a batch that is held in registers -------------------------------------------------------------------------------

// The SAMPLES vectors of x that a thread of a block holds of a tile that is the whole batch.
template <typename T, int SAMPLES, bool VECTORS> struct HeldBatch {
    static constexpr int width = Tile<T>::width;
    const Tile<T>& tile;

    __device__ __forceinline__ long long sample(int s) const {
        return threadIdx.x / TILE_LANES + static_cast<long long>(s) * (blockDim.x / TILE_LANES);
    }
    __device__ __forceinline__ bool has(int s) const { return tile.count > 0 && sample(s) < tile.end; }
    __device__ __forceinline__ TilePlace<width, 1, VECTORS> place(int s) const {
        return {sample(s) * tile.n + tile.unit, 0, tile.count};
    }
    // Zeros where there is no sample.
    __device__ __forceinline__ void load(const T* x, Vector<T, width> (&held)[SAMPLES]) const {
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s) {
            held[s] = Vector<T, width>{};
            if (has(s)) held[s] = place(s).load(x);
        }
    }
};

// Calls body(held_batch) for each tile of the calling block.
template <typename T, int SAMPLES, bool VECTORS, typename Body>
__device__ __forceinline__ void for_each_held_tile(long long n, long long batch, Body body) {
    for (long long item = blockIdx.x; item < count_tiles<T>(n, 1); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, batch);
        body(HeldBatch<T, SAMPLES, VECTORS>{tile});
    }
}
template <typename T, int SAMPLES, typename Body>
__device__ __forceinline__ void for_each_held_tile(long long n, long long batch, bool aligned, Body body) {
    if (aligned && n % Tile<T>::width == 0) for_each_held_tile<T, SAMPLES, true>(n, batch, body);
    else for_each_held_tile<T, SAMPLES, false>(n, batch, body);
}

// at most 32·SAMPLES samples
// instances: T in float, double, __half, __nv_bfloat16; SAMPLES in 2, 4, 8
// block: 256
template <typename T, int SAMPLES>
__global__ void batch_norm_forward_held(long long n, long long batch, Accumulator<T> eps, Accumulator<T> momentum,
                                        const T* __restrict__ X /* F (n, batch) */,
                                        const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                        const Accumulator<T>* __restrict__ beta /* any (n) */,
                                        Accumulator<T>* __restrict__ inv_std /* any (n) */,
                                        Accumulator<T>* __restrict__ running_mean /* any (n) */,
                                        Accumulator<T>* __restrict__ running_var /* any (n) */,
                                        T* __restrict__ x_hat /* F (n, batch) */, T* __restrict__ out /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    const A m = static_cast<A>(batch);
    for_each_held_tile<T, SAMPLES>(n, batch, is_aligned<width>(X, x_hat, out), [&](auto held) {
        Vector<T, width> x[SAMPLES];
        held.load(X, x);
        const auto g = load_units(held.tile, gamma), b = load_units(held.tile, beta);
        Vector<A, width> mean = {}, square = {};
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s)
            #pragma unroll
            for (int k = 0; k < width; ++k) mean[k] += to_accumulator(x[s][k]);
        sum_over_rows(mean);
        #pragma unroll
        for (int k = 0; k < width; ++k) mean[k] /= m;
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s)
            if (held.has(s)) {
                #pragma unroll
                for (int k = 0; k < width; ++k) {
                    const A deviation = to_accumulator(x[s][k]) - mean[k];
                    square[k] = multiply_add(deviation, deviation, square[k]);
                }
            }
        sum_over_rows(square);
        Vector<A, width> factor = {};
        #pragma unroll
        for (int k = 0; k < width; ++k) factor[k] = inverse_root(square[k] / m + eps);
        if (threadIdx.x < TILE_LANES) {
            #pragma unroll
            for (int k = 0; k < width; ++k)
                if (k < held.tile.count)
                    write_statistics(held.tile.unit + k, m, eps, momentum, mean[k], square[k], inv_std, running_mean,
                                     running_var);
        }
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s)
            if (held.has(s)) {
                Vector<T, width> y;
                #pragma unroll
                for (int k = 0; k < width; ++k) {
                    const A h = (to_accumulator(x[s][k]) - mean[k]) * factor[k];
                    x[s][k] = from_accumulator<T>(h);
                    y[k] = from_accumulator<T>(multiply_add(h, g[k], b[k]));
                }
                held.place(s).store(x_hat, x[s]);
                held.place(s).store(out, y);
            }
    });
}

// at most 32·SAMPLES samples; dX may be dY
// instances: T in float, double, __half, __nv_bfloat16; SAMPLES in 2, 4, 8
// block: 256
template <typename T, int SAMPLES>
__global__ void batch_norm_backward_held(long long n, long long batch, const T* dY /* F (n, batch) */,
                                         const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                         const T* __restrict__ x_hat /* F (n, batch) */,
                                         const Accumulator<T>* __restrict__ inv_std /* any (n) */,
                                         Accumulator<T>* __restrict__ dgamma /* any (n) */,
                                         Accumulator<T>* __restrict__ dbeta /* any (n) */, T* dX /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    const A per_sample = A(1) / static_cast<A>(batch);
    for_each_held_tile<T, SAMPLES>(n, batch, is_aligned<width>(dY, x_hat, dX), [&](auto held) {
        const Tile<T>& tile = held.tile;
        Vector<T, width> dy[SAMPLES], h[SAMPLES];
        held.load(dY, dy);
        held.load(x_hat, h);
        const auto g = load_units(tile, gamma), s_inv = load_units(tile, inv_std);
        Vector<A, width> slope = {}, offset = {};
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s)
            #pragma unroll
            for (int k = 0; k < width; ++k) {
                slope[k] = multiply_add(to_accumulator(dy[s][k]), to_accumulator(h[s][k]), slope[k]);
                offset[k] += to_accumulator(dy[s][k]);
            }
        sum_over_rows(slope);
        sum_over_rows(offset);
        tile.store(slope, dgamma);
        tile.store(offset, dbeta);
        #pragma unroll
        for (int s = 0; s < SAMPLES; ++s)
            if (held.has(s)) {
                #pragma unroll
                for (int k = 0; k < width; ++k) {
                    const A total = multiply_add(to_accumulator(h[s][k]), slope[k], offset[k]);
                    const A centred = multiply_add(-total, per_sample, to_accumulator(dy[s][k]));
                    dy[s][k] = from_accumulator<T>(g[k] * s_inv[k] * centred);
                }
                held.place(s).store(dX, dy[s]);
            }
    });
}

// ---- a batch in chunks ----------------------------------------------------------------------------------------------

// instances: T in float, double, __half, __nv_bfloat16
// block: at most 512
template <typename T>
__global__ void batch_norm_chunks(long long n, long long batch, long long chunk_size, long long n_chunks,
                                  const T* __restrict__ X /* F (n, batch) */,
                                  Accumulator<T>* __restrict__ chunk_mean /* any (n*n_chunks) */,
                                  Accumulator<T>* __restrict__ chunk_square /* any (n*n_chunks) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        UnitMoments<A, width> moments;
        tile.template for_each_sample<2>(is_aligned<width>(X), [&](auto place) { moments.add(place.load(X)); });
        const A samples = static_cast<A>(tile.end - tile.begin);
        Vector<A, width> mean, square;
        #pragma unroll
        for (int k = 0; k < width; ++k) mean[k] = multiply_rounded(moments.mean[k], moments.count / samples);
        sum_over_rows(mean);
        #pragma unroll
        for (int k = 0; k < width; ++k) {
            const A difference = moments.mean[k] - mean[k];
            square[k] = multiply_add(difference * difference, moments.count, moments.square[k]);
        }
        sum_over_rows(square);
        tile.store(mean, chunk_mean);
        tile.store(square, chunk_square);
    }
}

// The mean of all chunks first, then the deviations from it: a block per 32 units, its warps share out the chunks.
// instances: A in float, double
// block: at most 512
template <typename A>
__global__ void batch_norm_statistics(long long n, long long batch, long long chunk_size, long long n_chunks, A eps,
                                      A momentum, const A* __restrict__ chunk_mean /* any (n*n_chunks) */,
                                      const A* __restrict__ chunk_square /* any (n*n_chunks) */,
                                      A* __restrict__ mean /* any (n) */, A* __restrict__ inv_std /* any (n) */,
                                      A* __restrict__ running_mean /* any (n) */,
                                      A* __restrict__ running_var /* any (n) */) {
    const A m = static_cast<A>(batch);
    const auto size_of = [&](long long c) {
        return static_cast<A>((c + 1) * chunk_size < batch ? chunk_size : batch - c * chunk_size);
    };
    for (long long tile = blockIdx.x; tile < count_unit_tiles(n); tile += gridDim.x) {
        const long long unit = tile * TILE_UNITS + threadIdx.x % 32, end = unit < n ? n_chunks : 0;
        const long long first = threadIdx.x / 32, step = blockDim.x / 32;
        A average = 0, square = 0;
        #pragma unroll 4
        for (long long c = first; c < end; c += step) average = multiply_add(chunk_mean[c * n + unit], size_of(c) / m, average);
        average = sum_over_warps(average);
        #pragma unroll 4
        for (long long c = first; c < end; c += step) {
            const A difference = chunk_mean[c * n + unit] - average;
            square += multiply_add(difference * difference, size_of(c), chunk_square[c * n + unit]);
        }
        square = sum_over_warps(square);
        if (threadIdx.x < TILE_UNITS && unit < n) {
            mean[unit] = average;
            write_statistics(unit, m, eps, momentum, average, square, inv_std, running_mean, running_var);
        }
    }
}

// instances: T in float, double, __half, __nv_bfloat16
// block: at most 512
template <typename T>
__global__ void batch_norm_normalize(long long n, long long batch, long long chunk_size, long long n_chunks,
                                     const T* __restrict__ X /* F (n, batch) */,
                                     const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                     const Accumulator<T>* __restrict__ beta /* any (n) */,
                                     const Accumulator<T>* __restrict__ mean /* any (n) */,
                                     const Accumulator<T>* __restrict__ inv_std /* any (n) */,
                                     T* __restrict__ x_hat /* F (n, batch) */, T* __restrict__ out /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    const bool aligned = is_aligned<width>(X, x_hat, out);
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        const auto g = load_units(tile, gamma), b = load_units(tile, beta);
        const auto average = load_units(tile, mean), factor = load_units(tile, inv_std);
        tile.for_each_sample(aligned, [&](auto place) {
            auto h = place.load(X), y = h;
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const A normal = (to_accumulator(h[k]) - average[k % width]) * factor[k % width];
                h[k] = from_accumulator<T>(normal);
                y[k] = from_accumulator<T>(multiply_add(normal, g[k % width], b[k % width]));
            }
            place.store(x_hat, h);
            place.store(out, y);
        });
    }
}

// out = γ (x − running mean)/√(running variance + ε) + β; out may be X
// instances: T in float, double, __half, __nv_bfloat16
// block: at most 512
template <typename T>
__global__ void batch_norm_inference(long long n, long long batch, long long chunk_size, long long n_chunks,
                                     Accumulator<T> eps, const T* X /* F (n, batch) */,
                                     const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                     const Accumulator<T>* __restrict__ beta /* any (n) */,
                                     const Accumulator<T>* __restrict__ running_mean /* any (n) */,
                                     const Accumulator<T>* __restrict__ running_var /* any (n) */,
                                     T* out /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    const bool aligned = is_aligned<width>(X, out);
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        const auto g = load_units(tile, gamma), b = load_units(tile, beta);
        const auto mean = load_units(tile, running_mean), variance = load_units(tile, running_var);
        Vector<A, width> scale;
        #pragma unroll
        for (int k = 0; k < width; ++k) scale[k] = g[k] * inverse_root(variance[k] + eps);
        tile.for_each_sample(aligned, [&](auto place) {
            auto x = place.load(X);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const A centred = to_accumulator(x[k]) - mean[k % width];
                x[k] = from_accumulator<T>(multiply_add(centred, scale[k % width], b[k % width]));
            }
            place.store(out, x);
        });
    }
}

// dX may be dY; dγ and dβ are affine_gradient.cu's
// instances: T in float, double, __half, __nv_bfloat16
// block: at most 512
template <typename T>
__global__ void batch_norm_backward(long long n, long long batch, long long chunk_size, long long n_chunks,
                                    const T* dY /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                    const T* __restrict__ x_hat /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ inv_std /* any (n) */,
                                    const Accumulator<T>* __restrict__ dgamma /* any (n) */,
                                    const Accumulator<T>* __restrict__ dbeta /* any (n) */, T* dX /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    const A per_sample = A(1) / static_cast<A>(batch);
    const bool aligned = is_aligned<width>(dY, x_hat, dX);
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        const auto g = load_units(tile, gamma), factor = load_units(tile, inv_std);
        const auto slope = load_units(tile, dgamma), offset = load_units(tile, dbeta);
        tile.template for_each_sample<2>(aligned, [&](auto place) {
            auto dy = place.load(dY);
            const auto h = place.load(x_hat);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const int u = k % width;
                const A total = multiply_add(to_accumulator(h[k]), slope[u], offset[u]);
                const A centred = multiply_add(-total, per_sample, to_accumulator(dy[k]));
                dy[k] = from_accumulator<T>(g[u] * factor[u] * centred);
            }
            place.store(dX, dy);
        });
    }
}
