/* out_i = Σ_j X_ij over the samples j = 0, 1, 2, ..., in that order: X (n, batch) F-ordered. With `unsound`, that is 1 from then on
   if the square of a sum is not finite. */
ARGUMENTS(row_sum, SHARED,
          int64_t n;
          int64_t batch;
          const real *X;
          optional any_order int64_t *unsound;
          real *out;)

OPERATION(row_sum)
{
    enum { WIDTH = 64 };
    const Range range = share_of(a->n, 16, share);
    int bad = 0;
    for (int64_t i = range.start; i < range.stop; i += WIDTH) {
        const int64_t width = range.stop - i < WIDTH ? range.stop - i : WIDTH;
        real sum[WIDTH] = {0};
        if (width == WIDTH)
            for (int64_t j = 0; j < a->batch; j++) {
                const real *x = a->X + j * a->n + i;
                for (int c = 0; c < WIDTH; c++) sum[c] += x[c];
            }
        else
            for (int64_t j = 0; j < a->batch; j++) {
                const real *x = a->X + j * a->n + i;
                for (int64_t c = 0; c < width; c++) sum[c] += x[c];
            }
        for (int64_t c = 0; c < width; c++) {
            const real square = sum[c] * sum[c];
            bad |= square - square != 0;
            a->out[i + c] = sum[c];
        }
    }
    if (bad && a->unsound) raise_flag(a->unsound);
}
