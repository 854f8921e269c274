/* ℓ = (w/n) Σ_i u_i ρ(z_i, y_i), dZ_i = u_i w/(n·batch) ∂ρ/∂z·scale, with e = z − y and by `kind`
       MSE    ρ = e²,   MAE  ρ = |e|,   HUBER  ρ = ½e² for |e| ≤ δ, else δ(|e| − ½δ),   LOG_COSH  ρ = log cosh e,
       BINARY_CROSS_ENTROPY  ρ = max(z, 0) − z·y + log(1 + e^−|z|) = −y log σ(z) − (1 − y) log(1 − σ(z)), or with smoothed
                             or weighted targets, ỹ = (1 − δ)y + ½δ, −v_i ỹ log σ(z) − (1 − ỹ) log(1 − σ(z)),
       QUANTILE  ρ = (1 − v_i)e for e > 0, else −v_i e,   POISSON  ρ = e^z − y·z,
       HINGE  ρ = max(0, m), m = 1 − (2y − 1)z,   SQUARED_HINGE  ρ = max(0, m)².
   Z, Y, dZ (batch, n); u `output_weight` and v `of_output` (n), 1 where null. A sample's sum runs in LANES.
   A dZ below 2⁻¹⁰⁰ is 0 (numbers.h).
   Sources: Huber (1964), "Robust estimation of a location parameter"; Koenker & Bassett (1978), "Regression quantiles". */
#ifndef FCNN_LOSSES
#define FCNN_LOSSES
enum { MSE, MAE, HUBER, BINARY_CROSS_ENTROPY, QUANTILE, POISSON, LOG_COSH, HINGE, SQUARED_HINGE };
#endif

ARGUMENTS(elementwise_loss, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t kind;
          double delta;
          rows const real *Z;
          rows const real *Y;
          optional const real *output_weight;
          optional const real *of_output;
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

/* With l = log(1 + e^−|z|): ρ = vỹ(max(−z, 0) + l) + (1 − ỹ)(max(z, 0) + l), no term of which is negative. */
INLINE real NAME(smoothed_cross_entropy)(real z, real y, real delta, real v, real *slope)
{
    const real l = NAME(logarithm_one_plus_falling)(z), smooth = FMA(1 - delta, y, (real)0.5 * delta);
    const real positive = v * smooth, negative = 1 - smooth;
    *slope = FMA(NAME(logistic)(z), positive + negative, -positive);
    return FMA(positive, (z >= 0 ? 0 : -z) + l, negative * ((z <= 0 ? 0 : z) + l));
}

INLINE real NAME(quantile)(real z, real y, __attribute__((unused)) real delta, real v, real *slope)
{
    const real e = z - y;
    *slope = e > 0 ? 1 - v : e < 0 ? -v : e;
    return e * *slope;
}

INLINE real NAME(poisson)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    const real rate = NAME(exponential)(z);
    *slope = rate - y;
    return FMA(-z, y, rate);
}

/* −½ log(1 − tanh² e) below 1, where |e| + log(1 + e^−2|e|) − log 2 would cancel */
INLINE real NAME(log_cosh)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    const real e = z - y, size = ABS(e), t = NAME(hyperbolic_tangent)(e);
    const real l = NAME(logarithm_one_plus)(size < 1 ? -t * t : NAME(falling_exponential)(2 * size));
    *slope = t;
    return size < 1 ? (real)-0.5 * l : l + (size - (real)0.69314718055994530942);
}

INLINE real NAME(hinge)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    const real label = FMA(-2, y, 1), m = FMA(label, z, 1);
    *slope = m > 0 ? label : m < 0 ? 0 : m;
    return m < 0 ? 0 : m;
}

INLINE real NAME(squared_hinge)(real z, real y, __attribute__((unused)) real delta, real *slope)
{
    const real label = FMA(-2, y, 1), m = FMA(label, z, 1), margin = m < 0 ? 0 : m;
    *slope = 2 * (label * margin);
    return margin * margin;
}

