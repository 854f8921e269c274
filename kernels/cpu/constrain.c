/* w ← max(w, 0) if `non_negative`, then w_i ← w_i·c/‖w_i‖ with c = min(max(‖w_i‖, least), most): w_i the weights into unit i, row i
   of W (n, n_in), F-ordered. A row within the limits stays as it is, and so does one of zeros; nothing happens once a step has failed,
   or in one that is skipped. Source: Srivastava et al. (2014), "Dropout", section 5.1. */
#define CONSTRAINED 32

ARGUMENTS(constrain, SHARED,
          int64_t n;
          int64_t n_in;
          int64_t non_negative;
          double least;
          double most;
          const int64_t *failed_step;
          optional const int64_t *skip;
          real *W;)

/* Units first ... first + width − 1. */
INLINE void NAME(constrain_units)(const NAME(constrain_arguments) * a, int64_t first, int64_t width)
{
    const real least = (real)a->least, most = (real)a->most;
    real *W = a->W + first, factors[CONSTRAINED] = {0};
    int changes = 0;
    for (int64_t j = 0; j < a->n_in; j++) {
        real *restrict w = W + j * a->n;
        for (int64_t c = 0; c < width; c++) {
            const real kept = a->non_negative && w[c] < 0 ? 0 : w[c];
            w[c] = kept;
            factors[c] = FMA(kept, kept, factors[c]);
        }
    }
    for (int64_t c = 0; c < width; c++) {
        const real norm = SQRT(factors[c]), low = norm < least ? least : norm, limited = low > most ? most : low;
        factors[c] = norm == 0 || limited == norm ? 1 : limited / norm;
        changes |= factors[c] != 1;
    }
    for (int64_t j = 0; changes && j < a->n_in; j++) {
        real *restrict w = W + j * a->n;
        for (int64_t c = 0; c < width; c++) w[c] *= factors[c];
    }
}

OPERATION(constrain)
{
    if (*a->failed_step >= 0 || (a->skip && *a->skip >= 0)) return;
    const Range range = share_of(a->n, CONSTRAINED, share);
    int64_t i = range.start;
    for (; i + CONSTRAINED <= range.stop; i += CONSTRAINED) NAME(constrain_units)(a, i, CONSTRAINED);
    if (i < range.stop) NAME(constrain_units)(a, i, range.stop - i);
}
#undef CONSTRAINED
