/* The sums over the rows of a matrix; included after vector.h. */

/* sum[c] = Σ_j X_j,c for as many columns as `n_vectors` hold, a number that is known where this is expanded: the sums stay in
   registers. */
INLINE void NAME(sum_vectors)(const int n_vectors, int64_t n, int64_t n_rows, const real *X, real *sum)
{
    vector in_all[4] = {{0}};
    for (int64_t j = 0; j < n_rows; j++, X += n) {
#pragma GCC unroll 4
        for (int v = 0; v < n_vectors; v++) in_all[v] += NAME(load)(X + v * VL);
    }
#pragma GCC unroll 4
    for (int v = 0; v < n_vectors; v++) NAME(store)(sum + v * VL, in_all[v]);
}

/* out_i = Σ_j X_j,i for the columns i = start ... stop − 1 of X (n_rows, n), in the order of the rows. Whether the square of one of them is
   not finite. */
INLINE int NAME(sum_columns)(int64_t start, int64_t stop, int64_t n, int64_t n_rows, const real *X, real *out)
{
    int bad = 0;
    for (int64_t i = start, width; i < stop; i += width) {
        const int64_t left = stop - i, n_vectors = left > 2 * VL ? 4 : left > VL ? 2 : 1, taken = n_vectors * VL;
        width = left < taken ? left : taken;
        /* the columns behind the last are summed too, and not looked at, in the rows where there are any */
        const int64_t beyond = i + taken - n, n_beyond = beyond > 0 ? (beyond + n - 1) / n : 0;
        const int64_t n_full = n_rows > n_beyond ? n_rows - n_beyond : 0;
        real sum[4 * VL];
        if (n_vectors == 4) NAME(sum_vectors)(4, n, n_full, X + i, sum);
        else if (n_vectors == 2) NAME(sum_vectors)(2, n, n_full, X + i, sum);
        else NAME(sum_vectors)(1, n, n_full, X + i, sum);
        for (int64_t j = n_full; j < n_rows; j++)
            for (int64_t c = 0; c < width; c++) sum[c] += X[j * n + i + c];
        for (int64_t c = 0; c < width; c++) {
            const real square = sum[c] * sum[c];
            bad |= square - square != 0;
            out[i + c] = sum[c];
        }
    }
    return bad;
}
