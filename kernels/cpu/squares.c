/* bare_k = Σ g² and whole_k = Σ (g + 2λ₂w + λ₁ sign(w))² over block k of `block` parameters, g the gradient over loss_scale, and
   each block summed in `real`: neither is finite if one of its terms is not. */
ARGUMENTS(squares, SHARED,
          int64_t n;
          int64_t block;
          double l1;
          double l2;
          optional const double *loss_scale;
          const real *gradients;
          const real *values;
          double *bare;
          double *whole;)

INLINE void NAME(add_squares)(int kind, const NAME(change) * change, int width, const real *g, const real *w, real *bare,
                              real *whole)
{
    for (int lane = 0; lane < width; lane++) {
        const real unscaled = kind == UNCHANGED ? g[lane] : g[lane] * change->inverse_scale;
        bare[lane] = FMA(unscaled, unscaled, bare[lane]);
        if (kind == UNCHANGED) continue;
        const real h = NAME(changed)(kind, change, g[lane], w[lane]);
        whole[lane] = FMA(h, h, whole[lane]);
    }
}

INLINE void NAME(squares_pass)(int kind, const NAME(change) * change, const NAME(squares_arguments) * a, Range range)
{
    for (int64_t start = range.start; start < range.stop; start += a->block) {
        const int64_t stop = start + a->block < range.stop ? start + a->block : range.stop, k = start / a->block;
        const real *g = a->gradients, *w = a->values;
        real bare[NAME(WIDTH)] = {0}, whole[NAME(WIDTH)] = {0};
        int64_t i = start;
        for (; i + NAME(WIDTH) <= stop; i += NAME(WIDTH))
            NAME(add_squares)(kind, change, NAME(WIDTH), g + i, w + i, bare, whole);
        NAME(add_squares)(kind, change, (int)(stop - i), g + i, w + i, bare, whole);
        a->bare[k] = NAME(sum_of_lanes)(bare);
        a->whole[k] = kind == UNCHANGED ? a->bare[k] : NAME(sum_of_lanes)(whole);
    }
}

OPERATION(squares)
{
    const Range range = share_of(a->n, a->block, share);
    const NAME(change) change = NAME(change_by)(a->loss_scale, a->l1, a->l2, NULL, __builtin_inf());
    BY_KIND(change, NAME(squares_pass), &change, a, range)
}
