/* out = scale·dA ⊙ mask, with the mask and the scale of `alpha_dropout_forward`: all (n, batch) F-ordered. out may be dA. */
ARGUMENTS(alpha_dropout_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          SCHEDULED(p)
          rows const uint8_t *mask;
          rows const real *dA;
          rows real *out;)

OPERATION(alpha_dropout_backward)
{
    const Range range = share_of(a->batch, 1, share);
    const real scale = (real)alpha_dropout(SCHEDULED_VALUE(a, p)).scale, *dA = a->dA;
    const uint8_t *kept = a->mask;
    real *out = a->out;
    for (int64_t i = range.start * a->n; i < range.stop * a->n; i++) out[i] = dA[i] * ((real)kept[i] * scale); /* NaN stays NaN */
}
