/* The gradient of repeat_units: dx_ji = Σ_g d_j,g·n+i in the order of g: d (batch, members·n), dx (batch, n). */
ARGUMENTS(sum_repeats, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t members;
          rows const real *d;
          rows real *dx;)

OPERATION(sum_repeats)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real *d = a->d + range.start * n * a->members;
    for (int64_t j = range.start; j < range.stop; j++) {
        real *const dx = a->dx + j * n;
        for (int64_t i = 0; i < n; i++) dx[i] = d[i];
        d += n;
        for (int64_t g = 1; g < a->members; g++, d += n)
            for (int64_t i = 0; i < n; i++) dx[i] += d[i];
    }
}
