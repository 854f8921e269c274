/* out_j = scale·x + shift with x the row order[cursor + j] of X, cast to out's type first; the product and the sum are each
   rounded. `source` says what X holds. COPIED rows of row_bytes are taken as they are: labels, and numbers of out's own type. */
#ifndef FCNN_COPY_CHOSEN
#define FCNN_COPY_CHOSEN
/* Rows of a few bytes are copied in one move each, which takes their number to be known. */
INLINE void copy_chosen_of(const int64_t bytes, const char *from, const int64_t *order, Range range, char *to)
{
    for (int64_t j = range.start; j < range.stop; j++) memcpy(to + j * bytes, from + order[j] * bytes, (size_t)bytes);
}

static void copy_chosen(const void *from, const int64_t *order, int64_t bytes, Range range, void *to)
{
    switch (bytes) {
        case 1: copy_chosen_of(1, from, order, range, to); break;
        case 4: copy_chosen_of(4, from, order, range, to); break;
        case 8: copy_chosen_of(8, from, order, range, to); break;
        case 16: copy_chosen_of(16, from, order, range, to); break;
        case 32: copy_chosen_of(32, from, order, range, to); break;
        case 64: copy_chosen_of(64, from, order, range, to); break;
        default: copy_chosen_of(bytes, from, order, range, to);
    }
}
#endif

ARGUMENTS(gather_rows, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t row_bytes;
          int64_t source;
          double scale;
          double shift;
          const void *X;
          const int64_t *order;
          const int64_t *cursor;
          rows void *out;)

OPERATION(gather_rows)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t *order = a->order + *a->cursor;
    const int64_t n = a->n;
    const real scale = (real)a->scale, shift = (real)a->shift;
    if (a->source == COPIED) {
        copy_chosen(a->X, order, a->row_bytes, range, a->out);
        return;
    }
    for (int64_t j = range.start; j < range.stop; j++) {
        const char *from = (const char *)a->X + order[j] * a->row_bytes;
        NAME(take_numbers)(a->source, from, n, scale, shift, (real *)a->out + j * n);
    }
}
