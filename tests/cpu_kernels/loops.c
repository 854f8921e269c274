/* A loop over each function of elementary.h and activation.h in kernels/cpu, compiled for one instruction level as operation.c is. It
   includes itself, for float and for double. Each function has a line of its own: GCC notes which lines it has vectorized. */
#ifndef REAL_IS_FLOAT
#include "level.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT extern const int has_fma;
const int has_fma = HAS_FMA;

#define LOOP(function, ...) \
    EXPORT void NAME(each_##function)(ptrdiff_t n, const real *restrict x, double alpha, real *restrict out); \
    void NAME(each_##function)(ptrdiff_t n, const real *restrict x, __attribute__((unused)) double alpha, real *restrict out) \
    {                                                                                \
        for (ptrdiff_t i = 0; i < n; i++) out[i] = NAME(function)(x[i], ##__VA_ARGS__); \
    }

#define REAL_IS_FLOAT 1
#include "loops.c"
#undef REAL_IS_FLOAT
#define REAL_IS_FLOAT 0
#include "loops.c"

#else
#include "numbers.h"

#include "elementary.h"

LOOP(exponential)
LOOP(exponential_minus_one)
LOOP(logarithm)
LOOP(logarithm_one_plus)
LOOP(hyperbolic_tangent)
LOOP(normal_cdf)
LOOP(logistic)
LOOP(sine)
LOOP(cosine)
LOOP(cosine_of_quarters)

#include "activation.h"
LOOP(identity, (real)alpha)
LOOP(identity_derivative, (real)alpha)
LOOP(sigmoid, (real)alpha)
LOOP(sigmoid_derivative, (real)alpha)
LOOP(tanh, (real)alpha)
LOOP(tanh_derivative, (real)alpha)
LOOP(relu, (real)alpha)
LOOP(relu_derivative, (real)alpha)
LOOP(leaky_relu, (real)alpha)
LOOP(leaky_relu_derivative, (real)alpha)
LOOP(elu, (real)alpha)
LOOP(elu_derivative, (real)alpha)
LOOP(selu, (real)alpha)
LOOP(selu_derivative, (real)alpha)
LOOP(gelu, (real)alpha)
LOOP(gelu_derivative, (real)alpha)
LOOP(gelu_tanh, (real)alpha)
LOOP(gelu_tanh_derivative, (real)alpha)
LOOP(silu, (real)alpha)
LOOP(silu_derivative, (real)alpha)
LOOP(softplus, (real)alpha)
LOOP(softplus_derivative, (real)alpha)
LOOP(mish, (real)alpha)
LOOP(mish_derivative, (real)alpha)
LOOP(hardswish, (real)alpha)
LOOP(hardswish_derivative, (real)alpha)
LOOP(sin, (real)alpha)
LOOP(sin_derivative, (real)alpha)
LOOP(exp, (real)alpha)
LOOP(exp_derivative, (real)alpha)
#endif
