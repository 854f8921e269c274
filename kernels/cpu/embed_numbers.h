/* What embedded numbers have in common, forward and backward: of one unit and a block of samples, the values φ_k(x), how far each
   moves with its argument, and sums of products of rows. Rows are BLOCK numbers apart; the samples go along them. */
#ifndef FCNN_EMBED_NUMBERS
#define FCNN_EMBED_NUMBERS
enum { COSINE, WAVES, PIECES }; /* the order of NUMBER_KINDS in the reference */
enum { EMBED_BLOCK = 128, MOST_TERMS = 512 }; /* the second as in fcnn_gpu/layers: what follows fits into a thread's memory */
_Static_assert(8 * EMBED_BLOCK * (2 * (MOST_TERMS + 1) + 3 * MOST_TERMS) < SCRATCH_BYTES, "embed_numbers_backward");
#endif

/* a·x + c of the term as NumberMap has it, of cosines and waves in quarters of a turn */
typedef struct {
    real factor, shift;
} NAME(term);

INLINE NAME(term) NAME(term_of)(int64_t kind, const real *w, const real *phase, int64_t k)
{
    const real c = phase ? phase[k] : 0;
    if (kind == PIECES) return (NAME(term)){w[k], c};
    return (NAME(term)){4 * w[k], c * (real)0.63661977236758134308};
}

/* phi[k], and n_terms rows further on as well for waves, of n samples; `slope`, if not null, alike. n is a multiple of 2·LANES, here and below. */
INLINE void NAME(number_values)(int64_t kind, int64_t n_terms, const real *w, const real *phase, int64_t n, const real *x, real *phi,
                                real *slope)
{
    for (int64_t k = 0; k < n_terms; k++) {
        const NAME(term) term = NAME(term_of)(kind, w, phase, k);
        real *restrict value = phi + k * EMBED_BLOCK, *restrict second = phi + (n_terms + k) * EMBED_BLOCK;
        if (kind == PIECES) {
            const real least = k == 0 ? -INFINITE : 0, most = k == n_terms - 1 ? INFINITE : 1;
            for (int64_t j = 0; j < n; j++) {
                const real t = FMA(term.factor, x[j], term.shift), raised = t < least ? least : t;
                value[j] = raised > most ? most : raised;
            }
            if (slope)
                for (int64_t j = 0; j < n; j++) {
                    const real t = FMA(term.factor, x[j], term.shift);
                    slope[k * EMBED_BLOCK + j] = t == value[j] ? 1 : 0;
                }
        } else if (kind == WAVES) {
            for (int64_t j = 0; j < n; j++) {
                const NAME(quadrant) part = NAME(quadrant_of_quarters)(FMA(term.factor, x[j], term.shift));
                value[j] = NAME(turned)(part, part.k + 1);
                second[j] = NAME(turned)(part, part.k);
            }
        } else if (slope) {
            real *restrict moves = slope + k * EMBED_BLOCK;
            for (int64_t j = 0; j < n; j++) {
                const NAME(quadrant) part = NAME(quadrant_of_quarters)(FMA(term.factor, x[j], term.shift));
                value[j] = NAME(turned)(part, part.k + 1);
                moves[j] = NAME(turned)(part, part.k + 2); /* −sin x = sin(x + π) */
            }
        } else {
            for (int64_t j = 0; j < n; j++) value[j] = NAME(cosine_of_quarters)(FMA(term.factor, x[j], term.shift));
        }
    }
}

/* out[u] = start[u] + Σ_t weight(t, u)·rows[t] for `count` rows, a number that is known where this is expanded, the terms in their
   order; weight(t, u) = weights[t·per_term + u·per_row], `start` may be null. */
