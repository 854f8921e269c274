/* x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β with μ and σ² over the units of each sample: x (n, batch) F-ordered.
   Source: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3. */
ARGUMENTS(layer_norm_forward, SAMPLES,
          int64_t batch;
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
    NAME(normalize_samples)(1, range, a->n, (real)a->eps, a->gamma, a->beta, a->X, a->x_hat, a->inv_std, a->out);
}
