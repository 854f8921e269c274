/* Softmax, cross-entropy and its gradient, sample by sample: with p = softmax(z) and targets ỹ = (1 − s)·y + s/n,
       ℓ = w·Σ_c v_c ỹ_c (log Σ_k e^(z_k − m) − (z_c − m)),  m = max z,
       dZ_c = (w/whole)(p_c Σ_k v_k ỹ_k − v_c ỹ_c)·scale,
   v the class weights, w the sample weight, s the label smoothing. y is a label, or a row of Y (batch, n).
   Source: Goodfellow, Bengio & Courville (2016), "Deep Learning", section 6.2.2.3. */
ARGUMENTS(softmax_cross_entropy, SAMPLES,
          int64_t batch;
          int64_t n;
          double label_smoothing;
          rows const real *Z;
          optional rows const int64_t *labels;
          optional rows const real *Y;
          optional const real *class_weight;
          optional rows const real *sample_weight;
          optional const double *loss_scale;
          rows real *losses;
          rows real *dZ;)

OPERATION(softmax_cross_entropy)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n = a->n;
    const real smoothing = (real)a->label_smoothing, share_of_all = smoothing / (real)n;
    const real scale = a->loss_scale ? (real)*a->loss_scale : 1;
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *z = a->Z + j * n, *y = a->Y ? a->Y + j * n : NULL;
        real *d = a->dZ + j * n;
        real top = z[0];
        for (int64_t c = 1; c < n; c++) top = z[c] > top ? z[c] : top;
        for (int64_t c = 0; c < n; c++) d[c] = NAME(exponential)(z[c] - top);
        real total = 0;
        for (int64_t c = 0; c < n; c++) total += d[c];
        const real log_total = NAME(logarithm)(total), w = a->sample_weight ? a->sample_weight[j] : 1;
        const real factor = w / (real)a->batch * scale;
        if (a->labels && smoothing == 0) {
            const int64_t label = a->labels[j];
            const real v = a->class_weight ? a->class_weight[label] : 1, share = factor * v;
            a->losses[j] = (log_total - (z[label] - top)) * v * w;
            for (int64_t c = 0; c < n; c++) d[c] = d[c] / total * share;
            d[label] -= share;
            continue;
        }
        real sum = 0, loss = 0;
        for (int64_t c = 0; c < n; c++) {
            real t = y ? y[c] : (real)(a->labels[j] == c);
            t = t * (1 - smoothing) + share_of_all;
            t = a->class_weight ? t * a->class_weight[c] : t;
            sum += t;
            loss += (log_total - (z[c] - top)) * t;
        }
        for (int64_t c = 0; c < n; c++) {
            real t = y ? y[c] : (real)(a->labels[j] == c);
            t = t * (1 - smoothing) + share_of_all;
            t = a->class_weight ? t * a->class_weight[c] : t;
            d[c] = (d[c] / total * sum - t) * factor;
        }
        a->losses[j] = loss * w;
    }
}