/* ρ of `size` elements that lie one after the other, and their slopes; v is null where it and δ change nothing. */
static void NAME(rules)(int64_t kind, int64_t size, const real *z, const real *y, real delta, const real *v, real *rho, real *slope)
{
#define CASE(KIND, rule)                                                                        \
    case KIND:                                                                                  \
        for (int64_t i = 0; i < size; i++) rho[i] = NAME(rule)(z[i], y[i], delta, slope + i);   \
        break;
#define CASE_OF_OUTPUT(rule)                                                                          \
    for (int64_t i = 0; i < size; i++) rho[i] = NAME(rule)(z[i], y[i], delta, v[i], slope + i);
    switch (kind) {
        CASE(MSE, mse)
        CASE(MAE, mae)
        CASE(HUBER, huber)
        CASE(POISSON, poisson)
        CASE(LOG_COSH, log_cosh)
        CASE(HINGE, hinge)
        CASE(SQUARED_HINGE, squared_hinge)
        case QUANTILE: CASE_OF_OUTPUT(quantile) break;
        case BINARY_CROSS_ENTROPY:
            if (v) CASE_OF_OUTPUT(smoothed_cross_entropy)
            else for (int64_t i = 0; i < size; i++) rho[i] = NAME(binary_cross_entropy)(z[i], y[i], delta, slope + i);
            break;
    }
#undef CASE
#undef CASE_OF_OUTPUT
}

/* A number of each output, n, in the order of the elements of `samples` samples; 1 each where there is none. */
INLINE void NAME(spread)(int64_t n, int64_t samples, const real *of_output, real *tile)
{
    for (int64_t s = 0; s < samples; s++)
        for (int64_t i = 0; i < n; i++) tile[s * n + i] = of_output ? of_output[i] : 1;
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
    real rho[TILE], weights[TILE], numbers[TILE];
    const int has_numbers = a->of_output || (a->kind == BINARY_CROSS_ENTROPY && delta != 0);
    const int64_t spread = n < TILE ? n : TILE;
    if (a->output_weight) NAME(spread)(spread, together, a->output_weight, weights);
    if (has_numbers) NAME(spread)(spread, together, a->of_output, numbers);
    for (int64_t first = range.start; first < range.stop; first += together) {
        const int64_t count = range.stop - first < together ? range.stop - first : together;
        const real *z = a->Z + first * n, *y = a->Y + first * n;
        real *d = a->dZ + first * n, sum[LANES] = {0};
        for (int64_t start = 0; start < count * n; start += TILE) { /* more than one tile only where a sample has more */
            const int64_t size = count * n - start < TILE ? count * n - start : TILE;
            if (n > TILE && a->output_weight) NAME(spread)(size, 1, a->output_weight + start, weights);
            if (n > TILE && a->of_output) NAME(spread)(size, 1, a->of_output + start, numbers);
            NAME(rules)(a->kind, size, z + start, y + start, delta, has_numbers ? numbers : 0, rho, d + start);
            if (a->output_weight)
                for (int64_t i = 0; i < size; i++) {
                    rho[i] *= weights[i];
                    d[start + i] *= weights[i];
                }
            if (together > 1) break;
            NAME(add_in_lanes)(size, rho, sum);
        }
        if (n == 1) {
            real *losses = a->losses + first;
            for (int64_t s = 0; s < count; s++) losses[s] = rho[s];
            for (int64_t s = 0; s < count; s++) d[s] = NAME(faded)(d[s] * (factor * scale));
            if (a->sample_weight)
                for (int64_t s = 0; s < count; s++) {
                    losses[s] *= a->sample_weight[first + s];
                    d[s] = NAME(faded)(d[s] * a->sample_weight[first + s]);
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
            for (int64_t i = 0; i < n; i++) d[s * n + i] = NAME(faded)(d[s * n + i] * whole);
        }
    }
}
