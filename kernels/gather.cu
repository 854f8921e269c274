// The rows of a batch, picked by index: out[j] = X[order[cursor + j]] for j < batch.
//
// The order of the samples and the place in it live in device memory, so that a replayed graph gathers a new batch each
// time. One thread per element; neighbouring threads read neighbouring features. The host checks `order`; an index
// outside of X stops the launch with an error, because to read on would be a silent wrong answer.
#include "common.cuh"

__device__ __forceinline__ long long gathered_row(long long j, long long n_samples, long long n_order,
                                                  const long long* order, const long long* cursor) {
    const long long place = *cursor + j;
    if (place < 0 || place >= n_order) __trap();
    const long long row = order[place];
    if (row < 0 || row >= n_samples) __trap();
    return row;
}

// Exact copies: labels, and features that need neither cast nor scale.
// instances: T in float, double, __half, __nv_bfloat16, unsigned char, int, long long
template <typename T>
__global__ void gather_rows(long long n_samples, long long n_features, long long n_order, long long batch,
                            const T* __restrict__ X /* C (n_samples, n_features) */,
                            const long long* __restrict__ order /* any (n_order) */,
                            const long long* __restrict__ cursor /* any (1) */,
                            T* __restrict__ out /* C (batch, n_features) */) {
    for (long long i = first_index(); i < batch * n_features; i += index_stride()) {
        const long long j = i / n_features, row = gathered_row(j, n_samples, n_order, order, cursor);
        out[i] = X[row * n_features + (i - j * n_features)];
    }
}

// out[j] = X[order[cursor + j]]·scale + shift. X is cast to the accumulator type first; then a product and a sum, each
// rounded, as NumPy computes it (fused, the last bit could differ between the backends).
// instances: S in unsigned char, float, double, __half, __nv_bfloat16; T in float, double, __half, __nv_bfloat16
// instances: S in int, long long; T in float, double
template <typename S, typename T>
__global__ void gather_rows_scaled(long long n_samples, long long n_features, long long n_order, long long batch,
                                   Accumulator<T> scale, Accumulator<T> shift,
                                   const S* __restrict__ X /* C (n_samples, n_features) */,
                                   const long long* __restrict__ order /* any (n_order) */,
                                   const long long* __restrict__ cursor /* any (1) */,
                                   T* __restrict__ out /* C (batch, n_features) */) {
    for (long long i = first_index(); i < batch * n_features; i += index_stride()) {
        const long long j = i / n_features, row = gathered_row(j, n_samples, n_order, order, cursor);
        const Accumulator<T> x = static_cast<Accumulator<T>>(to_accumulator(X[row * n_features + (i - j * n_features)]));
        out[i] = from_accumulator<T>(add_rounded(multiply_rounded(x, scale), shift));
    }
}
