/* out_j = x_j, the bytes of each sample's row. */
ARGUMENTS(copy_rows, SAMPLES,
          int64_t batch;
          int64_t row_bytes;
          rows const void *x;
          rows void *out;)

OPERATION(copy_rows)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t start = range.start * a->row_bytes;
    memcpy((char *)a->out + start, (const char *)a->x + start, (size_t)((range.stop - range.start) * a->row_bytes));
}
