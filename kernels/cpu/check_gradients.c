/* unsound ← 1 if the square of any gradient is not finite. */
ARGUMENTS(check_gradients, SHARED,
          int64_t n;
          const real *gradients;
          any_order int64_t *unsound;)

OPERATION(check_gradients)
{
    const Range range = share_of(a->n, 16, share);
    const real *g = a->gradients;
    real sum[4 * LANES] = {0};
    int64_t i = range.start;
    for (; i + 4 * LANES <= range.stop; i += 4 * LANES)
        for (int lane = 0; lane < 4 * LANES; lane++) {
            const real square = g[i + lane] * g[i + lane];
            sum[lane] += square - square; /* ∞ − ∞ is NaN */
        }
    for (int lane = 0; i < range.stop; i++, lane++) {
        const real square = g[i] * g[i];
        sum[lane] += square - square;
    }
    int bad = 0;
    for (int lane = 0; lane < 4 * LANES; lane++) bad |= sum[lane] != 0;
    if (bad) raise_flag(a->unsound);
}
