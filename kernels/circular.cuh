// sin and cos of a number of quarters of a turn, by the polynomials of cpu/elementary.h: in turns what is subtracted is exact, and
// there is no slow path for large numbers.
#pragma once

#include "common.cuh"

template <typename A> struct Circular {
    A sine, cosine;
};

template <int DEGREE, typename A> __device__ __forceinline__ A polynomial(A z, const A (&coefficients)[DEGREE + 1]) {
    A sum = coefficients[DEGREE];
    #pragma unroll
    for (int i = DEGREE - 1; i >= 0; --i) sum = multiply_add(sum, z, coefficients[i]);
    return sum;
}

__device__ __forceinline__ float sine_tail(float z) {
    const float c[] = {-0x1.55554p-3f, 0x1.11058ep-7f, -0x1.98b55p-13f};
    return polynomial<2>(z, c);
}
__device__ __forceinline__ float cosine_tail(float z) {
    const float c[] = {0x1.555548p-5f, -0x1.6c0a62p-10f, 0x1.99692cp-16f};
    return polynomial<2>(z, c);
}
__device__ __forceinline__ double sine_tail(double z) {
    const double c[] = {-0x1.5555555555541p-3, 0x1.111111110ebap-7,  -0x1.a01a019a78c0bp-13,
                        0x1.71de34184d5c4p-19, -0x1.ae5d561d61c11p-26, 0x1.5d451e3bd9f5cp-33};
    return polynomial<5>(z, c);
}
__device__ __forceinline__ double cosine_tail(double z) {
    const double c[] = {0x1.5555555555544p-5,  -0x1.6c16c16c1419fp-10, 0x1.a01a019b2cddbp-16,
                        -0x1.27e4f6f689233p-22, 0x1.1ee9346e31b97p-29, -0x1.8f518395d8c45p-37};
    return polynomial<5>(z, c);
}

// Of x quarters of a turn; beyond 2^22 of them those of 0.
template <typename A> __device__ __forceinline__ Circular<A> circular_of_quarters(A x) {
    const A inside = fabs(x) <= A(4194304) ? x : x - x;
    const A n = rint(inside), r = multiply_rounded(inside - n, A(1.57079632679489661923));
    const A z = multiply_rounded(r, r);
    const A sine = multiply_add(multiply_rounded(r, z), sine_tail(z), r);
    const A cosine = multiply_add(z, multiply_add(z, cosine_tail(z), A(-0.5)), A(1));
    const int k = static_cast<int>(n);
    const A first = k & 1 ? cosine : sine, second = k & 1 ? sine : cosine;
    return {k & 2 ? -first : first, (k + 1) & 2 ? -second : second};
}
