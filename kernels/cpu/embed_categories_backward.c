/* The gradients of embed_categories: of a row of a table Σ_j dOut over the samples j = 0, 1, 2, ... of its category, in that order, and
   0 of a row that has none. By tables. dX, if it is asked for, is 0 of embedded units. With `unsound`, that is 1 from then on if the
   square of a sum is not finite. */
ARGUMENTS(embed_categories_backward, SHARED,
          int64_t batch;
          int64_t n_in;
          int64_t n_out;
          int64_t n_embedded;
          const int64_t *order;
          const int64_t *starts;
          const int64_t *places;
          const real *dOut;
          const real *X;
          optional any_order int64_t *unsound;
          real *dE;
          optional real *dX;)

OPERATION(embed_categories_backward)
{
    const int64_t n_embedded = a->n_embedded, n_in = a->n_in, n_rest = a->dX ? n_in - n_embedded : 0;
    const Range range = share_of(n_embedded + n_rest, 1, share);
    int bad = 0;
    for (int64_t f = range.start; f < range.stop && f < n_embedded; f++) {
        const int64_t width = a->places[f + 1] - a->places[f], size = a->starts[f + 1] - a->starts[f];
        real *table = a->dE + a->starts[f];
        memset(table, 0, (size_t)size * sizeof(real));
        for (int64_t j = 0; j < a->batch; j++) {
            const int64_t row = NAME(category)(a->X[j * n_in + a->order[f]], size / width);
            const real *d = a->dOut + j * a->n_out + a->places[f];
            if (row >= 0)
                for (int64_t i = 0; i < width; i++) table[row * width + i] += d[i];
            if (a->dX) a->dX[j * n_in + a->order[f]] = 0;
        }
        for (int64_t i = 0; i < size; i++) {
            const real square = table[i] * table[i];
            bad |= square - square != 0;
        }
    }
    const int64_t begin = range.start > n_embedded ? range.start : n_embedded;
    if (begin < range.stop)
        for (int64_t j = 0; j < a->batch; j++)
            for (int64_t i = begin; i < range.stop; i++)
                a->dX[j * n_in + a->order[i]] = a->dOut[j * a->n_out + a->places[n_embedded] + i - n_embedded];
    if (bad && a->unsound) raise_flag(a->unsound);
}
