// max z and Σ e^(z − max z) of a sample in one pass, for a block: what a thread has summed up is scaled down whenever it
// meets a larger element. Source: Milakov & Gimelshein (2018), "Online normalizer calculation for softmax", algorithm 3.
#pragma once

#include "sample_group.cuh"

template <typename A> struct OnlineSoftmax {
    A largest = -infinity<A>(), sum = 0;

    template <typename T, int N> __device__ __forceinline__ void add(const Vector<T, N>& z) {
        A top = largest;
        #pragma unroll
        for (int k = 0; k < N; ++k) top = Maximum::combine(to_accumulator(z[k]), top);
        sum = multiply_rounded(sum, relative(largest, top));
        #pragma unroll
        for (int k = 0; k < N; ++k) sum = add_rounded(sum, relative(to_accumulator(z[k]), top));
        largest = top;
    }

    // The block's result, in every thread. Where the maximum is infinite there is no softmax: the sum is NaN.
    __device__ __forceinline__ void combine_over_block() {
        const A top = block_max(largest);
        sum = block_sum(multiply_rounded(sum, relative(largest, top))) + (top - top);
        largest = top;
    }

private:
    // e^(z − top), and 1 where both are the same infinity: before another element has come, that is no fault.
    __device__ __forceinline__ static A relative(A z, A top) { return z == top ? A(1) : exp(z - top); }
};
