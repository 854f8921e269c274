/* x_g ← x_g/max(‖x_g‖, ε) for `groups` stretches of n numbers, ‖x_g‖² the sum of its `n_parts` squares (the operation penalty, λ₂ = 1).
   A stretch whose square is infinite becomes 0. */
ARGUMENTS(normalize_matrices, SHARED,
          int64_t groups;
          int64_t n;
          int64_t n_parts;
          double eps;
          const double *squares;
          real *x;)

OPERATION(normalize_matrices)
{
    const Range range = share_of(a->groups * a->n, 16, share);
    for (int64_t start = range.start; start < range.stop;) {
        const int64_t g = start / a->n, end = (g + 1) * a->n, stop = end < range.stop ? end : range.stop;
        double square = 0;
        for (int64_t k = 0; k < a->n_parts; k++) square += a->squares[g * a->n_parts + k];
        const double norm = __builtin_sqrt(square);
        const real divisor = (real)(norm > a->eps ? norm : a->eps);
        for (int64_t i = start; i < stop; i++) a->x[i] /= divisor;
        start = stop;
    }
}
