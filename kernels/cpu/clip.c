/* clip_scale ← min(1, c/(√Σ whole + 10⁻⁶)), c = max_norm; 1 where the sum is NaN. With `unsound`, that is 1 from then on if
   Σ bare is not finite.
   Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1. */
ARGUMENTS(clip, SERIAL,
          int64_t n;
          double max_norm;
          const real *bare;
          const real *whole;
          optional int64_t *unsound;
          optional double *clip_scale;)

OPERATION(clip)
{
    if (a->clip_scale) {
        const double ratio = a->max_norm / (__builtin_sqrt(NAME(sum_of)(a->n, a->whole)) + 1e-6);
        *a->clip_scale = ratio < 1 ? ratio : 1;
    }
    if (a->unsound) {
        const double bare = NAME(sum_of)(a->n, a->bare);
        if (bare - bare != 0) *a->unsound = 1;
    }
}
