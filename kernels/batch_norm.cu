// Batch normalization: over the samples of each unit.
//     μ = mean_j x_j, σ² = mean_j (x_j − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β;
//     running ← (1 − momentum)·running + momentum·(μ, σ²·m/(m − 1)), m the batch size;
//     dX = γ/√(σ² + ε) · (dY − (dβ + x̂ dγ)/m), dγ and dβ from affine_gradient.cu.
// Sources: Ioffe & Szegedy (2015), algorithm 1 and section 3; Chan, Golub & LeVeque (1983), "Algorithms for computing
// the sample variance", eq. 1.5a-b: means and squared deviations of parts combine without cancellation.
//
// Statistics in two stages: a block per 32 units and chunk of samples finds the chunk's mean and, with that, its sum of
// squared deviations (unit_tile.cuh); one thread per unit then combines the chunks. All else: one thread per element.
#include "common.cuh"
#include "unit_index.cuh"
#include "unit_tile.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void batch_norm_chunks(long long n, long long batch, long long chunk_size, long long n_chunks,
                                  const T* __restrict__ X /* F (n, batch) */,
                                  Accumulator<T>* __restrict__ chunk_mean /* any (n*n_chunks) */,
                                  Accumulator<T>* __restrict__ chunk_square /* any (n*n_chunks) */) {
    using A = Accumulator<T>;
    for (long long item = blockIdx.x; item < count_unit_tiles(n, n_chunks); item += gridDim.x) {
        const UnitTile tile(item, n, batch, chunk_size);
        A sum = 0;
        for (long long j = tile.first; j < tile.end; j += tile.step) sum += to_accumulator(X[j * n + tile.unit]);
        const A mean = sum_over_warps(sum) / static_cast<A>(tile.end - tile.begin);
        A square = 0;
        for (long long j = tile.first; j < tile.end; j += tile.step) {
            const A deviation = to_accumulator(X[j * n + tile.unit]) - mean;
            square += deviation * deviation;
        }
        square = sum_over_warps(square);
        if (threadIdx.x < TILE_UNITS && tile.unit < n) {
            chunk_mean[tile.chunk * n + tile.unit] = mean;
            chunk_square[tile.chunk * n + tile.unit] = square;
        }
    }
}

// instances: T in float, double
template <typename T>
__global__ void batch_norm_statistics(long long n, long long batch, long long chunk_size, long long n_chunks, T eps,
                                      T momentum, const T* __restrict__ chunk_mean /* any (n*n_chunks) */,
                                      const T* __restrict__ chunk_square /* any (n*n_chunks) */,
                                      T* __restrict__ mean /* any (n) */, T* __restrict__ inv_std /* any (n) */,
                                      T* __restrict__ running_mean /* any (n) */,
                                      T* __restrict__ running_var /* any (n) */) {
    T m = static_cast<T>(batch);
    T unbiased = batch > 1 ? m / (m - 1) : T(1);
    for (long long i = first_index(); i < n; i += index_stride()) {
        T average = chunk_mean[i], square = chunk_square[i];
        for (long long c = 1; c < n_chunks; ++c) {
            T before = static_cast<T>(c * chunk_size);
            T after = static_cast<T>((c + 1) * chunk_size < batch ? (c + 1) * chunk_size : batch);
            T difference = chunk_mean[c * n + i] - average;
            average += difference * ((after - before) / after);
            square += chunk_square[c * n + i] + difference * difference * (before * ((after - before) / after));
        }
        T variance = square / m;
        mean[i] = average;
        inv_std[i] = inverse_root(variance + eps);
        running_mean[i] = (1 - momentum) * running_mean[i] + momentum * average;
        running_var[i] = (1 - momentum) * running_var[i] + momentum * unbiased * variance;
    }
}

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void batch_norm_normalize(long long n, long long batch, const T* __restrict__ X /* F (n, batch) */,
                                     const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                     const Accumulator<T>* __restrict__ beta /* any (n) */,
                                     const Accumulator<T>* __restrict__ mean /* any (n) */,
                                     const Accumulator<T>* __restrict__ inv_std /* any (n) */,
                                     T* __restrict__ x_hat /* F (n, batch) */, T* __restrict__ out /* F (n, batch) */) {
    UnitIndex index(n);
    for (long long i = first_index(); i < n * batch; i += index_stride(), index.advance()) {
        const Accumulator<T> h = (to_accumulator(X[i]) - mean[index.unit]) * inv_std[index.unit];
        x_hat[i] = from_accumulator<T>(h);
        out[i] = from_accumulator<T>(h * gamma[index.unit] + beta[index.unit]);
    }
}

// out may be X
// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void batch_norm_inference(long long n, long long batch, Accumulator<T> eps, const T* X /* F (n, batch) */,
                                     const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                     const Accumulator<T>* __restrict__ beta /* any (n) */,
                                     const Accumulator<T>* __restrict__ running_mean /* any (n) */,
                                     const Accumulator<T>* __restrict__ running_var /* any (n) */,
                                     T* out /* F (n, batch) */) {
    UnitIndex index(n);
    for (long long i = first_index(); i < n * batch; i += index_stride(), index.advance()) {
        const Accumulator<T> scale = gamma[index.unit] * inverse_root(running_var[index.unit] + eps);
        out[i] = from_accumulator<T>((to_accumulator(X[i]) - running_mean[index.unit]) * scale + beta[index.unit]);
    }
}

// dX may be dY
// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void batch_norm_backward(long long n, long long batch, const T* dY /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                    const T* __restrict__ x_hat /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ inv_std /* any (n) */,
                                    const Accumulator<T>* __restrict__ dgamma /* any (n) */,
                                    const Accumulator<T>* __restrict__ dbeta /* any (n) */, T* dX /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_sample = A(1) / static_cast<A>(batch);
    UnitIndex index(n);
    for (long long i = first_index(); i < n * batch; i += index_stride(), index.advance()) {
        const A average = (dbeta[index.unit] + to_accumulator(x_hat[i]) * dgamma[index.unit]) * per_sample;
        dX[i] = from_accumulator<T>(gamma[index.unit] * inv_std[index.unit] * (to_accumulator(dY[i]) - average));
    }
}
