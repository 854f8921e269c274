/* step ← step + 1, unless a step has failed; counter ← counter + by for up to four counters. With loss scaling a skipped step
   does not count and halves the scale, down to `smallest`; growth_interval others in a row double it, up to `largest`. */
ARGUMENTS(finish_step, SERIAL,
          int64_t growth_interval;
          double smallest;
          double largest;
          int64_t by1;
          int64_t by2;
          int64_t by3;
          int64_t by4;
          const int64_t *failed_step;
          optional const int64_t *skip;
          int64_t *step;
          optional double *loss_scale;
          optional int64_t *good_steps;
          optional int64_t *skipped;
          optional int64_t *counter1;
          optional int64_t *counter2;
          optional int64_t *counter3;
          optional int64_t *counter4;)

OPERATION(finish_step)
{
    if (*a->failed_step >= 0) return;
    if (a->counter1) *a->counter1 += a->by1;
    if (a->counter2) *a->counter2 += a->by2;
    if (a->counter3) *a->counter3 += a->by3;
    if (a->counter4) *a->counter4 += a->by4;
    if (a->skip && *a->skip >= 0) {
        const double half = *a->loss_scale / 2;
        *a->loss_scale = half > a->smallest ? half : a->smallest;
        *a->good_steps = 0;
        *a->skipped += 1;
        return;
    }
    *a->step += 1;
    if (a->loss_scale && ++*a->good_steps >= a->growth_interval) {
        const double twice = *a->loss_scale * 2;
        *a->loss_scale = twice < a->largest ? twice : a->largest;
        *a->good_steps = 0;
    }
}
