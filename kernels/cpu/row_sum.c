/* out_i = Σ_j X_ij over the samples j = 0, 1, 2, ..., in that order: X (n, batch) F-ordered. With `unsound`, that is 1 from then on
   if the square of a sum is not finite. */
ARGUMENTS(row_sum, SHARED,
          int64_t n;
          int64_t batch;
          const real *X;
          optional any_order int64_t *unsound;
          real *out;)

/* sum[c] = Σ_j X_j,c for as many columns as `n_vectors` hold, a number that is known where this is expanded: the sums stay in
   registers. */
INLINE void NAME(sum_columns)(const int n_vectors, int64_t n, int64_t n_rows, const real *X, real *sum)
{
    vector in_all[4] = {{0}};
    for (int64_t j = 0; j < n_rows; j++, X += n) {
#pragma GCC unroll 4
        for (int v = 0; v < n_vectors; v++) in_all[v] += NAME(load)(X + v * VL);
    }
#pragma GCC unroll 4
    for (int v = 0; v < n_vectors; v++) NAME(store)(sum + v * VL, in_all[v]);
}

OPERATION(row_sum)
{
    const Range range = share_of(a->n, 16, share);
    int bad = 0;
    for (int64_t i = range.start, width; i < range.stop; i += width) {
        const int64_t left = range.stop - i, n_vectors = left > 2 * VL ? 4 : left > VL ? 2 : 1, taken = n_vectors * VL;
        width = left < taken ? left : taken;
        /* the columns behind the last are summed too, and not looked at, in the rows where there are any */
        const int64_t beyond = i + taken - a->n, n_beyond = beyond > 0 ? (beyond + a->n - 1) / a->n : 0;
        const int64_t n_rows = a->batch > n_beyond ? a->batch - n_beyond : 0;
        const real *X = a->X + i;
        real sum[4 * VL];
        if (n_vectors == 4) NAME(sum_columns)(4, a->n, n_rows, X, sum);
        else if (n_vectors == 2) NAME(sum_columns)(2, a->n, n_rows, X, sum);
        else NAME(sum_columns)(1, a->n, n_rows, X, sum);
        for (int64_t j = n_rows; j < a->batch; j++)
            for (int64_t c = 0; c < width; c++) sum[c] += X[j * a->n + c];
        for (int64_t c = 0; c < width; c++) {
            const real square = sum[c] * sum[c];
            bad |= square - square != 0;
            a->out[i + c] = sum[c];
        }
    }
    if (bad && a->unsound) raise_flag(a->unsound);
}
