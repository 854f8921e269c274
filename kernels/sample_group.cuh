// The threads that work on one sample together: a warp where a sample has few units, a whole block where it has many.
//
// In the (n_units, batch) F-ordered layout a sample is n_units consecutive elements, so neighbouring lanes read
// neighbouring addresses.
#pragma once

#include "common.cuh"

enum SampleGroup { WARP_PER_SAMPLE, BLOCK_PER_SAMPLE };

template <SampleGroup GROUP> __device__ __forceinline__ long long first_sample() {
    if (GROUP == WARP_PER_SAMPLE) return (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    return blockIdx.x;
}

template <SampleGroup GROUP> __device__ __forceinline__ long long sample_stride() {
    if (GROUP == WARP_PER_SAMPLE) return static_cast<long long>(gridDim.x) * blockDim.x / 32;
    return gridDim.x;
}

template <SampleGroup GROUP> __device__ __forceinline__ int first_unit() {
    return GROUP == WARP_PER_SAMPLE ? threadIdx.x % 32 : threadIdx.x;
}

template <SampleGroup GROUP> __device__ __forceinline__ int unit_stride() {
    return GROUP == WARP_PER_SAMPLE ? 32 : blockDim.x;
}

// The group's sum or maximum of `value`, in every thread of the group; all of them must call it.
template <SampleGroup GROUP, typename A> __device__ __forceinline__ A group_sum(A value) {
    return GROUP == WARP_PER_SAMPLE ? warp_sum(value) : block_sum(value);
}

template <SampleGroup GROUP, typename A> __device__ __forceinline__ A group_max(A value) {
    return GROUP == WARP_PER_SAMPLE ? warp_max(value) : block_max(value);
}
