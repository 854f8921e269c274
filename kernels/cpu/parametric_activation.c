/* out = g(Z) + p ⊙ h(Z), one factor p_i per unit, by `form` (activation.h): Z and out (batch, n), p (n). `kind` is f's place in
   ACTIVATIONS, `slope` that of f. */
ARGUMENTS(parametric_activation, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t form;
          int64_t kind;
          double slope;
          rows const real *Z;
          const real *p;
          rows real *out;)

OPERATION(parametric_activation)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real slope = (real)a->slope, *const p = a->p;
#define EACH(value)                                      \
    for (int64_t j = range.start; j < range.stop; j++) { \
        const real *const Z = a->Z + j * n;              \
        real *const out = a->out + j * n;                \
        for (int64_t i = 0; i < n; i++) {                \
            const real z = Z[i];                         \
            out[i] = (value);                            \
        }                                                \
    }
#define CASE(name)                                                \
    case JOIN(KIND_, name):                                       \
        EACH(FMA(p[i], NAME(name)(z, slope) - z, z))              \
        break;
    switch (a->form) {
        case FORM_SCALE: EACH(p[i] * z) break;
        case FORM_PRELU: EACH(z > 0 ? z : p[i] * z) break;
        default:
            switch (a->kind) { ACTIVATIONS(CASE) }
    }
#undef CASE
#undef EACH
}
