/* Softmax, cross-entropy and its gradient, sample by sample: with p = softmax(z) and targets ỹ = (1 − s)·y + s/n,
       ℓ = w·Σ_c v_c ỹ_c (log Σ_k e^(z_k − m) − (z_c − m)),  m = max z,
       dZ_c = (w/batch)(p_c Σ_k v_k ỹ_k − v_c ỹ_c)·scale,
   v the class weights, w the sample weight, s the label smoothing. y is a label, or a row of Y (batch, n).
   With `relative`, of rows of Y, log(v_c ỹ_c) is added to each logarithm, 0 log 0 = 0: relative entropy.
   With γ, of labels alone, q = 1 − p_y and L = −log p_y, ℓ = w·v_y q^γ L, and dZ is multiplied by q^γ + γ p_y q^(γ−1) L.
   A dZ below 2⁻¹⁰⁰ is 0 (numbers.h). Up to FEW classes, LANES samples are computed side by side: their numbers stand transposed in a tile. More classes of a sample
   are computed side by side, and summed one after the other. Either way each sum has one order.
   Sources: Goodfellow, Bengio & Courville (2016), "Deep Learning", section 6.2.2.3; γ: Lin et al. (2017), "Focal loss for dense object
   detection". */
ARGUMENTS(softmax_cross_entropy, SAMPLES,
          int64_t batch;
          int64_t n;
          double label_smoothing;
          int64_t relative;
          double gamma;
          rows const real *Z;
          optional rows const int64_t *labels;
          optional rows const real *Y;
          optional const real *class_weight;
          optional rows const real *sample_weight;
          optional const double *loss_scale;
          rows real *losses;
          rows real *dZ;)

/* What of a call does not change from sample to sample. */
typedef struct {
    const NAME(softmax_cross_entropy_arguments) * a;
    real smoothing, of_each, factor, gamma;
} NAME(CrossEntropy);

INLINE int NAME(has_labels_alone)(const NAME(CrossEntropy) * g) { return g->a->labels && g->smoothing == 0; }

INLINE real NAME(class_weight_of)(const NAME(CrossEntropy) * g, int64_t label)
{
    return g->a->class_weight ? g->a->class_weight[label] : 1;
}

INLINE real NAME(sample_weight_of)(const NAME(CrossEntropy) * g, int64_t j) { return g->a->sample_weight ? g->a->sample_weight[j] : 1; }

/* q^γ, q = 1 − e^−L, and in `slope` q^γ + γ p q^(γ−1) L = q^γ (1 + γ p L/q), 0 where q is 0. p L is 0 at an infinite L. */
INLINE real NAME(focused)(real loss, real gamma, real *slope)
{
    const real p = NAME(exponential)(-loss), q = -NAME(exponential_minus_one)(-loss);
    const real power = NAME(exponential)(gamma * NAME(logarithm)(q));
    const real odds = p / q; /* where p is 0, L may be infinite; where q is 0, so is the power */
    const real more = ((p > 0) & (q > 0)) ? gamma * (loss * odds) : 0;
    *slope = FMA(more, power, power);
    return power;
}

/* Of a sample without target matrix and smoothing: dZ holds e^(z − m), whose sum is `total`. */
INLINE void NAME(finish_label)(const NAME(CrossEntropy) * g, int64_t j, real top, real total, real log_total)
{
    const int64_t n = g->a->n, label = g->a->labels[j];
    const real v = NAME(class_weight_of)(g, label), w = NAME(sample_weight_of)(g, j);
    real *d = g->a->dZ + j * n, loss = log_total - (g->a->Z[j * n + label] - top), factor = g->factor * w * v;
    if (g->gamma != 0) {
        real slope;
        loss *= NAME(focused)(loss, g->gamma, &slope);
        factor *= slope;
    }
    g->a->losses[j] = loss * v * w;
    const real each = factor / total;
    for (int64_t c = 0; c < n; c++) d[c] = NAME(faded)(d[c] * each);
    d[label] -= factor;
}

INLINE real NAME(target)(const NAME(CrossEntropy) * g, int64_t j, int64_t c)
{
    const real y = g->a->Y ? g->a->Y[j * g->a->n + c] : (real)(g->a->labels[j] == c);
    const real t = y * (1 - g->smoothing) + g->of_each;
    return g->a->class_weight ? t * g->a->class_weight[c] : t;
}

/* Of any other sample: Σ T_c, and the loss. */
INLINE real NAME(loss_of_targets)(const NAME(CrossEntropy) * g, int64_t j, real top, real log_total, real *sum)
{
    const real *z = g->a->Z + j * g->a->n;
    real loss = 0;
    for (int64_t c = 0; c < g->a->n; c++) {
        const real t = NAME(target)(g, j, c);
        *sum += t;
        loss += (log_total - (z[c] - top)) * t;
    }
    return loss;
}

/* The same with log T_c added, LANES logarithms side by side. */
static real NAME(relative_loss_of_targets)(const NAME(CrossEntropy) * g, int64_t j, real top, real log_total, real *sum)
{
    const int64_t n = g->a->n;
    const real *z = g->a->Z + j * n;
    real loss = 0;
    for (int64_t start = 0; start < n; start += LANES) {
        const int64_t count = n - start < LANES ? n - start : LANES;
        real t[LANES] = {0}, below[LANES] = {0}, apart[LANES];
        for (int64_t lane = 0; lane < count; lane++) {
            t[lane] = NAME(target)(g, j, start + lane);
            below[lane] = log_total - (z[start + lane] - top);
        }
        for (int lane = 0; lane < LANES; lane++) {
            const real log_ratio = NAME(logarithm)(t[lane]) + below[lane];
            apart[lane] = t[lane] > 0 ? log_ratio : 0;
        }
        for (int64_t lane = 0; lane < count; lane++) {
            *sum += t[lane];
            loss = FMA(apart[lane], t[lane], loss);
        }
    }
    return loss;
}

