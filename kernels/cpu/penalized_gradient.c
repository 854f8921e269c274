/* out = g/loss_scale + 2λ₂w + λ₁ sign(w); out may be g. */
ARGUMENTS(penalized_gradient, SHARED,
          int64_t n;
          double l1;
          double l2;
          optional const double *loss_scale;
          const real *gradients;
          const real *values;
          real *out;)

INLINE void NAME(penalized_gradient_pass)(int kind, const NAME(change) * change, const NAME(penalized_gradient_arguments) * a,
                                          Range range)
{
    const real *g = a->gradients, *w = a->values;
    real *out = a->out;
    for (int64_t i = range.start; i < range.stop; i++) out[i] = NAME(changed)(kind, change, g[i], w[i]);
}

OPERATION(penalized_gradient)
{
    const Range range = share_of(a->n, 16, share);
    const NAME(change) change = NAME(change_by)(a->loss_scale, a->l1, a->l2, NULL, __builtin_inf());
    BY_KIND(change, NAME(penalized_gradient_pass), &change, a, range)
}
