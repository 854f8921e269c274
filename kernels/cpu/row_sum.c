/* out_i = Σ_j X_ij over the samples j = 0, 1, 2, ..., in that order: X (n, batch) F-ordered. With `unsound`, that is 1 from then on
   if the square of a sum is not finite. */
ARGUMENTS(row_sum, SHARED,
          int64_t n;
          int64_t batch;
          const real *X;
          optional any_order int64_t *unsound;
          real *out;)

OPERATION(row_sum)
{
    const Range range = share_of(a->n, 16, share);
    const int bad = NAME(sum_columns)(range.start, range.stop, a->n, a->batch, a->X, a->out);
    if (bad && a->unsound) raise_flag(a->unsound);
}
