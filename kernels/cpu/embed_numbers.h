/* What embedded numbers have in common, forward and backward: of one unit and a block of samples, the values φ_k(x), how far each
   moves with its argument, and sums of products of rows. Rows are BLOCK numbers apart; the samples go along them. */
#ifndef FCNN_EMBED_NUMBERS
#define FCNN_EMBED_NUMBERS
enum { COSINE, WAVES, PIECES }; /* the order of NUMBER_KINDS in the reference */
enum { EMBED_BLOCK = 128 };
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

/* phi[k], and n_terms rows further on as well for waves, of n samples; `slope`, if not null, alike. n is a multiple of LANES. */
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
            for (int64_t j = 0; j < n; j++) {
                const NAME(quadrant) part = NAME(quadrant_of_quarters)(FMA(term.factor, x[j], term.shift));
                value[j] = NAME(turned)(part, part.k + 1);
            }
        }
    }
}

/* out[u] = start[u] + Σ_t weight(t, u)·rows[t] for `count` rows, a number that is known where this is expanded, the terms in their
   order; weight(t, u) = weights[t·per_term + u·per_row], `start` may be null. */
INLINE void NAME(combine_rows)(const int count, int64_t n, int64_t n_terms, const real *rows_in, const real *weights, int64_t per_term,
                               int64_t per_row, const real *start, real *out)
{
    enum { WIDE = LANES };
    for (int64_t j = 0; j < n; j += WIDE) {
        real sum[4][WIDE];
        for (int u = 0; u < count; u++)
            for (int c = 0; c < WIDE; c++) sum[u][c] = start ? start[u] : 0;
        for (int64_t t = 0; t < n_terms; t++) {
            const real *row = rows_in + t * EMBED_BLOCK + j;
            for (int u = 0; u < count; u++) {
                const real weight = weights[t * per_term + u * per_row];
                for (int c = 0; c < WIDE; c++) sum[u][c] = FMA(weight, row[c], sum[u][c]);
            }
        }
        for (int u = 0; u < count; u++)
            for (int c = 0; c < WIDE; c++) out[u * EMBED_BLOCK + j + c] = sum[u][c];
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

/* Σ_j x_j y_j, and Σ_j x_j, of n samples, a multiple of LANES, in so many running sums */
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

/* One unit of n samples, and 0 up to a multiple of LANES, which it returns. */
INLINE int64_t NAME(take_unit)(int64_t n, int64_t n_in, const real *X, real *x)
{
    const int64_t padded = (n + LANES - 1) / LANES * LANES;
    for (int64_t j = 0; j < n; j++) x[j] = X[j * n_in];
    for (int64_t j = n; j < padded; j++) x[j] = 0;
    return padded;
}
