// dZ = dA ⊙ f′ and, in the same pass, db_i = Σ_j dZ_ij.
//
// `saved` is A = f(Z) for the activations whose derivative is computed from the output, else Z (activation.cuh).
// The kernel without a bias gradient runs a thread per one or two vectors (vector.cuh). The one with it runs a block per
// tile of units and samples (vector_tile.cuh) and leaves one sum per unit and chunk: with one chunk that is db, with
// several sum_chunks adds them up in order. The sums are of dZ before it is rounded to T.
#include "activation.cuh"
#include "common.cuh"
#include "vector.cuh"
#include "vector_tile.cuh"

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Activation
// block: at most 256
template <typename T, Activation KIND>
__global__ void activation_backward(long long n, long long batch, Accumulator<T> alpha, const T* dA /* F (n, batch) */,
                                    const T* saved /* F (n, batch) */, T* dZ /* F (n, batch) */) {
    constexpr int width = vector_width<T>;
    for_each_place<width>(n * batch, is_aligned<width>(dA, saved, dZ), [&](auto place) {
        auto dz = place.load(dA);
        const auto s = place.load(saved);
        #pragma unroll
        for (int k = 0; k < place.size; ++k) {
            const Accumulator<T> slope = activation_derivative<KIND>(to_accumulator(s[k]), alpha);
            dz[k] = from_accumulator<T>(to_accumulator(dz[k]) * slope);
        }
        place.store(dZ, dz);
    });
}

// partial_ic = Σ dZ_ij over the samples j of chunk c; n_chunks = ⌈batch/chunk_size⌉
// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Activation
// block: at most 256
template <typename T, Activation KIND>
__global__ void activation_backward_bias(long long n, long long batch, long long chunk_size, long long n_chunks,
                                         Accumulator<T> alpha, const T* dA /* F (n, batch) */,
                                         const T* saved /* F (n, batch) */, T* dZ /* F (n, batch) */,
                                         Accumulator<T>* __restrict__ partial /* any (n*n_chunks) */) {
    constexpr int width = Tile<T>::width;
    const bool aligned = is_aligned<width>(dA, saved, dZ);
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        Vector<Accumulator<T>, width> sum = {};
        tile.for_each_sample(aligned, [&](auto place) {
            auto dz = place.load(dA);
            const auto s = place.load(saved);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const Accumulator<T> slope = activation_derivative<KIND>(to_accumulator(s[k]), alpha);
                const Accumulator<T> exact = to_accumulator(dz[k]) * slope;
                dz[k] = from_accumulator<T>(exact);
                sum[k % width] = add_rounded(sum[k % width], exact);
            }
            place.store(dZ, dz);
        });
        sum_over_rows(sum);
        tile.store(sum, partial);
    }
}
