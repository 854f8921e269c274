/* step ← step + 1, unless a step has failed; counter ← counter + by for up to four counters. */
ARGUMENTS(finish_step, SERIAL,
          int64_t by1;
          int64_t by2;
          int64_t by3;
          int64_t by4;
          const int64_t *failed_step;
          int64_t *step;
          optional int64_t *counter1;
          optional int64_t *counter2;
          optional int64_t *counter3;
          optional int64_t *counter4;)

OPERATION(finish_step)
{
    if (*a->failed_step >= 0) return;
    *a->step += 1;
    if (a->counter1) *a->counter1 += a->by1;
    if (a->counter2) *a->counter2 += a->by2;
    if (a->counter3) *a->counter3 += a->by3;
    if (a->counter4) *a->counter4 += a->by4;
}
