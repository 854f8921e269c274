/* SGD: θ ← θ·keep − ηg; with momentum μ: v ← μv + g, θ ← θ·keep − ηv; with Nesterov's: θ ← θ·keep − η(g + μv), keep = 1 − ηλ.
   `velocity` is null without momentum. Source: Sutskever et al. (2013), "On the importance of initialization and momentum", in PyTorch's form. */
ARGUMENTS(sgd, SHARED,
          UPDATED
          double momentum;
          int64_t nesterov;
          SCHEDULED(decay)
          double decay_factor;
          optional real *velocity;)

INLINE void NAME(sgd_pass)(int kind, const NAME(change) * change, const NAME(sgd_arguments) * a, Range range, real eta, real keep,
                           int has_momentum, int nesterov)
{
    const real *restrict g = a->gradients;
    real *restrict theta = a->values, *restrict v = a->velocity;
    const real momentum = (real)a->momentum;
    for (int64_t i = range.start; i < range.stop; i++) {
        const real whole = NAME(changed)(kind, change, g[i], theta[i]);
        real pull = whole;
        if (has_momentum) {
            const real velocity = NAME(normal)(FMA(momentum, v[i], whole));
            v[i] = velocity;
            pull = nesterov ? FMA(momentum, velocity, whole) : velocity;
        }
        theta[i] = FMA(-eta, pull, theta[i] * keep);
    }
}

OPERATION(sgd)
{
    BEGIN_UPDATE
    const real keep = (real)(1 - eta * (SCHEDULED_VALUE(a, decay) * a->decay_factor));
    if (!a->velocity) BY_KIND(change, NAME(sgd_pass), &change, a, range, (real)eta, keep, 0, 0)
    else if (a->nesterov) BY_KIND(change, NAME(sgd_pass), &change, a, range, (real)eta, keep, 1, 1)
    else BY_KIND(change, NAME(sgd_pass), &change, a, range, (real)eta, keep, 1, 0)
}
