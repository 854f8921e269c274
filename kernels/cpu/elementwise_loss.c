/* ℓ = (w/n) Σ_i ρ(z_i, y_i), dZ_i = w/(n·batch) ∂ρ/∂z·scale, with e = z − y and by `kind`
       MSE    ρ = e²,   MAE  ρ = |e|,   HUBER  ρ = ½e² for |e| ≤ δ, else δ(|e| − ½δ),
       BINARY_CROSS_ENTROPY  ρ = max(z, 0) − z·y + log(1 + e^−|z|) = −y log σ(z) − (1 − y) log(1 − σ(z)).
   Z, Y, dZ (batch, n). A sample's sum runs in LANES.
   Source: Huber (1964), "Robust estimation of a location parameter". */
#ifndef FCNN_LOSSES
#define FCNN_LOSSES
enum { MSE, MAE, HUBER, BINARY_CROSS_ENTROPY };
#endif

ARGUMENTS(elementwise_loss, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t kind;
          double delta;
          rows const real *Z;
          rows const real *Y;
          optional rows const real *sample_weight;
          optional const double *loss_scale;
          rows real *losses;
          rows real *dZ;)

/* ρ, and ∂ρ/∂z in *slope */
INLINE real NAME(mse)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    const real e = z - y;
    *slope = 2 * e;
    return e * e;
}

INLINE real NAME(mae)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    const real e = z - y;
    *slope = e > 0 ? 1 : e < 0 ? -1 : e;
    return ABS(e);
}

/* With m = min(|e|, δ): ρ = m(|e| − ½m). */
INLINE real NAME(huber)(real z, real y, real delta, real *slope)
{
    const real e = z - y, size = ABS(e), m = size > delta ? delta : size;
    *slope = e > delta ? delta : e < -delta ? -delta : e;
    return m * FMA((real)-0.5, m, size);
}

INLINE real NAME(binary_cross_entropy)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    *slope = NAME(logistic)(z) - y;
    return NAME(logarithm_one_plus)(NAME(exponential)(-ABS(z))) + (z <= 0 ? 0 : z) - z * y;
}

OPERATION(elementwise_loss)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real scale = a->loss_scale ? (real)*a->loss_scale : 1, delta = (real)a->delta;
    const real of_each = 1 / (real)n, factor = (real)(1.0 / ((double)n * (double)a->batch));
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *z = a->Z + j * n, *y = a->Y + j * n, w = a->sample_weight ? a->sample_weight[j] : 1;
        real *d = a->dZ + j * n, sum[LANES] = {0}, loss = 0;
#define CASE(KIND, rule)                                                                                        \
    case KIND: {                                                                                                \
        int64_t i = 0;                                                                                          \
        for (; i + LANES <= n; i += LANES)                                                                      \
            for (int lane = 0; lane < LANES; lane++)                                                            \
                sum[lane] += NAME(rule)(z[i + lane], y[i + lane], delta, d + i + lane);                         \
        for (int lane = 0; i < n; i++, lane++) sum[lane] += NAME(rule)(z[i], y[i], delta, d + i);               \
        break;                                                                                                  \
    }
        switch (a->kind) {
            CASE(MSE, mse)
            CASE(MAE, mae)
            CASE(HUBER, huber)
            CASE(BINARY_CROSS_ENTROPY, binary_cross_entropy)
        }
#undef CASE
        for (int lane = 0; lane < LANES; lane++) loss += sum[lane];
        a->losses[j] = loss * of_each * w;
        const real whole = factor * w * scale;
        for (int64_t i = 0; i < n; i++) d[i] *= whole;
    }
}
