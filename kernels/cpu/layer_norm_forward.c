/* x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β with μ and σ² over the n units of each group of a sample: x (groups·n, batch) F-ordered. In layer
   normalization a sample is one group.
   Sources: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3; Wu & He (2018), "Group normalization", eq. 1 and 7. */
ARGUMENTS(layer_norm_forward, SAMPLES,
          int64_t batch;
          int64_t groups;
          int64_t n;
          double eps;
          const real *gamma;
          const real *beta;
          rows const real *X;
          rows real *x_hat;
          rows real *inv_std;
          rows real *out;)

OPERATION(layer_norm_forward)
{
    const Range range = share_of(a->batch, 1, share);
    NAME(normalize_samples)(1, range, a->groups, a->n, (real)a->eps, a->gamma, a->beta, a->X, a->x_hat, a->inv_std, a->out);
}
