/* count ← count + the number of elements of x that are NaN or infinite */
ARGUMENTS(count_nonfinite, SHARED,
          int64_t n;
          const real *x;
          any_order int64_t *count;)

OPERATION(count_nonfinite)
{
    enum { BLOCK = 4096 };
    const Range range = share_of(a->n, 16, share);
    int64_t count = 0;
    for (int64_t start = range.start; start < range.stop; start += BLOCK) {
        const int64_t stop = start + BLOCK < range.stop ? start + BLOCK : range.stop;
        integer found = 0; /* of the elements' width, as vectors count */
        for (int64_t i = start; i < stop; i++) found += a->x[i] - a->x[i] != 0;
        count += found;
    }
    if (count) atomic_fetch_add_explicit((_Atomic int64_t *)a->count, count, memory_order_relaxed);
}
