// Sums over the batch, unit by unit: out_i = Σ_j X_ij, for X (n, batch) F-ordered. db = dZ·1 is one.
//
// A block per tile of units and samples (vector_tile.cuh). With one chunk, out is the result; with several, it holds one
// sum per unit and chunk, and sum_chunks (sum_chunks.cu) adds them up in order. Sums of 16-bit elements stay in float.
#include "common.cuh"
#include "vector_tile.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void row_sum(long long n, long long batch, long long chunk_size, long long n_chunks,
                        const T* __restrict__ X /* F (n, batch) */,
                        Accumulator<T>* __restrict__ out /* any (n*n_chunks) */) {
    constexpr int width = Tile<T>::width;
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        Vector<Accumulator<T>, width> sum = {};
        tile.for_each_sample(is_aligned<width>(X), [&](auto place) {
            const auto x = place.load(X);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) sum[k % width] = add_rounded(sum[k % width], to_accumulator(x[k]));
        });
        sum_over_rows(sum);
        tile.store(sum, out);
    }
}
