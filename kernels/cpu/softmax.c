/* A_c = e^(z_c − m)/Σ_k e^(z_k − m), m = max z, over the units of each sample: Z and A (batch, n). A may be Z. */
ARGUMENTS(softmax, SAMPLES,
          int64_t batch;
          int64_t n;
          rows const real *Z;
          rows real *A;)

OPERATION(softmax)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *z = a->Z + j * n;
        real *out = a->A + j * n, top = z[0], total = 0;
        for (int64_t c = 1; c < n; c++) top = z[c] > top || z[c] != z[c] ? z[c] : top;
        for (int64_t c = 0; c < n; c++) out[c] = NAME(exponential)(z[c] - top);
        for (int64_t c = 0; c < n; c++) total += out[c];
        for (int64_t c = 0; c < n; c++) out[c] /= total;
    }
}
