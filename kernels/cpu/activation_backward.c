/* dZ = dA ⊙ f′: all (batch, n). `saved` is f(Z) where f′ is had from it, else Z (activation.h). dZ may be dA. Of functions whose f′
   fades, a dZ below 2⁻¹⁰⁰ is 0 (numbers.h). */
ARGUMENTS(activation_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t kind;
          double alpha;
          rows const real *dA;
          rows const real *saved;
          rows real *dZ;)

#ifndef FADES
#define FADES(kind) ((kind) != KIND_identity && (kind) != KIND_relu && (kind) != KIND_leaky_relu)
#endif

OPERATION(activation_backward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t start = range.start * a->n, size = (range.stop - range.start) * a->n;
    const real alpha = (real)a->alpha, *dA = a->dA + start, *saved = a->saved + start;
    real *dZ = a->dZ + start;
#define CASE(name)                                                                               \
    case JOIN(KIND_, name):                                                                      \
        for (int64_t i = 0; i < size; i++) {                                                     \
            const real d = dA[i] * NAME(name##_derivative)(saved[i], alpha);                     \
            dZ[i] = FADES(JOIN(KIND_, name)) ? NAME(faded)(d) : d;                               \
        }                                                                                        \
        break;
    switch (a->kind) { ACTIVATIONS(CASE) }
#undef CASE
}
