/* `dropout_forward` with a p for each member, whose n/members units follow one another: rates (members), each k·2⁻¹⁶. */
ARGUMENTS(dropout_members_forward, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t members;
          int64_t first_draw;
          int64_t key0;
          int64_t key1;
          const double *rates;
          const int64_t *step;
          rows const real *A;
          rows uint8_t *mask;
          rows real *out;)

OPERATION(dropout_members_forward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t end = range.stop * a->n, of_each = a->n / a->members;
    const uint64_t step = (uint64_t)*a->step, key0 = (uint64_t)a->key0, key1 = (uint64_t)a->key1;
    uint64_t words[BLOCKS_AT_ONCE][4];
    for (int64_t i = range.start * a->n; i < end;) {
        const Draw *draws;
        const int64_t count = draws_from(a->first_draw + i, end - i, step, key0, key1, words, &draws);
        for (int64_t c = 0; c < count;) { /* the units of one member that these draws are for */
            const int64_t unit = (i + c) % a->n, left = of_each - unit % of_each, run = left < count - c ? left : count - c;
            const double p = a->rates[unit / of_each];
            const uint16_t threshold = (uint16_t)(p * 65536);
            const real scale = (real)(1 / (1 - p));
            const Draw *d = draws + c;
            const real *x = a->A + i + c;
            real *y = a->out + i + c;
            uint8_t *kept = a->mask + i + c;
            for (int64_t e = 0; e < run; e++) kept[e] = d[e] >= threshold;
            for (int64_t e = 0; e < run; e++) y[e] = x[e] * (d[e] >= threshold ? scale : 0); /* NaN stays NaN */
            c += run;
        }
        i += count;
    }
}
