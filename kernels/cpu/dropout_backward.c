/* out = dA ⊙ mask/(1 − p), with the mask and the factor of `dropout_forward`: all (n, batch) F-ordered. out may be dA. */
ARGUMENTS(dropout_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          SCHEDULED(p)
          rows const uint8_t *mask;
          rows const real *dA;
          rows real *out;)

OPERATION(dropout_backward)
{
    const Range range = share_of(a->batch, 1, share);
    const real scale = (real)(1 / (1 - SCHEDULED_VALUE(a, p))), *dA = a->dA;
    const uint8_t *kept = a->mask;
    real *out = a->out;
    for (int64_t i = range.start * a->n; i < range.stop * a->n; i++) out[i] = dA[i] * ((real)kept[i] * scale); /* NaN stays NaN */
}
