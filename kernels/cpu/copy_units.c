/* n units of each sample from one matrix into another: out_j,first_out+i = x_j,first_x+i: x (batch, n_x), out (batch, n_out). */
ARGUMENTS(copy_units, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t n_x;
          int64_t first_x;
          int64_t n_out;
          int64_t first_out;
          rows const real *x;
          rows real *out;)

OPERATION(copy_units)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *const x = a->x + j * a->n_x + a->first_x;
        real *const out = a->out + j * a->n_out + a->first_out;
        for (int64_t i = 0; i < n; i++) out[i] = x[i];
    }
}
