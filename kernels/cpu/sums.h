/* Sums whose order the number of their terms alone decides. */

/* Σ x in double: running sum l of eight takes the elements l, l + 8, l + 16, ...; then they are added one after the other. */
INLINE double NAME(sum_of)(int64_t n, const real *x)
{
    double sum[8] = {0}, total = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int lane = 0; lane < 8; lane++) sum[lane] += (double)x[i + lane];
    for (int lane = 0; i < n; i++, lane++) sum[lane] += (double)x[i];
    for (int lane = 0; lane < 8; lane++) total += sum[lane];
    return total;
}

/* Running sums of `real`, with which one block of a sum over many is made; element i goes to sum i mod WIDTH. */
enum { NAME(WIDTH) = 4 * LANES };

INLINE double NAME(sum_of_lanes)(const real *sum)
{
    double total = 0;
    for (int lane = 0; lane < NAME(WIDTH); lane++) total += (double)sum[lane];
    return total;
}
