// Count, mean and sum of squared deviations of numbers that come a few at a time, read once and without cancellation:
// means and squared deviations of parts are combined, not sums of squares.
// Source: Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", eq. 1.5a-b.
#pragma once

#include "common.cuh"
#include "vector.cuh"

// Of WIDTH columns of numbers side by side, all of the same count.
template <typename A, int WIDTH> struct UnitMoments {
    A count = 0;
    Vector<A, WIDTH> mean = {}, square = {};

    // Adds x, row after row.
    template <typename T, int N> __device__ __forceinline__ void add(const Vector<T, N>& x) {
        constexpr int rows = N / WIDTH;
        const A share = rows / (count + rows);
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
            A sum = 0, squares = 0;
            #pragma unroll
            for (int r = 0; r < rows; ++r) sum += to_accumulator(x[r * WIDTH + k]);
            const A average = multiply_rounded(sum, A(1) / rows), difference = average - mean[k];
            #pragma unroll
            for (int r = 0; r < rows; ++r) {
                const A deviation = to_accumulator(x[r * WIDTH + k]) - average;
                squares = multiply_add(deviation, deviation, squares);
            }
            square[k] += multiply_add(difference * difference, count * share, squares);
            mean[k] = multiply_add(difference, share, mean[k]);
        }
        count += rows;
    }
};
