/* 1/√x as √x/x: NaN where a variance has overflowed. 0 there would hide it behind finite outputs. */
INLINE real NAME(inverse_root)(real x) { return SQRT(x) / x; }

/* Of samples range.start ... range.stop − 1, of `groups` times n units each, with the moments of each group: x̂ = (x − μ)/√(σ² + ε),
   out = γ x̂ + β if `centred`, else x̂ = x/√(mean x² + ε), out = γ x̂. `centred` is known where this is expanded. */
INLINE void NAME(normalize_samples)(const int centred, Range range, int64_t groups, int64_t n, real eps, const real *gammas,
                                    const real *betas, const real *X, real *x_hat, real *inverse_roots, real *out)
{
    const int64_t whole = n / LANES * LANES;
    const real one_of_all = (real)(1.0 / (double)n);
    for (int64_t j = range.start * groups, group = 0; j < range.stop * groups; j++, group = group + 1 < groups ? group + 1 : 0) {
        const real *x = X + j * n, *gamma = gammas + group * n, *beta = centred ? betas + group * n : NULL;
        real *h = x_hat + j * n, *y = out + j * n;
        real sum[LANES] = {0}, squares[LANES] = {0}, mean = 0;
        if (centred) {
            for (int64_t i = 0; i < whole; i += LANES)
                for (int lane = 0; lane < LANES; lane++) sum[lane] += x[i + lane];
            for (int64_t i = whole; i < n; i++) sum[i - whole] += x[i];
            mean = NAME(total)(sum) * one_of_all;
        }
        for (int64_t i = 0; i < whole; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const real value = centred ? x[i + lane] - mean : x[i + lane];
                squares[lane] = FMA(value, value, squares[lane]);
            }
        for (int64_t i = whole; i < n; i++) {
            const real value = centred ? x[i] - mean : x[i];
            squares[i - whole] = FMA(value, value, squares[i - whole]);
        }
        const real variance = NAME(total)(squares) * one_of_all + eps, factor = NAME(inverse_root)(variance);
        inverse_roots[j] = factor;
        for (int64_t i = 0; i < n; i++) {
            const real value = (centred ? x[i] - mean : x[i]) * factor;
            h[i] = value;
            y[i] = centred ? FMA(gamma[i], value, beta[i]) : gamma[i] * value;
        }
    }
}

/* With dx̂ = γ dY: dX = (dx̂ − mean dx̂ − x̂ mean(dx̂ x̂))·factor if `centred`, else (dx̂ − x̂ mean(dx̂ x̂))·factor; dX may be dY. */
INLINE void NAME(normalize_samples_backward)(const int centred, Range range, int64_t groups, int64_t n, const real *gammas,
                                             const real *inverse_roots, const real *x_hat, const real *dY, real *dX)
{
    const int64_t whole = n / LANES * LANES;
    const real one_of_all = (real)(1.0 / (double)n);
    for (int64_t j = range.start * groups, group = 0; j < range.stop * groups; j++, group = group + 1 < groups ? group + 1 : 0) {
        const real *h = x_hat + j * n, *dy = dY + j * n, *gamma = gammas + group * n;
        real *dx = dX + j * n;
        real sum[LANES] = {0}, products[LANES] = {0};
        for (int64_t i = 0; i < whole; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const real d = gamma[i + lane] * dy[i + lane];
                if (centred) sum[lane] += d;
                products[lane] = FMA(d, h[i + lane], products[lane]);
            }
        for (int64_t i = whole; i < n; i++) {
            const real d = gamma[i] * dy[i];
            if (centred) sum[i - whole] += d;
            products[i - whole] = FMA(d, h[i], products[i - whole]);
        }
        const real mean = centred ? NAME(total)(sum) * one_of_all : 0;
        const real slope = NAME(total)(products) * one_of_all, factor = inverse_roots[j];
        for (int64_t i = 0; i < n; i++) {
            const real d = FMA(-h[i], slope, gamma[i] * dy[i]);
            dx[i] = (centred ? d - mean : d) * factor;
        }
    }
}
