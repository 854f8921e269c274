/* out = (x − running_mean)·s + β, s = γ/√(running_var + ε): x (n, batch) F-ordered. out may be x.
   Source: Ioffe & Szegedy (2015), "Batch normalization", algorithm 2. */
ARGUMENTS(batch_norm_inference, SAMPLES,
          int64_t batch;
          int64_t n;
          double eps;
          const real *gamma;
          const real *beta;
          const real *running_mean;
          const real *running_var;
          rows const real *X;
          rows real *out;)

OPERATION(batch_norm_inference)
{
    enum { WIDTH = 512 };
    const Range range = share_of(a->batch, 1, share);
    const real eps = (real)a->eps;
    for (int64_t first = 0; first < a->n; first += WIDTH) {
        const int64_t width = a->n - first < WIDTH ? a->n - first : WIDTH;
        const real *gamma = a->gamma + first, *beta = a->beta + first, *mean = a->running_mean + first;
        const real *variance = a->running_var + first;
        real scale[WIDTH];
        for (int64_t i = 0; i < width; i++) scale[i] = NAME(inverse_root)(variance[i] + eps) * gamma[i];
        for (int64_t j = range.start; j < range.stop; j++) {
            const real *x = a->X + j * a->n + first;
            real *y = a->out + j * a->n + first;
            for (int64_t i = 0; i < width; i++) y[i] = FMA(x[i] - mean[i], scale[i], beta[i]);
        }
    }
}
