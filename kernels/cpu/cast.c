/* out = scale·x + shift, elementwise: x, `batch` rows of n, is cast to out's type first; the product and the sum are each rounded.
   `source` says what x holds. */
ARGUMENTS(cast, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t row_bytes;
          int64_t source;
          double scale;
          double shift;
          rows const void *x;
          rows real *out;)

OPERATION(cast)
{
    const Range range = share_of(a->batch, 1, share);
    for (int64_t j = range.start; j < range.stop; j++)
        NAME(take_numbers)(a->source, (const char *)a->x + j * a->row_bytes, a->n, (real)a->scale, (real)a->shift,
                           a->out + j * a->n);
}
