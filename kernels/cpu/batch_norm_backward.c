/* dX = γ/√(σ² + ε) · (dY − dβ/m − x̂ dγ/m), m = batch, with dγ and dβ of `affine_gradient`. All (n, batch) F-ordered; dX may be dY.
   Source: Ioffe & Szegedy (2015), "Batch normalization", section 3. */
ARGUMENTS(batch_norm_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          const real *gamma;
          const real *inv_std;
          const real *dgamma;
          const real *dbeta;
          rows const real *x_hat;
          rows const real *dY;
          rows real *dX;)

OPERATION(batch_norm_backward)
{
    enum { WIDTH = 512 };
    const Range range = share_of(a->batch, 1, share);
    const real one_of_all = (real)(1.0 / (double)a->batch);
    for (int64_t first = 0; first < a->n; first += WIDTH) {
        const int64_t width = a->n - first < WIDTH ? a->n - first : WIDTH;
        const real *gamma = a->gamma + first, *inv_std = a->inv_std + first;
        const real *dgamma = a->dgamma + first, *dbeta = a->dbeta + first;
        real scale[WIDTH], slope[WIDTH], mean[WIDTH]; /* what is the same for all samples */
        for (int64_t i = 0; i < width; i++) {
            scale[i] = gamma[i] * inv_std[i];
            slope[i] = dgamma[i] * one_of_all;
            mean[i] = dbeta[i] * one_of_all;
        }
        for (int64_t j = range.start; j < range.stop; j++) {
            const real *h = a->x_hat + j * a->n + first, *dy = a->dY + j * a->n + first;
            real *dx = a->dX + j * a->n + first;
            for (int64_t i = 0; i < width; i++) dx[i] = FMA(-h[i], slope[i], dy[i] - mean[i]) * scale[i];
        }
    }
}
