/* Vectors of the width that the level has, for float or double; included after numbers.h. */
#undef vector
#undef mask
#undef VECTOR_BYTES
#undef VL
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define VL ((int)(VECTOR_BYTES / sizeof(real)))
typedef real NAME(vector_type) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef integer NAME(mask_type) __attribute__((vector_size(VECTOR_BYTES), may_alias));
#define vector NAME(vector_type)
#define mask NAME(mask_type)

INLINE vector NAME(load)(const real *p) { return *(const vector *)p; }
INLINE void NAME(store)(real *p, vector x) { *(vector *)p = x; }
INLINE vector NAME(all)(real x) { return x - (vector){0}; }

/* x where m, else y */
INLINE vector NAME(where)(mask m, vector x, vector y) { return (vector)(((mask)x & m) | ((mask)y & ~m)); }

/* The first `n` elements, fewer than a vector has, and zeros behind them. */
INLINE vector NAME(load_some)(const real *p, int64_t n)
{
    vector x = {0};
    memcpy(&x, p, (size_t)n * sizeof(real));
    return x;
}
INLINE void NAME(store_some)(real *p, vector x, int64_t n) { memcpy(p, &x, (size_t)n * sizeof(real)); }

/* Sixteen bytes: a side of the squares that are transposed. */
#undef quarter
typedef real NAME(quarter_type) __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
typedef integer NAME(places_type) __attribute__((vector_size(16)));
#define quarter NAME(quarter_type)
#if defined(__clang__)
#define PICK(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define PICK(x, y, ...) __builtin_shuffle(x, y, (NAME(places_type)){__VA_ARGS__})
#endif

/* to[c·to_row + r] = from[r·from_row + c], as many rows and columns as a `quarter` has elements. */
INLINE void NAME(transpose_square)(const real *from, int64_t from_row, real *to, int64_t to_row)
{
#define FROM(r) (*(const quarter *)(from + (r) * from_row))
#define TO(c) (*(quarter *)(to + (c) * to_row))
#if REAL_IS_FLOAT
    const quarter x0 = FROM(0), x1 = FROM(1), x2 = FROM(2), x3 = FROM(3);
    const quarter low = PICK(x0, x1, 0, 4, 1, 5), high = PICK(x0, x1, 2, 6, 3, 7);
    const quarter low2 = PICK(x2, x3, 0, 4, 1, 5), high2 = PICK(x2, x3, 2, 6, 3, 7);
    TO(0) = PICK(low, low2, 0, 1, 4, 5);
    TO(1) = PICK(low, low2, 2, 3, 6, 7);
    TO(2) = PICK(high, high2, 0, 1, 4, 5);
    TO(3) = PICK(high, high2, 2, 3, 6, 7);
#else
    const quarter x0 = FROM(0), x1 = FROM(1);
    TO(0) = PICK(x0, x1, 0, 2);
    TO(1) = PICK(x0, x1, 1, 3);
#endif
#undef FROM
#undef TO
}
#undef PICK
