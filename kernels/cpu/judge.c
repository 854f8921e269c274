/* total ← total + Σ losses; failed_step ← step, once, if that sum is not finite or a gradient was not (`unsound`, which is 0 from
   then on). */
ARGUMENTS(judge, SERIAL,
          int64_t batch;
          const real *losses;
          const int64_t *step;
          optional double *total;
          int64_t *unsound;
          int64_t *failed_step;)

OPERATION(judge)
{
    const double loss = NAME(sum_of)(a->batch, a->losses);
    if (a->total) *a->total += loss;
    const int sound = loss - loss == 0 && *a->unsound == 0;
    *a->unsound = 0;
    if (!sound && *a->failed_step < 0) *a->failed_step = *a->step;
}
