/* The gradients of embed_numbers. With dz = dOut, 0 where a ReLU has cut, and g_k = φ′_k (W_fᵀ dz)_k:
       dW_f = Σ_j dz φᵀ, db_f = Σ_j dz, dphase_k = Σ_j g_k, dw_k = Σ_j c x g_k, dx = Σ_k c w_k g_k,
   c = 2π for cosines and waves, 1 for pieces. By units: a sum over samples runs over blocks of EMBED_BLOCK, in each in LANES running
   sums. Without dX that of the inputs is left out. With `unsound`, that is 1 from then on if the square of a sum is not finite.
   Sources: those of embed_numbers. */
ARGUMENTS(embed_numbers_backward, SHARED,
          int64_t batch;
          int64_t n_in;
          int64_t n_out;
          int64_t n_embedded;
          int64_t m;
          int64_t kind;
          int64_t relu;
          int64_t appends;
          int64_t shared;
          const int64_t *order;
          const int64_t *starts;
          const real *w;
          optional const real *phase;
          const real *W;
          const real *dOut;
          const real *out;
          const real *X;
          optional any_order int64_t *unsound;
          optional real *dw;
          optional real *dphase;
          real *dW;
          real *db;
          optional real *dX;)

/* sum ← sum + x, or x where it is the first; whether the square is not finite. */
INLINE int NAME(add_up)(int is_first, real x, real *sum)
{
    *sum = is_first ? x : *sum + x;
    const real square = *sum * *sum;
    return square - square != 0;
}

/* Unit f; whether one of its sums is unsound. */
INLINE int NAME(embedded_unit)(const NAME(embed_numbers_backward_arguments) * a, int64_t f, real *scratch)
{
    const int64_t m = a->m, values = a->kind == WAVES ? 2 : 1, width = m + (a->appends != 0), n_out = a->n_out;
    const int64_t first = a->starts[f], n_terms = a->starts[f + 1] - first, n_values = values * n_terms;
    const real *W = a->shared ? a->W : a->W + first * values * m, *w = a->w + first;
    const real factor = a->kind == PIECES ? (real)1 : (real)6.28318530717958647693;
    real x[EMBED_BLOCK], dx[EMBED_BLOCK], *d = scratch, *kept = d + width * EMBED_BLOCK, *phi = kept + width * EMBED_BLOCK;
    real *slope = phi + n_values * EMBED_BLOCK, *g = slope + n_values * EMBED_BLOCK;
    int bad = 0;
    for (int64_t start = 0; start < a->batch || start == 0; start += EMBED_BLOCK) {
        const int64_t n = a->batch - start < EMBED_BLOCK ? a->batch - start : EMBED_BLOCK;
        const int is_first = start == 0;
        const int64_t padded = NAME(take_unit)(n, a->n_in, a->X + start * a->n_in + a->order[f], x);
        NAME(transpose)(n, width, a->dOut + start * n_out + f * width, n_out, d, EMBED_BLOCK);
        for (int64_t i = 0; i < width; i++)
            for (int64_t j = n; j < padded; j++) d[i * EMBED_BLOCK + j] = 0;
        if (a->relu) {
            NAME(transpose)(n, width, a->out + start * n_out + f * width, n_out, kept, EMBED_BLOCK);
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++) d[i * EMBED_BLOCK + j] *= kept[i * EMBED_BLOCK + j] > 0 ? 1 : 0;
        }
        NAME(number_values)(a->kind, n_terms, w, a->phase ? a->phase + first : 0, padded, x, phi, a->kind == WAVES ? 0 : slope);
        NAME(combine)(n_values, padded, m, d, W, 1, m, 0, g);
        for (int64_t k = 0; k < n_terms; k++) {
            real *restrict of_cosine = g + k * EMBED_BLOCK;
            if (a->kind == WAVES) {
                const real *of_sine = g + (n_terms + k) * EMBED_BLOCK, *cosine = phi + k * EMBED_BLOCK;
                const real *sine = phi + (n_terms + k) * EMBED_BLOCK;
                for (int64_t j = 0; j < padded; j++) of_cosine[j] = FMA(of_sine[j], cosine[j], -of_cosine[j] * sine[j]);
            } else
                for (int64_t j = 0; j < padded; j++) of_cosine[j] *= slope[k * EMBED_BLOCK + j];
        }
        for (int64_t i = 0; i < m; i++) bad |= NAME(add_up)(is_first, NAME(total_of_row)(padded, d + i * EMBED_BLOCK), a->db + f * m + i);
        for (int64_t k = 0; k < n_values; k++)
            for (int64_t i = 0; i < m; i++)
                bad |= NAME(add_up)(is_first, NAME(product_of_rows)(padded, d + i * EMBED_BLOCK, phi + k * EMBED_BLOCK),
                                    a->dW + (first * values + k) * m + i);
        for (int64_t k = 0; k < n_terms; k++) {
            const real *of_term = g + k * EMBED_BLOCK;
            if (a->dphase) bad |= NAME(add_up)(is_first, NAME(total_of_row)(padded, of_term), a->dphase + first + k);
            if (a->dw) bad |= NAME(add_up)(is_first, factor * NAME(product_of_rows)(padded, x, of_term), a->dw + first + k);
        }
        if (a->dX) {
            NAME(combine_rows)(1, padded, n_terms, g, w, 1, 0, 0, dx);
            for (int64_t j = 0; j < n; j++)
                a->dX[(start + j) * a->n_in + a->order[f]] = a->appends ? FMA(factor, dx[j], d[m * EMBED_BLOCK + j]) : factor * dx[j];
        }
    }
    return bad;
}

OPERATION(embed_numbers_backward)
{
    const int64_t n_rest = a->dX ? a->n_in - a->n_embedded : 0, first_rest = a->n_out - (a->n_in - a->n_embedded);
    const Range range = share_of(a->n_embedded + n_rest, 1, share);
    int bad = 0;
    for (int64_t f = range.start; f < range.stop && f < a->n_embedded; f++) bad |= NAME(embedded_unit)(a, f, share->scratch);
    const int64_t begin = range.start > a->n_embedded ? range.start : a->n_embedded;
    if (begin < range.stop)
        for (int64_t j = 0; j < a->batch; j++)
            for (int64_t i = begin; i < range.stop; i++)
                a->dX[j * a->n_in + a->order[i]] = a->dOut[j * a->n_out + first_rest + i - a->n_embedded];
    if (bad && a->unsound) raise_flag(a->unsound);
}
