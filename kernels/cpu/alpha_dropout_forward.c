/* out = scale·A + kept where mask_i = 1, else `dropped`, with the numbers of alpha_dropout.h; the mask is that of `dropout_forward`. A, mask, out
   (n, batch) F-ordered. out may be A.
   Source: Klambauer et al. (2017), "Self-normalizing neural networks", "New dropout technique". */
ARGUMENTS(alpha_dropout_forward, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t first_draw;
          int64_t key0;
          int64_t key1;
          SCHEDULED(p)
          const int64_t *step;
          rows const real *A;
          rows uint8_t *mask;
          rows real *out;)

OPERATION(alpha_dropout_forward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t end = range.stop * a->n;
    const uint64_t step = (uint64_t)*a->step, key0 = (uint64_t)a->key0, key1 = (uint64_t)a->key1;
    const double p = SCHEDULED_VALUE(a, p);
    const AlphaDropout alpha = alpha_dropout(p);
    const uint16_t threshold = (uint16_t)(p * 65536);
    const real scale = (real)alpha.scale, kept_shift = (real)alpha.kept, dropped = (real)alpha.dropped;
    uint64_t words[BLOCKS_AT_ONCE][4];
    for (int64_t i = range.start * a->n; i < end;) {
        const Draw *draws;
        const int64_t count = draws_from(a->first_draw + i, end - i, step, key0, key1, words, &draws);
        const real *x = a->A + i;
        real *y = a->out + i;
        uint8_t *kept = a->mask + i;
        for (int64_t c = 0; c < count; c++) kept[c] = draws[c] >= threshold;
        for (int64_t c = 0; c < count; c++) { /* NaN stays NaN */
            const real factor = draws[c] >= threshold ? scale : 0, shift = draws[c] >= threshold ? kept_shift : dropped;
            y[c] = FMA(x[c], factor, shift);
        }
        i += count;
    }
}
