/* total ← total + Σ losses; failed_step ← step, once, if that sum is not finite or a gradient was not (`unsound`, which is 0 from
   then on). With loss scaling (`loss_scale` and `skip`), gradients that are not finite only set skip ← step where the scale is
   above `smallest`; skip is −1 after any other step. */
ARGUMENTS(judge, SERIAL,
          int64_t batch;
          double smallest;
          const real *losses;
          const int64_t *step;
          optional const double *loss_scale;
          optional double *total;
          int64_t *unsound;
          optional int64_t *skip;
          int64_t *failed_step;)

OPERATION(judge)
{
    const double loss = NAME(sum_of)(a->batch, a->losses);
    const int loss_is_sound = loss - loss == 0, gradients_are_sound = *a->unsound == 0;
    if (a->total) *a->total += loss;
    *a->unsound = 0;
    if (*a->failed_step >= 0) return;
    const int skips = a->skip && loss_is_sound && !gradients_are_sound && *a->loss_scale > a->smallest;
    if (a->skip) *a->skip = skips ? *a->step : -1;
    if (!skips && !(loss_is_sound && gradients_are_sound)) *a->failed_step = *a->step;
}
