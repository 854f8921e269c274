/* x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β with μ and σ² over the units of each sample: x (n, batch) F-ordered.
   Source: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3. */
ARGUMENTS(layer_norm_forward, SAMPLES,
          int64_t batch;
          int64_t n;
          double eps;
          const real *gamma;
          const real *beta;
          rows const real *X;
          rows real *x_hat;
          rows real *inv_std;
          rows real *out;)

OPERATION(layer_norm_forward)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n, whole = n / LANES * LANES;
    const real one_of_all = (real)(1.0 / (double)n), eps = (real)a->eps;
    const real *gamma = a->gamma, *beta = a->beta;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *x = a->X + j * n;
        real *h = a->x_hat + j * n, *y = a->out + j * n;
        real sum[LANES] = {0}, squares[LANES] = {0};
        for (int64_t i = 0; i < whole; i += LANES)
            for (int lane = 0; lane < LANES; lane++) sum[lane] += x[i + lane];
        for (int64_t i = whole; i < n; i++) sum[i - whole] += x[i];
        const real mean = NAME(total)(sum) * one_of_all;
        for (int64_t i = 0; i < whole; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const real value = x[i + lane] - mean;
                squares[lane] = FMA(value, value, squares[lane]);
            }
        for (int64_t i = whole; i < n; i++) {
            const real value = x[i] - mean;
            squares[i - whole] = FMA(value, value, squares[i - whole]);
        }
        const real variance = NAME(total)(squares) * one_of_all + eps, inv_std = NAME(inverse_root)(variance);
        a->inv_std[j] = inv_std;
        for (int64_t i = 0; i < n; i++) {
            const real value = (x[i] - mean) * inv_std;
            h[i] = value;
            y[i] = FMA(gamma[i], value, beta[i]);
        }
    }
}
