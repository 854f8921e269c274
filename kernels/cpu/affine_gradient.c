/* dγ_i = Σ_j dy_ij x̂_ij and, if asked for, dβ_i = Σ_j dy_ij over the samples j = 0, 1, 2, ..., in that order: dY, x_hat (n, batch) F-ordered. With
   `unsound`, that is 1 from then on if the square of a sum is not finite. */
ARGUMENTS(affine_gradient, SHARED,
          int64_t n;
          int64_t batch;
          const real *dY;
          const real *x_hat;
          optional any_order int64_t *unsound;
          real *dgamma;
          optional real *dbeta;)

/* Of `width` units; whether one is unsound. */
INLINE int NAME(affine_gradient_of)(const NAME(affine_gradient_arguments) * a, int64_t first, int64_t width)
{
    enum { MOST = 64 };
    real slope[MOST] = {0}, shift[MOST] = {0};
    for (int64_t j = 0; j < a->batch; j++) {
        const real *dy = a->dY + j * a->n + first, *h = a->x_hat + j * a->n + first;
        for (int64_t c = 0; c < width; c++) {
            slope[c] = FMA(dy[c], h[c], slope[c]);
            shift[c] += dy[c];
        }
    }
    int bad = 0;
    for (int64_t c = 0; c < width; c++) {
        const real squares[] = {slope[c] * slope[c], shift[c] * shift[c]};
        bad |= squares[0] - squares[0] != 0 || (a->dbeta && squares[1] - squares[1] != 0);
        a->dgamma[first + c] = slope[c];
        if (a->dbeta) a->dbeta[first + c] = shift[c];
    }
    return bad;
}

OPERATION(affine_gradient)
{
    enum { WIDTH = 64 };
    const Range range = share_of(a->n, 16, share);
    int bad = 0;
    for (int64_t i = range.start; i < range.stop; i += WIDTH)
        if (range.stop - i >= WIDTH) bad |= NAME(affine_gradient_of)(a, i, WIDTH);
        else bad |= NAME(affine_gradient_of)(a, i, range.stop - i);
    if (bad && a->unsound) raise_flag(a->unsound);
}
