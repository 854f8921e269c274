/* out = W_f·φ_f(x) + b_f of every embedded unit f, x itself behind it with `appends`; then the other units as they are. φ is a
   cosine, cosine and sine, or a piece of a line for every term of f: starts[f] ... starts[f + 1] − 1 of w and phase (NumberMap in
   the reference). X (n_in, batch), out (n_out, batch), W (m, n_values), b (m, n_embedded) F-ordered.
   Sources: Gorishniy, Rubachev & Babenko (2022), "On embeddings for numerical features in tabular deep learning";
   Holzmüller, Grinsztajn & Steinwart (2024), "Better by default". */
ARGUMENTS(embed_numbers, SAMPLES,
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
          const real *b;
          rows const real *X;
          rows real *out;)

OPERATION(embed_numbers)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t m = a->m, per_term = a->kind == WAVES ? 2 : 1, width = m + (a->appends != 0);
    const int64_t n_rest = a->n_in - a->n_embedded, first_rest = a->n_embedded * width;
    real x[EMBED_BLOCK], *y = share->scratch, *phi = y + width * EMBED_BLOCK;
    for (int64_t start = range.start; start < range.stop; start += EMBED_BLOCK) {
        const int64_t n = range.stop - start < EMBED_BLOCK ? range.stop - start : EMBED_BLOCK;
        const real *X = a->X + start * a->n_in;
        real *out = a->out + start * a->n_out;
        for (int64_t f = 0; f < a->n_embedded; f++) {
            const int64_t first = a->starts[f], n_terms = a->starts[f + 1] - first;
            const real *W = a->shared ? a->W : a->W + first * per_term * m, *b = a->shared ? a->b : a->b + f * m;
            const int64_t padded = NAME(take_unit)(n, a->n_in, X + a->order[f], x);
            NAME(number_values)(a->kind, n_terms, a->w + first, a->phase ? a->phase + first : 0, padded, x, phi, 0);
            NAME(combine)(m, padded, n_terms * per_term, phi, W, m, 1, b, y);
            if (a->relu)
                for (int64_t i = 0; i < m; i++)
                    for (int64_t j = 0; j < padded; j++) {
                        const real value = y[i * EMBED_BLOCK + j];
                        y[i * EMBED_BLOCK + j] = value <= 0 ? 0 : value;
                    }
            if (a->appends) memcpy(y + m * EMBED_BLOCK, x, (size_t)n * sizeof(real));
            NAME(transpose)(width, n, y, EMBED_BLOCK, out + f * width, a->n_out);
        }
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < n_rest; i++)
                out[j * a->n_out + first_rest + i] = X[j * a->n_in + a->order[a->n_embedded + i]];
    }
}
