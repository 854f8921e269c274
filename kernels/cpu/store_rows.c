/* out[cursor + j] = X_j for the rows X_j, row_bytes each. */
ARGUMENTS(store_rows, SAMPLES,
          int64_t batch;
          int64_t row_bytes;
          rows const void *X;
          const int64_t *cursor;
          void *out;)

OPERATION(store_rows)
{
    const Range range = share_of(a->batch, 1, share);
    memcpy((char *)a->out + (*a->cursor + range.start) * a->row_bytes, (const char *)a->X + range.start * a->row_bytes,
           (size_t)((range.stop - range.start) * a->row_bytes));
}
