/* What the products with sparse samples have in common. */
#ifndef FCNN_FIRST_FROM
#define FCNN_FIRST_FROM
/* The first place from `start` on, before `stop`, whose column is `column` or comes behind it. */
INLINE int64_t first_from(const int32_t *columns, int64_t start, int64_t stop, int64_t column)
{
    while (start < stop) {
        const int64_t middle = start + (stop - start) / 2;
        if (columns[middle] < column) start = middle + 1;
        else stop = middle;
    }
    return start;
}
#endif

/* y += v·x */
INLINE void NAME(add_scaled)(int64_t n, real v, const real *restrict x, real *restrict y)
{
    for (int64_t i = 0; i < n; i++) y[i] = FMA(v, x[i], y[i]);
}
