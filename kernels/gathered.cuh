// Where the elements of a gathered batch come from.
#pragma once

#include "common.cuh"
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
