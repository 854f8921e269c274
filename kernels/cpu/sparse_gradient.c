/* dW_i = Σ_j v_p·dZ_j over the samples j = 0, 1, 2, ... that have a number p in column i, in that order, and 0 where none has: extents,
   columns and values as in sparse_product, v_p = scale·values[p]. With `accumulate` the sums begin with what dW holds. dZ (n, batch),
   dW (n, n_in) F-ordered. By columns. With `unsound`, that is 1 from then on if the square of a sum is not finite. */
ARGUMENTS(sparse_gradient, SHARED,
          int64_t batch;
          int64_t n;
          int64_t n_in;
          int64_t accumulate;
          double scale;
          const real *dZ;
          const int64_t *extents;
          const int32_t *columns;
          const real *values;
          optional any_order int64_t *unsound;
          real *dW;)

OPERATION(sparse_gradient)
{
    enum { MOST_STRIPS = 32 }; /* each looks through all samples */
    const Range range = share_of(a->n_in, (a->n_in + MOST_STRIPS - 1) / MOST_STRIPS, share);
    if (range.start >= range.stop) return;
    const int64_t n = a->n;
    const real scale = (real)a->scale;
    int bad = 0;
    if (!a->accumulate) memset(a->dW + range.start * n, 0, (size_t)((range.stop - range.start) * n) * sizeof(real));
    for (int64_t j = 0; j < a->batch; j++) {
        const int64_t stop = a->extents[2 * j + 1];
        for (int64_t p = first_from(a->columns, a->extents[2 * j], stop, range.start); p < stop && a->columns[p] < range.stop; p++)
            NAME(add_scaled)(n, scale * a->values[p], a->dZ + j * n, a->dW + a->columns[p] * n);
    }
    if (!a->unsound) return;
    for (int64_t j = 0; j < a->batch; j++) { /* a column as often as it occurs, which is still fewer than there are */
        const int64_t stop = a->extents[2 * j + 1];
        for (int64_t p = first_from(a->columns, a->extents[2 * j], stop, range.start); p < stop && a->columns[p] < range.stop; p++)
            for (int64_t i = 0; i < n; i++) {
                const real g = a->dW[a->columns[p] * n + i], square = g * g;
                bad |= square - square != 0;
            }
    }
    if (bad) raise_flag(a->unsound);
}
