/* out = x + y, elementwise: `batch` rows of n. out may be x or y. */
ARGUMENTS(add, SAMPLES,
          int64_t batch;
          int64_t n;
          rows const real *x;
          rows const real *y;
          rows real *out;)

OPERATION(add)
{
    const Range range = share_of(a->batch, 1, share);
    const real *x = a->x, *y = a->y;
    real *out = a->out;
    for (int64_t i = range.start * a->n; i < range.stop * a->n; i++) out[i] = x[i] + y[i];
}
