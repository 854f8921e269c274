/* Transposing, square by square; included after numbers.h. A side of a square has sixteen bytes. */
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

/* to[p·to_row + r] = from[r·from_row + p] for n_rows rows of k elements. */
static __attribute__((unused)) void NAME(transpose)(int64_t n_rows, int64_t k, const real *from, int64_t from_row, real *to,
                                                    int64_t to_row)
{
    enum { SIDE = sizeof(quarter) / sizeof(real), LINE = 64 / sizeof(real) };
    const int64_t squared_rows = n_rows / SIDE * SIDE, squared_k = k / SIDE * SIDE;
    for (int64_t line = 0; line < k; line += LINE) { /* of each row in turn, for rows may drive each other out of the cache */
        const int64_t end = line + LINE < k ? line + LINE : k, squared = end < squared_k ? end : squared_k;
        for (int64_t r = 0; r < squared_rows; r += SIDE)
            for (int64_t p = line; p < squared; p += SIDE)
                NAME(transpose_square)(from + r * from_row + p, from_row, to + p * to_row + r, to_row);
        for (int64_t r = squared_rows; r < n_rows; r++)
            for (int64_t p = line; p < squared; p++) to[p * to_row + r] = from[r * from_row + p];
    }
    for (int64_t p = squared_k; p < k; p++)
        for (int64_t r = 0; r < n_rows; r++) to[p * to_row + r] = from[r * from_row + p];
}
