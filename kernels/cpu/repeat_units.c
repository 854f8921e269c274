/* A batch for each member, whose units lie behind each other in a sample: out_j = (x_j, x_j, ..., x_j), `members` times: x (batch, n),
   out (batch, members·n). */
ARGUMENTS(repeat_units, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t members;
          rows const real *x;
          rows real *out;)

OPERATION(repeat_units)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    real *out = a->out + range.start * n * a->members;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *const x = a->x + j * n;
        for (int64_t g = 0; g < a->members; g++, out += n)
            for (int64_t i = 0; i < n; i++) out[i] = x[i];
    }
}
