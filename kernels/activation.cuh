// Activation functions by number, as compile-time parameters of the kernels that apply them.
#pragma once

#include "common.cuh"

enum Activation {
    IDENTITY = 0,
    SIGMOID = 1,
    TANH = 2,
    RELU = 3,
    LEAKY_RELU = 4,
    ELU = 5,
    SELU = 6,
    GELU = 7,
    GELU_TANH = 8,
    SILU = 9,
    SOFTPLUS = 10
};

// f(z). `alpha` is the slope of leaky ReLU and the scale of ELU.
template <int kind, typename A> __device__ __forceinline__ A activate(A z, A alpha) {
    static_assert(kind == IDENTITY || kind == RELU, "no such activation");
    if constexpr (kind == RELU) return z > A(0) || z != z ? z : A(0);  // NaN goes through: divergence must show
    return z;
}
