/* out ← table[position], the last number again once the table of n is at its end; position ← position + 1 */
ARGUMENTS(take_next, SERIAL,
          int64_t n;
          const double *table;
          int64_t *position;
          double *out;)

OPERATION(take_next)
{
    const int64_t i = *a->position;
    *a->out = a->table[i < a->n ? i : a->n - 1];
    *a->position = i + 1;
}
