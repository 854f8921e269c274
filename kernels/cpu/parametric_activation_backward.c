/* dZ = dA ⊙ (g′(Z) + p ⊙ h′(Z)), and dp_i = Σ_j dA_ij h(Z_ij) over the samples j = 0, 1, 2, ..., in that order: dA, Z, dZ
   (n, batch) F-ordered, p and dp (n); g and h by `form` (activation.h). dZ may be dA. With `unsound`, that is 1 from then on if the
   square of a sum is not finite. */
ARGUMENTS(parametric_activation_backward, SHARED,
          int64_t n;
          int64_t batch;
          int64_t form;
          int64_t kind;
          double slope;
          const real *dA;
          const real *Z;
          const real *p;
          optional any_order int64_t *unsound;
          real *dZ;
          real *dp;)

/* f′ where f is at hand. SELU's is f + λα for z ≤ 0, whose absolute error, one of f's, is that of f′ − 1 anyway. */
INLINE real NAME(derivative_beside)(const int kind, real z, real f, real slope)
{
    if (kind == KIND_selu) return z > 0 ? (real)SELU_SCALE : f + (real)(SELU_SCALE * SELU_ALPHA);
    const real saved = IS_FROM_OUTPUT(kind) ? f : z;
#define CASE(name) \
    case JOIN(KIND_, name): return NAME(name##_derivative)(saved, slope);
    switch (kind) { ACTIVATIONS(CASE) }
#undef CASE
    __builtin_unreachable();
}

/* Of `width` units; whether one sum is unsound. */
INLINE int NAME(parametric_gradient_of)(const NAME(parametric_activation_backward_arguments) * a, int64_t first, int64_t width)
{
    enum { MOST = 64 };
    const real slope = (real)a->slope, *const p = a->p + first;
    real sum[MOST] = {0};
/* h and inner = g′ + p h′, from z; f is f(z) where there is one */
#define EACH(f_of_z, h_of_z, inner_of_z)                           \
    for (int64_t j = 0; j < a->batch; j++) {                       \
        const real *const dA = a->dA + j * a->n + first;           \
        const real *const Z = a->Z + j * a->n + first;             \
        real *const dZ = a->dZ + j * a->n + first;                 \
        for (int64_t c = 0; c < width; c++) {                      \
            const real z = Z[c], d = dA[c];                        \
            __attribute__((unused)) const real f = (f_of_z);       \
            sum[c] = FMA(d, (h_of_z), sum[c]);                     \
            dZ[c] = d * (inner_of_z);                              \
        }                                                          \
    }
#define CASE(name)                                                                                                     \
    case JOIN(KIND_, name):                                                                                            \
        EACH(NAME(name)(z, slope), f - z,                                                                              \
             FMA(p[c], NAME(derivative_beside)(JOIN(KIND_, name), z, f, slope) - 1, 1))                                \
        break;
    switch (a->form) {
        case FORM_SCALE: EACH(0, z, p[c]) break;
        case FORM_PRELU: EACH(0, z > 0 ? 0 : z, z > 0 ? 1 : p[c]) break;
        default:
            switch (a->kind) { ACTIVATIONS(CASE) }
    }
#undef CASE
#undef EACH
    int bad = 0;
    for (int64_t c = 0; c < width; c++) {
        const real square = sum[c] * sum[c];
        bad |= square - square != 0;
        a->dp[first + c] = sum[c];
    }
    return bad;
}

OPERATION(parametric_activation_backward)
{
    enum { WIDTH = 64 };
    const Range range = share_of(a->n, 16, share);
    int bad = 0;
    for (int64_t i = range.start; i < range.stop; i += WIDTH)
        if (range.stop - i >= WIDTH) bad |= NAME(parametric_gradient_of)(a, i, WIDTH);
        else bad |= NAME(parametric_gradient_of)(a, i, range.stop - i);
    if (bad && a->unsound) raise_flag(a->unsound);
}
