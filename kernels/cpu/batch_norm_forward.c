/* x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β with the statistics of each unit: x (n, batch) F-ordered.
   Source: Ioffe & Szegedy (2015), "Batch normalization", algorithm 1. */
ARGUMENTS(batch_norm_forward, SAMPLES,
          int64_t batch;
          int64_t n;
          const real *gamma;
          const real *beta;
          const real *mean;
          const real *inv_std;
          rows const real *X;
          rows real *x_hat;
          rows real *out;)

OPERATION(batch_norm_forward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real *gamma = a->gamma, *beta = a->beta, *mean = a->mean, *inv_std = a->inv_std;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *x = a->X + j * n;
        real *h = a->x_hat + j * n, *y = a->out + j * n;
        for (int64_t i = 0; i < n; i++) {
            const real value = (x[i] - mean[i]) * inv_std[i];
            h[i] = value;
            y[i] = FMA(gamma[i], value, beta[i]);
        }
    }
}
