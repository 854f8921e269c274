/* With dx̂ = γ dY: dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε), the means over the n units of each group of a sample. All
   (groups·n, batch) F-ordered; dX may be dY. dγ and dβ are `affine_gradient`'s.
   Sources: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3; Wu & He (2018), "Group normalization", eq. 1 and 7. */
ARGUMENTS(layer_norm_backward, SAMPLES,
          int64_t batch;
          int64_t groups;
          int64_t n;
          const real *gamma;
          rows const real *inv_std;
          rows const real *x_hat;
          rows const real *dY;
          rows real *dX;)

OPERATION(layer_norm_backward)
{
    const Range range = share_of(a->batch, 1, share);
    NAME(normalize_samples_backward)(1, range, a->groups, a->n, a->gamma, a->inv_std, a->x_hat, a->dY, a->dX);
}
