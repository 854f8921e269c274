/* Adam and AdamW: m ← β₁m + g, v ← β₂v + g²;  θ ← θ·keep − rate·m/(√v + floor), where with c = √((1 − β₂)/(1 − β₂ᵗ))
       rate = η(1 − β₁)/(c(1 − β₁ᵗ)),  floor = ε/c,  keep = 1 − ηλ (1 where nothing decays):
   the moments are kept without their factors (1 − β). t = step + 1.
   Sources: Kingma & Ba (2015), "Adam", algorithm 1; Loshchilov & Hutter (2019), "Decoupled weight decay", algorithm 2. */
ARGUMENTS(adam, SHARED,
          UPDATED
          double beta1;
          double beta2;
          double eps;
          double decay;
          real *m;
          real *v;)

INLINE void NAME(adam_step)(real g, real *theta, real *m, real *v, real beta1, real beta2, real rate, real floor, real keep)
{
    const real first = FMA(beta1, *m, g), second = FMA(beta2, *v, g * g);
    *m = first;
    *v = second;
    *theta = FMA(-rate, first / (SQRT(second) + floor), *theta * keep);
}

OPERATION(adam)
{
    if (*a->failed_step >= 0) return;
    const Range range = share_of(a->n, 16, share);
    const double eta = *a->learning_rate, left1 = 1 - power(a->beta1, *a->step + 1), left2 = 1 - power(a->beta2, *a->step + 1);
    const double c = __builtin_sqrt((1 - a->beta2) / left2);
    const real rate = (real)(eta * (1 - a->beta1) / (left1 * c)), floor = (real)(a->eps / c), keep = (real)(1 - eta * a->decay);
    const real beta1 = (real)a->beta1, beta2 = (real)a->beta2;
    const real *restrict g = a->gradients;
    real *restrict theta = a->values, *restrict m = a->m, *restrict v = a->v;
    if (a->is_plain) {
        for (int64_t i = range.start; i < range.stop; i++)
            NAME(adam_step)(g[i], theta + i, m + i, v + i, beta1, beta2, rate, floor, keep);
        return;
    }
    const real l1 = (real)a->l1, l2 = (real)(2 * a->l2), clip = a->clip_scale ? (real)*a->clip_scale : 1, most = (real)a->max_value;
    for (int64_t i = range.start; i < range.stop; i++)
        NAME(adam_step)(NAME(whole_gradient)(g[i], theta[i], l1, l2, clip, most), theta + i, m + i, v + i, beta1, beta2, rate,
                        floor, keep);
}
