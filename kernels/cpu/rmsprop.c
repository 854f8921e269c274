/* RMSprop: v ← ρv + (1 − ρ)g², u = g/(√v + ε), θ ← θ·keep − ηu, keep = 1 − ηλ; with momentum μ: b ← μb + u, θ ← θ·keep − ηb.
   `velocity`, b, is null without.
   Source: Tieleman & Hinton (2012), "Neural networks for machine learning", lecture 6.5, in PyTorch's form (ε outside the root). */
ARGUMENTS(rmsprop, SHARED,
          UPDATED
          double rho;
          double eps;
          double momentum;
          SCHEDULED(decay)
          double decay_factor;
          real *v;
          optional real *velocity;)

INLINE void NAME(rmsprop_pass)(int kind, const NAME(change) * change, const NAME(rmsprop_arguments) * a, Range range, real eta,
                               real keep, int has_momentum)
{
    const real *restrict g = a->gradients;
    real *restrict theta = a->values, *restrict v = a->v, *restrict b = a->velocity;
    const real rho = (real)a->rho, rest = (real)(1 - a->rho), eps = (real)a->eps, momentum = (real)a->momentum;
    for (int64_t i = range.start; i < range.stop; i++) {
        const real whole = NAME(changed)(kind, change, g[i], theta[i]), h = NAME(factor_of_square)(whole);
        const real second = NAME(normal)(FMA(rest * h, whole, rho * v[i]));
        v[i] = second;
        real pull = whole / (SQRT(second) + eps);
        if (has_momentum) {
            pull = NAME(normal)(FMA(momentum, b[i], pull));
            b[i] = pull;
        }
        theta[i] = FMA(-eta, pull, theta[i] * keep);
    }
}

OPERATION(rmsprop)
{
    BEGIN_UPDATE
    const real keep = (real)(1 - eta * (SCHEDULED_VALUE(a, decay) * a->decay_factor));
    if (a->velocity) BY_KIND(change, NAME(rmsprop_pass), &change, a, range, (real)eta, keep, 1)
    else BY_KIND(change, NAME(rmsprop_pass), &change, a, range, (real)eta, keep, 0)
}
