/* Activation functions f and their derivatives f′, from z or, where that is enough, from a = f(z). No finite z gives NaN, and none
   overflows but where f itself does; a NaN stays one. The order is that of ELEMENTWISE in the reference. */
#ifndef FCNN_ACTIVATIONS
#define FCNN_ACTIVATIONS
#define ACTIVATIONS(X) \
    X(identity) X(sigmoid) X(tanh) X(relu) X(leaky_relu) X(elu) X(selu) X(gelu) X(gelu_tanh) X(silu) X(softplus) \
    X(mish) X(hardswish) X(sin) X(exp)
#define KIND(name) JOIN(KIND_, name),
enum { ACTIVATIONS(KIND) };
#undef KIND
/* Whether f′ is had from a = f(z), and not from z. */
#define IS_FROM_OUTPUT(kind) ((kind) <= KIND_leaky_relu || (kind) == KIND_exp)
/* Parametric activations are g(z) + p h(z): z + p (f(z) − z); p z; max(z, 0) + p min(z, 0). */
enum { FORM_ACTIVATION, FORM_SCALE, FORM_PRELU };
#define SELU_ALPHA 1.6732632423543772848170429916717
#define SELU_SCALE 1.0507009873554804934193349852946
#define ACTIVATION(name) INLINE real NAME(name)(real z, __attribute__((unused)) real alpha)
#define DERIVATIVE(name) INLINE real NAME(name##_derivative)(real saved, __attribute__((unused)) real alpha)
#endif

ACTIVATION(identity) { return z; }
DERIVATIVE(identity)
{
    (void)saved;
    return 1;
}

ACTIVATION(sigmoid) { return NAME(logistic)(z); }
DERIVATIVE(sigmoid) { return (1 - saved) * saved; }

ACTIVATION(tanh) { return NAME(hyperbolic_tangent)(z); }
DERIVATIVE(tanh) { return FMA(-saved, saved, 1); }

ACTIVATION(relu) { return z <= 0 ? 0 : z; }
DERIVATIVE(relu) { return saved > 0 ? 1 : 0; }

ACTIVATION(leaky_relu) { return z <= 0 ? z * alpha : z; }
DERIVATIVE(leaky_relu) { return saved > 0 ? 1 : alpha; }

ACTIVATION(elu) { return z > 0 ? z : alpha * NAME(exponential_minus_one)(z > 0 ? 0 : z); }
DERIVATIVE(elu) { return saved > 0 ? 1 : alpha * NAME(exponential)(saved > 0 ? 0 : saved); }

ACTIVATION(selu) { return (real)SELU_SCALE * NAME(elu)(z, (real)SELU_ALPHA); }
DERIVATIVE(selu) { return (real)SELU_SCALE * NAME(elu_derivative)(saved, (real)SELU_ALPHA); }

/* zΦ(z) = max(z, 0) − |z|(1 − Φ(|z|)), where nothing cancels for z < 0 */
ACTIVATION(gelu)
{
    const real a = ABS(z), positive = z <= 0 ? 0 : z;
    return NAME(is_beyond_tail)(a) ? positive : FMA(-a, NAME(normal_tail)(a), positive);
}
/* Φ(z) + z φ(z), φ(z) = e^(−z²/2)/√(2π) */
DERIVATIVE(gelu)
{
    const real density = NAME(exponential)(saved * saved * (real)-0.5) * (real)0.39894228040143267794;
    return FMA(saved, density, NAME(normal_cdf)(saved));
}

/* v = √(2/π)(z + 0.044715 z³) */
INLINE real NAME(gelu_tanh_inner)(real z) { return (real)0.79788456080286535588 * z * FMA((real)0.044715, z * z, 1); }

/* ½z(1 + tanh v) */
ACTIVATION(gelu_tanh) { return (real)0.5 * (NAME(hyperbolic_tangent)(NAME(gelu_tanh_inner)(z)) + 1) * z; }
/* The same as zσ(2v), whose derivative is σ(2v) + 2v′s, s = zσ(2v)σ(−2v), where 1 − tanh² v would cancel. s is 0 where z² overflows,
   and so are its products with z. */
DERIVATIVE(gelu_tanh)
{
    const real twice = 2 * NAME(gelu_tanh_inner)(saved), sigma = NAME(logistic)(twice);
    const real s = saved * sigma * NAME(logistic)(-twice);
    return FMA(FMA(s * saved * saved, (real)(3 * 0.044715), s), (real)1.59576912160573071176, sigma);
}

ACTIVATION(silu) { return z * NAME(logistic)(z); }
/* σ(1 + z(1 − σ)) */
DERIVATIVE(silu)
{
    const real s = NAME(logistic)(saved);
    return s * FMA(saved, 1 - s, 1);
}

/* log(1 + e^z) = max(z, 0) + log(1 + e^−|z|) */
ACTIVATION(softplus) { return (z <= 0 ? 0 : z) + NAME(logarithm_one_plus_falling)(z); }
DERIVATIVE(softplus) { return NAME(logistic)(saved); }

/* e = e^w, w = min(z, 25), and n = e(e + 2) = (1 + e)² − 1, of which mish is z·n/(n + 2): beyond 25 the quotient is 1. */
ACTIVATION(mish)
{
    const real e = NAME(exponential)(z > 25 ? 25 : z);
    return z * (e * (e + 2) / FMA(e, e + 2, 2));
}
/* n/(n + 2) + w·4e(1 + e)/(n + 2)² */
DERIVATIVE(mish)
{
    const real w = saved > 25 ? 25 : saved, e = NAME(exponential)(w), below = FMA(e, e + 2, 2);
    return FMA(e, e + 2, 4 * (e * (1 + e)) * w / below) / below;
}

/* z·clip(z + 3, 0, 6)/6 */
ACTIVATION(hardswish)
{
    const real inside = (z + 3) * (real)0.16666666666666666667, right = z >= 3 ? 1 : inside;
    return z * (z <= -3 ? 0 : right);
}
/* z/3 + ½ between the kinks */
DERIVATIVE(hardswish)
{
    const real inside = FMA(saved, (real)0.33333333333333333333, (real)0.5), right = saved >= 3 ? 1 : inside;
    return saved <= -3 ? 0 : right;
}

ACTIVATION(sin) { return NAME(sine)(z); }
DERIVATIVE(sin) { return NAME(cosine)(saved); }

ACTIVATION(exp) { return NAME(exponential)(z); }
DERIVATIVE(exp) { return saved; }
