/* x_gii ← x_gii + value for `groups` square matrices of n rows, one behind the other. */
ARGUMENTS(add_to_diagonal, SHARED,
          int64_t groups;
          int64_t n;
          double value;
          real *x;)

OPERATION(add_to_diagonal)
{
    const Range range = share_of(a->groups, 1, share);
    const real value = (real)a->value;
    for (int64_t g = range.start; g < range.stop; g++)
        for (int64_t i = 0; i < a->n; i++) a->x[(g * a->n + i) * a->n + i] += value;
}
