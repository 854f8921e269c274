/* Adam and AdamW: m ← β₁m + g, v ← β₂v + g²;  θ ← θ·keep − rate·m/(√v + floor), where with c = √((1 − β₂)/(1 − β₂ᵗ))
       rate = η(1 − β₁)/(c(1 − β₁ᵗ)),  floor = ε/c,  keep = 1 − ηλ (1 where nothing decays):
   the moments are kept without their factors (1 − β). t = step + 1; η and λ with the factors of these parameters.
   Sources: Kingma & Ba (2015), "Adam", algorithm 1; Loshchilov & Hutter (2019), "Decoupled weight decay", algorithm 2. */
ARGUMENTS(adam, SHARED,
          UPDATED
          double beta1;
          double beta2;
          double eps;
          SCHEDULED(decay)
          double decay_factor;
          real *m;
          real *v;)

typedef struct {
    real beta1, beta2, rate, floor, keep;
} NAME(adam_numbers);

INLINE void NAME(adam_pass)(int kind, const NAME(change) * change, const NAME(adam_arguments) * a, Range range,
                            const NAME(adam_numbers) * k)
{
    const real *restrict g = a->gradients;
    real *restrict theta = a->values, *restrict m = a->m, *restrict v = a->v;
    const real beta1 = k->beta1, beta2 = k->beta2, rate = k->rate, floor = k->floor, keep = k->keep;
    for (int64_t i = range.start; i < range.stop; i++) {
        const real whole = NAME(changed)(kind, change, g[i], theta[i]), h = NAME(factor_of_square)(whole);
        const real first = NAME(normal)(FMA(beta1, m[i], whole)), second = NAME(normal)(FMA(h, whole, beta2 * v[i]));
        m[i] = first;
        v[i] = second;
        theta[i] = FMA(-rate, first / (SQRT(second) + floor), theta[i] * keep);
    }
}

OPERATION(adam)
{
    BEGIN_UPDATE
    const double left1 = one_minus_power(a->beta1, *a->step + 1), left2 = one_minus_power(a->beta2, *a->step + 1);
    const double c = __builtin_sqrt((1 - a->beta2) / left2);
    const NAME(adam_numbers) numbers = {
        .beta1 = (real)a->beta1,
        .beta2 = (real)a->beta2,
        .rate = (real)(eta * (1 - a->beta1) / (left1 * c)),
        .floor = (real)(a->eps / c),
        .keep = (real)(1 - eta * (SCHEDULED_VALUE(a, decay) * a->decay_factor)),
    };
    BY_KIND(change, NAME(adam_pass), &change, a, range, &numbers)
}
