/* With dx̂ = γ dY: dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε), the means over the units of each sample. All (n, batch)
   F-ordered; dX may be dY. dγ and dβ are `affine_gradient`'s.
   Source: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3. */
ARGUMENTS(layer_norm_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          const real *gamma;
          rows const real *inv_std;
          rows const real *x_hat;
          rows const real *dY;
          rows real *dX;)

OPERATION(layer_norm_backward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n, whole = n / LANES * LANES;
    const real one_of_all = (real)(1.0 / (double)n);
    const real *gamma = a->gamma;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *h = a->x_hat + j * n, *dy = a->dY + j * n;
        real *dx = a->dX + j * n;
        real sum[LANES] = {0}, products[LANES] = {0};
        for (int64_t i = 0; i < whole; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const real d = gamma[i + lane] * dy[i + lane];
                sum[lane] += d;
                products[lane] = FMA(d, h[i + lane], products[lane]);
            }
        for (int64_t i = whole; i < n; i++) {
            const real d = gamma[i] * dy[i];
            sum[i - whole] += d;
            products[i - whole] = FMA(d, h[i], products[i - whole]);
        }
        const real mean = NAME(total)(sum) * one_of_all, slope = NAME(total)(products) * one_of_all, inv_std = a->inv_std[j];
        for (int64_t i = 0; i < n; i++) dx[i] = (FMA(-h[i], slope, gamma[i] * dy[i]) - mean) * inv_std;
    }
}
