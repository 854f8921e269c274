// dZ = dA ⊙ f′ and, in the same pass, db_i = Σ_j dZ_ij.
//
// `saved` is A = f(Z) for the activations whose derivative is computed from the output, else Z (activation.cuh).
// The kernel without a bias gradient runs one thread per element. The one with it runs a block per 32 units and chunk
// of samples (unit_tile.cuh) and leaves one partial sum per unit and chunk, which sum_chunks adds up in order.
// The sums are of dZ before it is rounded to T.
#include "activation.cuh"
#include "common.cuh"
#include "unit_tile.cuh"

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Activation
template <typename T, Activation KIND>
__global__ void activation_backward(long long n, long long batch, Accumulator<T> alpha, const T* dA /* F (n, batch) */,
                                    const T* saved /* F (n, batch) */, T* dZ /* F (n, batch) */) {
    for (long long i = first_index(); i < n * batch; i += index_stride()) {
        Accumulator<T> slope = activation_derivative<KIND>(to_accumulator(saved[i]), alpha);
        dZ[i] = from_accumulator<T>(to_accumulator(dA[i]) * slope);
    }
}

// partial_ic = Σ dZ_ij over the samples j of chunk c; n_chunks = ⌈batch/chunk_size⌉
// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Activation
template <typename T, Activation KIND>
__global__ void activation_backward_bias(long long n, long long batch, long long chunk_size, long long n_chunks,
                                         Accumulator<T> alpha, const T* dA /* F (n, batch) */,
                                         const T* saved /* F (n, batch) */, T* dZ /* F (n, batch) */,
                                         Accumulator<T>* __restrict__ partial /* any (n*n_chunks) */) {
    for (long long item = blockIdx.x; item < count_unit_tiles(n, n_chunks); item += gridDim.x) {
        UnitTile tile(item, n, batch, chunk_size);
        Accumulator<T> sum = 0;
        for (long long j = tile.first; j < tile.end; j += tile.step) {
            long long i = j * n + tile.unit;
            Accumulator<T> slope = activation_derivative<KIND>(to_accumulator(saved[i]), alpha);
            Accumulator<T> dz = to_accumulator(dA[i]) * slope;
            dZ[i] = from_accumulator<T>(dz);
            sum += dz;
        }
        sum = sum_over_warps(sum);
        if (threadIdx.x < TILE_UNITS && tile.unit < n) partial[tile.chunk * n + tile.unit] = sum;
    }
}
