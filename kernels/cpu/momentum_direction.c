/* m ← μm + (1 − μ)g; out = m, or with Nesterov's momentum (1 − μ)g + μm: what Muon makes orthogonal. Nothing happens once a step has
   failed, or in one that is skipped. Source: Jordan et al. (2024), "Muon", in PyTorch's form. */
ARGUMENTS(momentum_direction, SHARED,
          int64_t n;
          double l1;
          double l2;
          double max_value;
          double momentum;
          int64_t nesterov;
          const int64_t *failed_step;
          optional const double *clip_scale;
          optional const double *loss_scale;
          optional const int64_t *skip;
          const real *gradients;
          const real *values;
          real *m;
          real *out;)

INLINE void NAME(momentum_pass)(int kind, const NAME(change) * change, const NAME(momentum_direction_arguments) * a, Range range,
                                int nesterov)
{
    const real *restrict g = a->gradients, *restrict w = a->values;
    real *restrict m = a->m, *restrict out = a->out;
    const real momentum = (real)a->momentum, rest = (real)(1 - a->momentum);
    for (int64_t i = range.start; i < range.stop; i++) {
        const real fresh = rest * NAME(changed)(kind, change, g[i], w[i]), mean = NAME(normal)(FMA(momentum, m[i], fresh));
        m[i] = mean;
        out[i] = nesterov ? FMA(momentum, mean, fresh) : mean;
    }
}

OPERATION(momentum_direction)
{
    if (*a->failed_step >= 0 || (a->skip && *a->skip >= 0)) return;
    const Range range = share_of(a->n, 16, share);
    const NAME(change) change = NAME(change_by)(a->loss_scale, a->l1, a->l2, a->clip_scale, a->max_value);
    if (a->nesterov) BY_KIND(change, NAME(momentum_pass), &change, a, range, 1)
    else BY_KIND(change, NAME(momentum_pass), &change, a, range, 0)
}
