/* out = of every embedded unit f the row of its table that X numbers, (n_categories, width) C-ordered from starts[f] on in E, at
   places[f] ... places[f + 1] − 1; then the other units as they are. The row of a number that is no category is NaN. X (n_in, batch),
   out (n_out, batch) F-ordered. */
ARGUMENTS(embed_categories, SAMPLES,
          int64_t batch;
          int64_t n_in;
          int64_t n_out;
          int64_t n_embedded;
          const int64_t *order;
          const int64_t *starts;
          const int64_t *places;
          const real *E;
          rows const real *X;
          rows real *out;)

OPERATION(embed_categories)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t n_embedded = a->n_embedded, n_rest = a->n_in - n_embedded, first_rest = a->places[n_embedded];
    for (int64_t j = range.start; j < range.stop; j++) {
        const real *x = a->X + j * a->n_in;
        real *out = a->out + j * a->n_out;
        for (int64_t f = 0; f < n_embedded; f++) {
            const int64_t width = a->places[f + 1] - a->places[f];
            const int64_t row = NAME(category)(x[a->order[f]], (a->starts[f + 1] - a->starts[f]) / width);
            const real *from = a->E + a->starts[f] + row * width;
            real *to = out + a->places[f];
            if (row < 0)
                for (int64_t i = 0; i < width; i++) to[i] = NOT_A_NUMBER;
            else
                for (int64_t i = 0; i < width; i++) to[i] = from[i];
        }
        for (int64_t i = 0; i < n_rest; i++) out[first_rest + i] = x[a->order[n_embedded + i]];
    }
}
