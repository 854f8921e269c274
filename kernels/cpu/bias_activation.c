/* Z ← Z + b, then out = f(Z): Z and out (batch, n), b (n); `kind` is f's place in ACTIVATIONS, alpha its slope where it has one.
   out may be Z. */
ARGUMENTS(bias_activation, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t kind;
          double alpha;
          optional const real *b;
          rows real *Z;
          rows real *out;)

OPERATION(bias_activation)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real alpha = (real)a->alpha;
    if (a->b)
        for (int64_t j = range.start; j < range.stop; j++) {
            real *z = a->Z + j * n;
            for (int64_t i = 0; i < n; i++) z[i] += a->b[i];
        }
    if (a->out == a->Z && a->kind == KIND_identity) return;
    const real *z = a->Z + range.start * n;
    real *out = a->out + range.start * n;
    const int64_t size = (range.stop - range.start) * n;
#define CASE(name)                                                         \
    case JOIN(KIND_, name):                                                \
        for (int64_t i = 0; i < size; i++) out[i] = NAME(name)(z[i], alpha); \
        break;
    switch (a->kind) { ACTIVATIONS(CASE) }
#undef CASE
}