INLINE void NAME(combine_rows)(const int count, int64_t n, int64_t n_terms, const real *rows_in, const real *weights, int64_t per_term,
                               int64_t per_row, const real *start, real *out)
{
    enum { WIDE = 2 * LANES };
    const real start0 = start ? start[0] : 0, start1 = start && count > 1 ? start[1] : 0;
    const real start2 = start && count > 2 ? start[2] : 0, start3 = start && count > 3 ? start[3] : 0;
    for (int64_t j = 0; j < n; j += WIDE) {
        real sum0[WIDE], sum1[WIDE], sum2[WIDE], sum3[WIDE];
        for (int c = 0; c < WIDE; c++) sum0[c] = start0, sum1[c] = start1, sum2[c] = start2, sum3[c] = start3;
        const real *row = rows_in + j, *weight = weights;
        for (int64_t t = 0; t < n_terms; t++, row += EMBED_BLOCK, weight += per_term) {
            const real weight0 = weight[0], weight1 = count > 1 ? weight[per_row] : 0;
            const real weight2 = count > 2 ? weight[2 * per_row] : 0, weight3 = count > 3 ? weight[3 * per_row] : 0;
            for (int c = 0; c < WIDE; c++) {
                sum0[c] = FMA(weight0, row[c], sum0[c]);
                if (count > 1) sum1[c] = FMA(weight1, row[c], sum1[c]);
                if (count > 2) sum2[c] = FMA(weight2, row[c], sum2[c]);
                if (count > 3) sum3[c] = FMA(weight3, row[c], sum3[c]);
            }
        }
        for (int c = 0; c < WIDE; c++) out[j + c] = sum0[c];
        if (count > 1)
            for (int c = 0; c < WIDE; c++) out[EMBED_BLOCK + j + c] = sum1[c];
        if (count > 2)
            for (int c = 0; c < WIDE; c++) out[2 * EMBED_BLOCK + j + c] = sum2[c];
        if (count > 3)
            for (int c = 0; c < WIDE; c++) out[3 * EMBED_BLOCK + j + c] = sum3[c];
    }
}

/* The same for any number of rows. */
INLINE void NAME(combine)(int64_t n_rows, int64_t n, int64_t n_terms, const real *rows_in, const real *weights, int64_t per_term,
                          int64_t per_row, const real *start, real *out)
{
    int64_t u = 0;
    for (; u + 4 <= n_rows; u += 4)
        NAME(combine_rows)(4, n, n_terms, rows_in, weights + u * per_row, per_term, per_row, start ? start + u : 0, out + u * EMBED_BLOCK);
    if (n_rows - u == 3)
        NAME(combine_rows)(3, n, n_terms, rows_in, weights + u * per_row, per_term, per_row, start ? start + u : 0, out + u * EMBED_BLOCK);
    else
        for (; u < n_rows; u++)
            NAME(combine_rows)(1, n, n_terms, rows_in, weights + u * per_row, per_term, per_row, start ? start + u : 0, out + u * EMBED_BLOCK);
}

/* Σ_j x_j y_j, and Σ_j x_j, of n samples in LANES running sums */
INLINE real NAME(product_of_rows)(int64_t n, const real *x, const real *y)
{
    real sum[LANES] = {0};
    for (int64_t j = 0; j < n; j += LANES)
        for (int lane = 0; lane < LANES; lane++) sum[lane] = FMA(x[j + lane], y[j + lane], sum[lane]);
    return NAME(total)(sum);
}

INLINE real NAME(total_of_row)(int64_t n, const real *x)
{
    real sum[LANES] = {0};
    for (int64_t j = 0; j < n; j += LANES)
        for (int lane = 0; lane < LANES; lane++) sum[lane] += x[j + lane];
    return NAME(total)(sum);
}

/* One unit of n samples, and 0 up to a multiple of 2·LANES, which it returns. */
INLINE int64_t NAME(take_unit)(int64_t n, int64_t n_in, const real *X, real *x)
{
    const int64_t padded = (n + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    for (int64_t j = 0; j < n; j++) x[j] = X[j * n_in];
    for (int64_t j = n; j < padded; j++) x[j] = 0;
    return padded;
}
