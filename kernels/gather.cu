// The rows of a batch, picked by index: out[j] = X[order[cursor + j]] for j < batch.
//
// The order of the samples and the place in it live in device memory, so that a replayed graph gathers a new batch each
// time. A thread per one or two vectors of out (vector.cuh), each within one row; per element where a row is no whole
// number of vectors. The host checks `order`; an index outside of X stops the launch with an error, because to read on
// would be a silent wrong answer.
#include "common.cuh"
#include "scaled.cuh"
#include "unit_index.cuh"
#include "vector.cuh"

// Where in X the element `i` of the batch comes from.
__device__ __forceinline__ long long gathered_index(long long i, long long n_samples, long long n_features,
                                                    long long n_order, const long long* order,
                                                    const long long* cursor) {
    const long long j = quotient_of(i, n_features), place = *cursor + j;
    if (place < 0 || place >= n_order) __trap();
    const long long row = order[place];
    if (row < 0 || row >= n_samples) __trap();
    return row * n_features + (i - j * n_features);
}

// The elements of X that belong at `place` of the batch.
template <typename S, int WIDTH, int VECTORS>
__device__ __forceinline__ Vector<S, WIDTH * VECTORS> load_gathered(const Place<WIDTH, VECTORS>& place,
                                                                    long long n_samples, long long n_features,
                                                                    long long n_order, const long long* order,
                                                                    const long long* cursor, const S* X) {
    long long from[VECTORS];
    #pragma unroll
    for (int v = 0; v < VECTORS; ++v)
        from[v] = gathered_index(place.first + v * place.step, n_samples, n_features, n_order, order, cursor);
    Vector<S, WIDTH * VECTORS> gathered;
    #pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const Vector<S, WIDTH> one = load_vector<WIDTH>(X + from[v]);
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) gathered[v * WIDTH + k] = one[k];
    }
    return gathered;
}

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
