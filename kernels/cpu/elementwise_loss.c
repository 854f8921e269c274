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
    return NAME(logarithm_one_plus_falling)(z) + (z <= 0 ? 0 : z) - z * y;
}

/* ρ of `size` elements that lie one after the other, and their slopes. */
static void NAME(rules)(int64_t kind, int64_t size, const real *z, const real *y, real delta, real *rho, real *slope)
{
#define CASE(KIND, rule)                                                                        \
    case KIND:                                                                                  \
        for (int64_t i = 0; i < size; i++) rho[i] = NAME(rule)(z[i], y[i], delta, slope + i);   \
        break;
    switch (kind) {
        CASE(MSE, mse)
        CASE(MAE, mae)
        CASE(HUBER, huber)
        CASE(BINARY_CROSS_ENTROPY, binary_cross_entropy)
    }
#undef CASE
}

/* sum of lane l ← itself + Σ x_i over i = l, l + LANES, ... */
INLINE void NAME(add_in_lanes)(int64_t n, const real *x, real *sum)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sum[lane] += x[i + lane];
    for (int lane = 0; i < n; i++, lane++) sum[lane] += x[i];
}

OPERATION(elementwise_loss)
{
    enum { TILE = 64 * LANES };
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n, together = n < TILE ? TILE / n : 1; /* samples of a tile */
    const real scale = a->loss_scale ? (real)*a->loss_scale : 1, delta = (real)a->delta;
    const real of_each = 1 / (real)n, factor = (real)(1.0 / ((double)n * (double)a->batch));
    real rho[TILE];
    for (int64_t first = range.start; first < range.stop; first += together) {
        const int64_t count = range.stop - first < together ? range.stop - first : together;
        const real *z = a->Z + first * n, *y = a->Y + first * n;
        real *d = a->dZ + first * n, sum[LANES] = {0};
        for (int64_t start = 0; start < count * n; start += TILE) { /* more than one tile only where a sample has more */
            const int64_t size = count * n - start < TILE ? count * n - start : TILE;
            NAME(rules)(a->kind, size, z + start, y + start, delta, rho, d + start);
            if (together > 1) break;
            NAME(add_in_lanes)(size, rho, sum);
        }
        if (n == 1) {
            real *losses = a->losses + first;
            for (int64_t s = 0; s < count; s++) losses[s] = rho[s];
            for (int64_t s = 0; s < count; s++) d[s] *= factor * scale;
            if (a->sample_weight)
                for (int64_t s = 0; s < count; s++) {
                    losses[s] *= a->sample_weight[first + s];
                    d[s] *= a->sample_weight[first + s];
                }
            continue;
        }
        for (int64_t s = 0; s < count; s++) {
            const real w = a->sample_weight ? a->sample_weight[first + s] : 1, whole = factor * w * scale;
            real loss = 0;
            if (together > 1) {
                for (int lane = 0; lane < LANES; lane++) sum[lane] = 0;
                NAME(add_in_lanes)(n, rho + s * n, sum);
            }
            for (int lane = 0; lane < LANES && lane < n; lane++) loss += sum[lane];
            a->losses[first + s] = loss * of_each * w;
            for (int64_t i = 0; i < n; i++) d[s * n + i] *= whole;
        }
    }
}