static void NAME(finish_targets)(const NAME(CrossEntropy) * g, int64_t j, real top, real total, real log_total)
{
    const int64_t n = g->a->n;
    const real w = g->a->sample_weight ? g->a->sample_weight[j] : 1, factor = g->factor * w;
    real *d = g->a->dZ + j * n, sum = 0;
    const real loss = g->a->relative ? NAME(relative_loss_of_targets)(g, j, top, log_total, &sum)
                                     : NAME(loss_of_targets)(g, j, top, log_total, &sum);
    for (int64_t c = 0; c < n; c++) d[c] = NAME(faded)((d[c] / total * sum - NAME(target)(g, j, c)) * factor);
    g->a->losses[j] = loss * w;
}

#ifndef FCNN_FEW
#define FCNN_FEW
enum { FEW = 32 };
#endif

/* LANES samples from j on, of which `count` are there. */
INLINE void NAME(few_classes)(const NAME(CrossEntropy) * g, int64_t j, int64_t count)
{
    const int64_t n = g->a->n;
    if (n < 1) return; /* GCC would warn of `tile` */
    const real *z = g->a->Z + j * n;
    real *d = g->a->dZ + j * n, tile[FEW][LANES], top[LANES], total[LANES] = {0}, log_total[LANES];
    if (count < LANES) memset(tile, 0, (size_t)n * sizeof tile[0]);
    NAME(transpose)(count, n, z, n, tile[0], LANES);
    memcpy(top, tile[0], sizeof top);
    for (int64_t c = 1; c < n; c++)
        for (int lane = 0; lane < LANES; lane++) top[lane] = tile[c][lane] > top[lane] ? tile[c][lane] : top[lane];
    for (int64_t c = 0; c < n; c++)
        for (int lane = 0; lane < LANES; lane++) {
            const real e = NAME(exponential)(tile[c][lane] - top[lane]);
            tile[c][lane] = e;
            total[lane] += e;
        }
    for (int lane = 0; lane < LANES; lane++) log_total[lane] = NAME(logarithm)(total[lane]);
    real factor[LANES] = {0};
    if (NAME(has_labels_alone)(g)) { /* as in finish_label, side by side */
        real of_label[LANES] = {0}, v[LANES] = {0}, w[LANES] = {0};
        for (int64_t lane = 0; lane < count; lane++) {
            const int64_t label = g->a->labels[j + lane];
            of_label[lane] = z[lane * n + label];
            v[lane] = NAME(class_weight_of)(g, label);
            w[lane] = NAME(sample_weight_of)(g, j + lane);
        }
        real losses[LANES], each[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            losses[lane] = (log_total[lane] - (of_label[lane] - top[lane])) * v[lane] * w[lane];
            factor[lane] = g->factor * w[lane] * v[lane];
            each[lane] = factor[lane] / total[lane];
        }
        if (g->gamma != 0)
            for (int lane = 0; lane < LANES; lane++) {
                real slope;
                const real power = NAME(focused)(log_total[lane] - (of_label[lane] - top[lane]), g->gamma, &slope);
                losses[lane] = (log_total[lane] - (of_label[lane] - top[lane])) * power * v[lane] * w[lane];
                factor[lane] *= slope;
                each[lane] = factor[lane] / total[lane];
            }
        for (int64_t c = 0; c < n; c++)
            for (int lane = 0; lane < LANES; lane++) tile[c][lane] = NAME(faded)(tile[c][lane] * each[lane]);
        memcpy(g->a->losses + j, losses, (size_t)count * sizeof(real));
    }
    NAME(transpose)(n, count, tile[0], LANES, d, n);
    if (NAME(has_labels_alone)(g))
        for (int64_t lane = 0; lane < count; lane++) d[lane * n + g->a->labels[j + lane]] -= factor[lane];
    else
        for (int64_t lane = 0; lane < count; lane++) NAME(finish_targets)(g, j + lane, top[lane], total[lane], log_total[lane]);
}

static void NAME(many_classes)(const NAME(CrossEntropy) * g, int64_t j)
{
    const int64_t n = g->a->n;
    const real *z = g->a->Z + j * n;
    real *d = g->a->dZ + j * n, top = z[0], total = 0;
    for (int64_t c = 1; c < n; c++) top = z[c] > top ? z[c] : top;
    for (int64_t c = 0; c < n; c++) d[c] = NAME(exponential)(z[c] - top);
    for (int64_t c = 0; c < n; c++) total += d[c];
    if (NAME(has_labels_alone)(g)) NAME(finish_label)(g, j, top, total, NAME(logarithm)(total));
    else NAME(finish_targets)(g, j, top, total, NAME(logarithm)(total));
}

OPERATION(softmax_cross_entropy)
{
    const Range range = share_of(a->batch, 1, share);
    const real scale = a->loss_scale ? (real)*a->loss_scale : 1;
    const NAME(CrossEntropy) g = {.a = a,
                                  .smoothing = (real)a->label_smoothing,
                                  .of_each = (real)a->label_smoothing / (real)a->n,
                                  .factor = scale / (real)a->batch,
                                  .gamma = (real)a->gamma};
    int64_t j = range.start;
    if (a->n > FEW)
        for (; j < range.stop; j++) NAME(many_classes)(&g, j);
    for (; j + LANES <= range.stop; j += LANES) NAME(few_classes)(&g, j, LANES);
    if (j < range.stop) NAME(few_classes)(&g, j, range.stop - j);
}
