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
    enum { BLOCK = 4096 }; /* stays in cache between the cast, the product and the sum */
    const Range range = share_of(a->batch, 1, share);
    const int64_t bytes = a->n ? a->row_bytes / a->n : 0, stop = range.stop * a->n;
    for (int64_t i = range.start * a->n; i < stop; i += BLOCK)
        NAME(take_numbers)(a->source, (const char *)a->x + i * bytes, stop - i < BLOCK ? stop - i : BLOCK, (real)a->scale,
                           (real)a->shift, a->out + i);
}
