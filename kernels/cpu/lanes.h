/* The sum of the running sums that a sum over elements is made of: halves are added to halves, so its order is that of LANES. */
INLINE real NAME(total)(real *sum)
{
#pragma GCC unroll 8
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++) sum[lane] += sum[lane + half];
    return sum[0];
}
