/* out_j = scale·x + shift with x the row order[cursor + j] of X, cast to out's type first; the product and the sum are each
   rounded. `source` says what X holds. COPIED rows of row_bytes are taken as they are: labels, and numbers of out's own type. */
#ifndef FCNN_SOURCES
#define FCNN_SOURCES
enum { COPIED, FROM_REAL, FROM_UINT8, FROM_FLOAT16, FROM_BFLOAT16, FROM_FLOAT32, FROM_FLOAT64 };

/* A float16's value: its exponent, less 15, and ten digits behind the point. */
INLINE float float16_value(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    const uint32_t bits = magnitude >= 0x7c00 ? 0x7f800000 | (magnitude & 0x3ff) << 13 : (magnitude << 13) + (112u << 23);
    float value;
    memcpy(&value, &bits, 4);
    if (magnitude < 0x400) value = (float)magnitude * 0x1p-24f; /* subnormal */
    uint32_t out;
    memcpy(&out, &value, 4);
    out |= sign;
    memcpy(&value, &out, 4);
    return value;
}

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

INLINE float bfloat16_value(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
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
        real *out = (real *)a->out + j * n;
#define ROW(type, value_of)                                              \
    {                                                                    \
        const type *x = (const type *)from;                              \
        for (int64_t i = 0; i < n; i++) out[i] = (real)value_of(x[i]);   \
    }                                                                    \
    break;
        switch (a->source) {
            case FROM_REAL: ROW(real, )
            case FROM_UINT8: ROW(uint8_t, )
            case FROM_FLOAT16: ROW(uint16_t, float16_value)
            case FROM_BFLOAT16: ROW(uint16_t, bfloat16_value)
            case FROM_FLOAT32: ROW(float, )
            case FROM_FLOAT64: ROW(double, )
        }
#undef ROW
        if (scale != 1)
            for (int64_t i = 0; i < n; i++) out[i] = out[i] * scale;
        if (shift != 0)
            for (int64_t i = 0; i < n; i++) out[i] = out[i] + shift;
    }
}
