// Count, mean and sum of squared deviations of numbers that come a few at a time, read once and without cancellation:
// means and squared deviations of parts are combined, not sums of squares.
// Source: Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", eq. 1.5a-b.
#pragma once

#include "common.cuh"

template <typename A> struct Moments {
    A count = 0, mean = 0, square = 0;

    __device__ __forceinline__ void combine(A other_count, A other_mean, A other_square) {
        const A total = count + other_count, share = other_count / total, difference = other_mean - mean;
        square += other_square + difference * difference * (count * share);
        mean += difference * share;
        count = total;
    }

    // Adds the first `m` of x, m at least 1.
    template <typename X, int N> __device__ __forceinline__ void add(const X (&x)[N], int m = N) {
        A sum = 0, squares = 0;
        #pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < m) sum += to_accumulator(x[k]);
        const A average = sum / static_cast<A>(m);
        #pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < m) squares += (to_accumulator(x[k]) - average) * (to_accumulator(x[k]) - average);
        combine(static_cast<A>(m), average, squares);
    }
};
