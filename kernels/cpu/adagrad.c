/* Adagrad: s ← s + g², θ ← θ(1 − η_t λ) − η_t g/(√s + ε), η_t = η/(1 + (t − 1)·lr_decay), t = step + 1.
   Source: Duchi, Hazan & Singer (2011), "Adaptive subgradient methods", in PyTorch's form. */
ARGUMENTS(adagrad, SHARED,
          UPDATED
          double lr_decay;
          double eps;
          SCHEDULED(decay)
          double decay_factor;
          real *s;)

INLINE void NAME(adagrad_pass)(int kind, const NAME(change) * change, const NAME(adagrad_arguments) * a, Range range, real eta,
                               real keep)
{
    const real *restrict g = a->gradients;
    real *restrict theta = a->values, *restrict s = a->s;
    const real eps = (real)a->eps;
    for (int64_t i = range.start; i < range.stop; i++) {
        const real whole = NAME(changed)(kind, change, g[i], theta[i]), h = NAME(factor_of_square)(whole);
        const real sum = NAME(normal)(FMA(h, whole, s[i]));
        s[i] = sum;
        theta[i] = FMA(-eta, whole / (SQRT(sum) + eps), theta[i] * keep);
    }
}

OPERATION(adagrad)
{
    BEGIN_UPDATE
    const double slowed = eta / (1 + (double)*a->step * a->lr_decay);
    const real keep = (real)(1 - slowed * (SCHEDULED_VALUE(a, decay) * a->decay_factor));
    BY_KIND(change, NAME(adagrad_pass), &change, a, range, (real)slowed, keep)
}
