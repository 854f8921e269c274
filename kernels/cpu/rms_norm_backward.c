/* With dx̂ = γ dY: dX = (dx̂ − x̂ mean_i(dx̂ x̂))/√(mean_i x_i² + ε), the means over the units of each sample. All (n, batch) F-ordered; dX may
   be dY. dγ is `affine_gradient`'s.
   Source: Zhang & Sennrich (2019), "Root mean square layer normalization", section 4.2. */
ARGUMENTS(rms_norm_backward, SAMPLES,
          int64_t batch;
          int64_t n;
          const real *gamma;
          rows const real *inv_rms;
          rows const real *x_hat;
          rows const real *dY;
          rows real *dX;)

OPERATION(rms_norm_backward)
{
    const Range range = share_of(a->batch, 1, share);
    NAME(normalize_samples_backward)(0, range, 1, a->n, a->gamma, a->inv_rms, a->x_hat, a->dY, a->dX);
}
