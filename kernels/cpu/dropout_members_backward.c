/* out = dA ⊙ mask/(1 − p_g), with the mask and the factors of `dropout_members_forward`. out may be dA. */
ARGUMENTS(dropout_members_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t members;
          const double *rates;
          rows const uint8_t *mask;
          rows const real *dA;
          rows real *out;)

OPERATION(dropout_members_backward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t of_each = a->n / a->members;
    for (int64_t j = range.start; j < range.stop; j++) {
        for (int64_t g = 0; g < a->members; g++) {
            const int64_t first = j * a->n + g * of_each;
            const real scale = (real)(1 / (1 - a->rates[g])), *dA = a->dA + first;
            const uint8_t *kept = a->mask + first;
            real *out = a->out + first;
            for (int64_t i = 0; i < of_each; i++) out[i] = dA[i] * ((real)kept[i] * scale); /* NaN stays NaN */
        }
    }
}
