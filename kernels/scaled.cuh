// x·scale + shift, cast: how data enter the network, the same in a pass over an array and in a gather.
#pragma once

#include "common.cuh"

// x in type A, rounded once.
template <typename A, typename S> __device__ __forceinline__ A converted(S x) { return static_cast<A>(x); }
template <typename A> __device__ __forceinline__ A converted(__half x) { return static_cast<A>(static_cast<float>(x)); }
template <typename A> __device__ __forceinline__ A converted(__nv_bfloat16 x) {
    return static_cast<A>(static_cast<float>(x));
}

// x is cast to the accumulator type first; then a product and a sum, each rounded, as NumPy computes it (fused, the last
// bit could differ between the backends).
template <typename T, typename S>
__device__ __forceinline__ T scaled(S x, Accumulator<T> scale, Accumulator<T> shift) {
    return from_accumulator<T>(add_rounded(multiply_rounded(converted<Accumulator<T>>(x), scale), shift));
}
