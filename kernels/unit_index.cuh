// Which unit an element of an (n, batch) F-ordered matrix belongs to: the remainder of its position by n, taken once per
// vector. One for each element would cost as much as the memory traffic of a fused pass, all the more in 64 bits.
#pragma once

#include "common.cuh"
#include "vector.cuh"

constexpr long long LARGEST_32_BITS = 0xFFFFFFFFll;

__device__ __forceinline__ long long quotient_of(long long x, long long divisor) {
    if (x <= LARGEST_32_BITS && divisor <= LARGEST_32_BITS)
        return static_cast<unsigned>(x) / static_cast<unsigned>(divisor);
    return x / divisor;
}

__device__ __forceinline__ long long remainder_of(long long x, long long divisor) {
    return x - quotient_of(x, divisor) * divisor;
}

// Whether every vector of N elements of an (n, batch) matrix lies within one sample and starts at a place where vectors
// of N elements may be read from all of these arrays of one value per unit. Null pointers do not count.
template <int N, typename... A> __device__ __forceinline__ bool has_whole_vectors(long long n, const A*... per_unit) {
    return n % N == 0 && is_aligned<N>(per_unit...);
}

// per_unit[unit] for the place's elements, in a matrix of n units; `whole`: has_whole_vectors.
template <typename A, int WIDTH, int VECTORS>
__device__ __forceinline__ Vector<A, WIDTH * VECTORS> load_units(const A* per_unit, const Place<WIDTH, VECTORS>& place,
                                                                 long long n, bool whole) {
    Vector<A, WIDTH * VECTORS> loaded;
    #pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        long long unit = remainder_of(place.first + v * place.step, n);
        if (whole) {
            const Vector<A, WIDTH> one = load_vector<WIDTH>(per_unit + unit);
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) loaded[v * WIDTH + k] = one[k];
        } else {
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) {
                loaded[v * WIDTH + k] = per_unit[unit];
                if (++unit == n) unit = 0;
            }
        }
    }
    return loaded;
}
