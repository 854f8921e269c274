/* x̂ = x/√(mean_i x_i² + ε), out = γ x̂ with the mean over the units of each sample: x (n, batch) F-ordered.
   Source: Zhang & Sennrich (2019), "Root mean square layer normalization", eq. 4. */
ARGUMENTS(rms_norm_forward, SAMPLES,
          int64_t batch;
          int64_t n;
          double eps;
          const real *gamma;
          rows const real *X;
          rows real *x_hat;
          rows real *inv_rms;
          rows real *out;)

OPERATION(rms_norm_forward)
{
    const Range range = share_of(a->batch, 1, share);
    NAME(normalize_samples)(0, range, 1, a->n, (real)a->eps, a->gamma, NULL, a->X, a->x_hat, a->inv_rms, a->out);
}
