// Activation functions f and their derivatives f′ by number, as compile-time parameters of the kernels that apply them.
//
// The numbers are the order of ELEMENTWISE in fcnn_gpu/backend/_ops/_activation.py. No finite input gives NaN,
// and none overflows but where f itself does. NaN goes through, so that a diverged network shows.
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
    SOFTPLUS = 10,
    MISH = 11,
    HARDSWISH = 12,
    SIN = 13,
    EXP = 14
};

// 1/(1 + e^−z), as e^z/(1 + e^z) for z < 0
template <typename A> __device__ __forceinline__ A sigmoid(A z) {
    A small = exp(-fabs(z));
    return (z >= 0 ? A(1) : small) / add_rounded(A(1), small);
}

// Φ(z) = ½(1 + erf(z/√2))
template <typename A> __device__ __forceinline__ A normal_cdf(A z) {
    return multiply_rounded(A(0.5), add_rounded(A(1), erf(multiply_rounded(z, A(0.70710678118654752440)))));
}

// tanh(√(2/π)(z + 0.044715 z³)). Source: Hendrycks & Gimpel (2016), "Gaussian error linear units", section 2.
template <typename A> __device__ __forceinline__ A gelu_tanh_inner(A z) {
    return tanh(multiply_rounded(A(0.79788456080286535588) * z, multiply_add(A(0.044715) * z, z, A(1))));
}

// e = e^w, w = min(z, 25), and n = e(e + 2) = (1 + e)² − 1, of which mish is z·n/(n + 2): beyond 25 the quotient is 1.
// Source: Misra (2019), "Mish: a self regularized non-monotonic activation function".
template <typename A> struct Mish {
    A w, e, n, below;

    __device__ __forceinline__ explicit Mish(A z) : w(z > A(25) ? A(25) : z), e(exp(w)) {
        n = multiply_rounded(e, add_rounded(e, A(2)));
        below = add_rounded(n, A(2));
    }
};

// clip(z + 3, 0, 6)/6
template <typename A> __device__ __forceinline__ A hardswish_gate(A z) {
    return z <= -3 ? A(0) : z >= 3 ? A(1) : multiply_rounded(z + 3, A(0.16666666666666666667));
}

// z, and 0 where neighbouring numbers lie more than 2^−6 apart
template <typename A> __device__ __forceinline__ A circular(A z) {
    return fabs(z) > (sizeof(A) == 4 ? A(262144) : A(140737488355328)) ? multiply_rounded(A(0), z) : z;
}

// f(z). `alpha` is the slope of leaky ReLU for z < 0 (0 ≤ α ≤ 1) and the scale of ELU.
template <int kind, typename A> __device__ __forceinline__ A activate(A z, A alpha) {
    static_assert(kind >= IDENTITY && kind <= EXP, "no such activation");
    if constexpr (kind == SIGMOID) return sigmoid(z);
    if constexpr (kind == TANH) return tanh(z);
    if constexpr (kind == RELU) return z < 0 ? A(0) : z;  // a comparison with NaN is false: NaN stays
    if constexpr (kind == LEAKY_RELU) return z > 0 ? z : alpha * z;
    if constexpr (kind == ELU) return z > 0 ? z : alpha * expm1(z);
    if constexpr (kind == SELU) {  // Klambauer et al. (2017), "Self-normalizing neural networks", eq. 2
        return A(1.0507009873554804934) * (z > 0 ? z : A(1.6732632423543772848) * expm1(z));
    }
    if constexpr (kind == GELU) return z * normal_cdf(z);
    if constexpr (kind == GELU_TANH) return A(0.5) * z * add_rounded(A(1), gelu_tanh_inner(z));
    if constexpr (kind == SILU) return z * sigmoid(z);
    if constexpr (kind == SOFTPLUS) return add_rounded(z < 0 ? A(0) : z, log1p(exp(-fabs(z))));  // max(z, 0) + log(1 + e^−|z|)
    if constexpr (kind == MISH) {
        const Mish<A> m(z);
        return z * (m.n / m.below);
    }
    if constexpr (kind == HARDSWISH) return z * hardswish_gate(z);
    if constexpr (kind == SIN) return sin(circular(z));
    if constexpr (kind == EXP) return exp(z);
    return z;
}

// f′ from `saved`: from the output a = f(z) for identity, sigmoid, tanh, ReLU, leaky ReLU and exp (whose A may overwrite Z),
// from the input z for the others.
template <int kind, typename A> __device__ __forceinline__ A activation_derivative(A saved, A alpha) {
    static_assert(kind >= IDENTITY && kind <= EXP, "no such activation");
    if constexpr (kind == SIGMOID) return (1 - saved) * saved;
    if constexpr (kind == TANH) return multiply_add(-saved, saved, A(1));
    if constexpr (kind == RELU) return saved > 0 ? A(1) : A(0);
    if constexpr (kind == LEAKY_RELU) return saved > 0 ? A(1) : alpha;
    if constexpr (kind == ELU) return saved > 0 ? A(1) : alpha * exp(saved);
    if constexpr (kind == SELU) {
        return A(1.0507009873554804934) * (saved > 0 ? A(1) : A(1.6732632423543772848) * exp(saved));
    }
    if constexpr (kind == GELU) {  // Φ(z) + z φ(z), φ(z) = e^(−z²/2)/√(2π)
        const A density = A(0.39894228040143267794) * exp(multiply_rounded(A(-0.5) * saved, saved));
        return multiply_add(saved, density, normal_cdf(saved));
    }
    if constexpr (kind == GELU_TANH) {  // ½(1 + h) + ½ √(2/π) (s + 3·0.044715 s z z), s = z (1 − h²): 0 where z² overflows
        const A h = gelu_tanh_inner(saved), s = multiply_rounded(saved, multiply_add(-h, h, A(1)));
        const A slope = multiply_add(A(3 * 0.044715) * (s * saved), saved, s);
        return A(0.5) * multiply_add(slope, A(0.79788456080286535588), add_rounded(A(1), h));
    }
    if constexpr (kind == SILU) {  // σ(1 + z(1 − σ))
        A s = sigmoid(saved);
        return s * multiply_add(saved, add_rounded(A(1), -s), A(1));
    }
    if constexpr (kind == SOFTPLUS) return sigmoid(saved);
    if constexpr (kind == MISH) {  // n/(n + 2) + w·4e(1 + e)/(n + 2)²
        const Mish<A> m(saved);
        const A slope = 4 * multiply_rounded(m.e, add_rounded(m.e, A(1))) * m.w / m.below;
        return add_rounded(m.n, slope) / m.below;
    }
    if constexpr (kind == HARDSWISH) {  // z/3 + ½ between the kinks
        return saved <= -3 ? A(0) : saved >= 3 ? A(1) : multiply_add(saved, A(0.33333333333333333333), A(0.5));
    }
    if constexpr (kind == SIN) return cos(circular(saved));
    if constexpr (kind == EXP) return saved;
    return A(1);
}
