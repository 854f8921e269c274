/* μ = mean_j x_j, σ² = mean_j (x_j − μ)², 1/√(σ² + ε), for each unit, the sums over the samples j = 0, 1, 2, ... in that order: X
   (n, batch) F-ordered. And running ← (1 − momentum)·running + momentum·(μ, σ²·m/(m − 1)), m = batch.
   Source: Ioffe & Szegedy (2015), "Batch normalization", algorithm 1. */
ARGUMENTS(batch_norm_statistics, SHARED,
          int64_t n;
          int64_t batch;
          double eps;
          double momentum;
          const real *X;
          real *mean;
          real *inv_std;
          real *running_mean;
          real *running_var;)

/* Of `width` units from X on, constant for most, so that their sums stay in registers. */
INLINE void NAME(statistics_of)(const NAME(batch_norm_statistics_arguments) * a, int64_t first, int64_t width)
{
    enum { MOST = 64 };
    const int64_t m = a->batch;
    const real one_of_all = (real)(1.0 / (double)m), eps = (real)a->eps, kept = (real)(1.0 - a->momentum);
    const real weight = (real)a->momentum;
    const real unbiased = (real)(a->momentum * (m > 1 ? (double)m / (double)(m - 1) : 1.0));
    real sum[MOST] = {0}, mean[MOST], squares[MOST] = {0};
    for (int64_t j = 0; j < m; j++) {
        const real *x = a->X + j * a->n + first;
        for (int64_t c = 0; c < width; c++) sum[c] += x[c];
    }
    for (int64_t c = 0; c < width; c++) mean[c] = sum[c] * one_of_all;
    for (int64_t j = 0; j < m; j++) {
        const real *x = a->X + j * a->n + first;
        for (int64_t c = 0; c < width; c++) {
            const real h = x[c] - mean[c];
            squares[c] = FMA(h, h, squares[c]);
        }
    }
    for (int64_t c = 0; c < width; c++) {
        const int64_t i = first + c;
        const real variance = squares[c] * one_of_all, all = variance + eps;
        a->mean[i] = mean[c];
        a->inv_std[i] = NAME(inverse_root)(all);
        a->running_mean[i] = FMA(kept, a->running_mean[i], weight * mean[c]);
        a->running_var[i] = FMA(kept, a->running_var[i], unbiased * variance);
    }
}

OPERATION(batch_norm_statistics)
{
    enum { WIDTH = 64 };
    const Range range = share_of(a->n, 16, share);
    for (int64_t i = range.start; i < range.stop; i += WIDTH)
        if (range.stop - i >= WIDTH) NAME(statistics_of)(a, i, WIDTH);
        else NAME(statistics_of)(a, i, range.stop - i);
}
