/* part_k = λ₁Σ|w| + λ₂Σw² over block k of `block` parameters, each block summed in `real`. A factor of 0 makes no penalty of a
   weight that is infinite. */
ARGUMENTS(penalty, SHARED,
          int64_t n;
          int64_t block;
          double l1;
          double l2;
          const real *values;
          double *parts;)

INLINE void NAME(add_sizes)(int width, const real *w, real *sizes, real *squares)
{
    for (int lane = 0; lane < width; lane++) {
        sizes[lane] += ABS(w[lane]);
        squares[lane] = FMA(w[lane], w[lane], squares[lane]);
    }
}

OPERATION(penalty)
{
    const Range range = share_of(a->n, a->block, share);
    const real *w = a->values;
    for (int64_t start = range.start; start < range.stop; start += a->block) {
        const int64_t stop = start + a->block < range.stop ? start + a->block : range.stop;
        real sizes[NAME(WIDTH)] = {0}, squares[NAME(WIDTH)] = {0};
        int64_t i = start;
        for (; i + NAME(WIDTH) <= stop; i += NAME(WIDTH)) NAME(add_sizes)(NAME(WIDTH), w + i, sizes, squares);
        NAME(add_sizes)((int)(stop - i), w + i, sizes, squares);
        double part = 0;
        if (a->l1 != 0) part += a->l1 * NAME(sum_of_lanes)(sizes);
        if (a->l2 != 0) part += a->l2 * NAME(sum_of_lanes)(squares);
        a->parts[start / a->block] = part;
    }
}
