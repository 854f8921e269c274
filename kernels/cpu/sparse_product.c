/* out_j = Σ_p v_p·W_c over the numbers p of sample j, those from extents[j, 0] to extents[j, 1] − 1, in that order: c = columns[p] and
   v_p = scale·values[p]. W (n, n_in), out (n, batch) F-ordered. The columns of a sample ascend: these are the sums of
   product_of_samples without the products that are 0. */
ARGUMENTS(sparse_product, SAMPLES,
          int64_t batch;
          int64_t n;
          double scale;
          const real *W;
          rows const int64_t *extents;
          const int32_t *columns;
          const real *values;
          rows real *out;)

OPERATION(sparse_product)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real scale = (real)a->scale;
    for (int64_t j = range.start; j < range.stop; j++) {
        real *out = a->out + j * n;
        memset(out, 0, (size_t)n * sizeof(real));
        for (int64_t p = a->extents[2 * j]; p < a->extents[2 * j + 1]; p++)
            NAME(add_scaled)(n, scale * a->values[p], a->W + a->columns[p] * n, out);
    }
}
