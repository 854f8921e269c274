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
    enum { WIDTH = 512 };
    const Range range = share_of(a->batch, 1, share);
    for (int64_t first = 0; first < a->n; first += WIDTH) {
        const int64_t width = a->n - first < WIDTH ? a->n - first : WIDTH;
        real gamma[WIDTH], beta[WIDTH], mean[WIDTH], inv_std[WIDTH]; /* copies, which no array that is written can overlap */
        for (int64_t i = 0; i < width; i++) gamma[i] = a->gamma[first + i];
        for (int64_t i = 0; i < width; i++) beta[i] = a->beta[first + i];
        for (int64_t i = 0; i < width; i++) mean[i] = a->mean[first + i];
        for (int64_t i = 0; i < width; i++) inv_std[i] = a->inv_std[first + i];
        for (int64_t j = range.start; j < range.stop; j++) {
            const real *x = a->X + j * a->n + first;
            real *h = a->x_hat + j * a->n + first, *y = a->out + j * a->n + first;
            for (int64_t i = 0; i < width; i++) {
                const real value = (x[i] - mean[i]) * inv_std[i];
                h[i] = value;
                y[i] = FMA(gamma[i], value, beta[i]);
            }
        }
    }
}
