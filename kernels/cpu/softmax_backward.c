/* dZ = A ⊙ (dA − Σ_c a_c dA_c), over the units of each sample: all (batch, n). dZ may be dA. The sum runs in LANES, and a dZ
   below 2⁻¹⁰⁰ is 0 (numbers.h). */
ARGUMENTS(softmax_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          rows const real *dA;
          rows const real *A;
          rows real *dZ;)

OPERATION(softmax_backward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *d = a->dA + j * n, *p = a->A + j * n;
        real *out = a->dZ + j * n, sum[LANES] = {0}, inner = 0;
        int64_t c = 0;
        for (; c + LANES <= n; c += LANES)
            for (int lane = 0; lane < LANES; lane++) sum[lane] = FMA(p[c + lane], d[c + lane], sum[lane]);
        for (int lane = 0; c < n; c++, lane++) sum[lane] = FMA(p[c], d[c], sum[lane]);
        for (int lane = 0; lane < LANES; lane++) inner += sum[lane];
        for (c = 0; c < n; c++) out[c] = NAME(faded)((d[c] - inner) * p[c]);
    }
}
