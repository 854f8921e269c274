/* total ← Σ x, or total + Σ x with `accumulate`; the sum in double. */
ARGUMENTS(sum, SERIAL,
          int64_t n;
          int64_t accumulate;
          const real *x;
          double *total;)

OPERATION(sum) { *a->total = (a->accumulate ? *a->total : 0) + NAME(sum_of)(a->n, a->x); }
