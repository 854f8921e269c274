// The rows of a batch, picked by index: out[j] = X[order[cursor + j]] for j < batch.
//
// The order of the samples and the place in it live in device memory, so that a replayed graph gathers a new batch each
// time. A thread per one or two vectors of out (vector.cuh), each within one row; per element where a row is no whole
// number of vectors. The host checks `order`; an index outside of X stops the launch with an error, because to read on
// would be a silent wrong answer.
#include "common.cuh"
#include "gathered.cuh"
#include "scaled.cuh"
#include "vector.cuh"

// Exact copies: labels, and features that need neither cast nor scale.
// instances: T in float, double, __half, __nv_bfloat16, unsigned char, int, long long
template <typename T>
__global__ void gather_rows(long long n_samples, long long n_features, long long n_order, long long batch,
                            const T* __restrict__ X /* C (n_samples, n_features) */,
                            const long long* __restrict__ order /* any (n_order) */,
                            const long long* __restrict__ cursor /* any (1) */,
                            T* __restrict__ out /* C (batch, n_features) */) {
    constexpr int width = vector_width<T>;
    for_each_place<width>(batch * n_features, is_aligned<width>(X, out) && n_features % width == 0, [&](auto place) {
        place.store(out, load_gathered(place, n_samples, n_features, n_order, order, cursor, X));
    });
}

// out[j] = X[order[cursor + j]]·scale + shift (scaled.cuh)
// instances: S in unsigned char, signed char, short, int, long long; T in float, double, __half, __nv_bfloat16
// instances: S in float, double, __half, __nv_bfloat16; T in float, double, __half, __nv_bfloat16
template <typename S, typename T>
__global__ void gather_rows_scaled(long long n_samples, long long n_features, long long n_order, long long batch,
                                   Accumulator<T> scale, Accumulator<T> shift,
                                   const S* __restrict__ X /* C (n_samples, n_features) */,
                                   const long long* __restrict__ order /* any (n_order) */,
                                   const long long* __restrict__ cursor /* any (1) */,
                                   T* __restrict__ out /* C (batch, n_features) */) {
    constexpr int width = vector_width<S, T>;
    for_each_place<width>(batch * n_features, is_aligned<width>(X, out) && n_features % width == 0, [&](auto place) {
        const auto source = load_gathered(place, n_samples, n_features, n_order, order, cursor, X);
        Vector<T, place.size> result;
        #pragma unroll
        for (int k = 0; k < place.size; ++k) result[k] = scaled<T>(source[k], scale, shift);
        place.store(out, result);
    });
}
