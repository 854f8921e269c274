/* out = factor·x, elementwise: `batch` rows of n. out may be x. */
ARGUMENTS(scale, SAMPLES,
          int64_t batch;
          int64_t n;
          double factor;
          rows const real *x;
          rows real *out;)

OPERATION(scale)
{
    const Range range = share_of(a->batch, 1, share);
    const real factor = (real)a->factor, *x = a->x;
    real *out = a->out;
    for (int64_t i = range.start * a->n; i < range.stop * a->n; i++) out[i] = factor * x[i];
}
