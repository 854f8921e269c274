/* Transposing, square by square; included after numbers.h. A square is as high as it is wide, a strip of sixteen bytes; where vectors
   hold two strips, two squares are transposed at a time, one of them below the other. */
#undef SIDE
#undef STRIPS
#undef LINE
#undef strip
#undef strips
#define SIDE ((int)(16 / sizeof(real)))
#define LINE ((int)(64 / sizeof(real))) /* of the cache */
#if defined(__AVX__) && (defined(__clang__) || __GNUC__ >= 12) /* which can join two strips */
#define STRIPS 2
#else
#define STRIPS 1
#endif
typedef real NAME(strips_type) __attribute__((vector_size(16 * STRIPS), aligned(sizeof(real)), may_alias));
typedef integer NAME(places_type) __attribute__((vector_size(16 * STRIPS)));
typedef real NAME(strip_type) __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
#define strip NAME(strip_type)
#define strips NAME(strips_type)
#if defined(__clang__)
#define PICK(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define PICK(x, y, ...) __builtin_shuffle(x, y, (NAME(places_type)){__VA_ARGS__})
#endif
/* What is picked of x and y, strip by strip: x0 y0 x1 y1, x2 y2 x3 y3, and, with two numbers in the place of one, x0 y0, x1 y1. */
#if REAL_IS_FLOAT && STRIPS == 2
#define FIRST_IN_TURN(x, y) PICK(x, y, 0, 8, 1, 9, 4, 12, 5, 13)
#define LAST_IN_TURN(x, y) PICK(x, y, 2, 10, 3, 11, 6, 14, 7, 15)
#define FIRST(x, y) PICK(x, y, 0, 1, 8, 9, 4, 5, 12, 13)
#define LAST(x, y) PICK(x, y, 2, 3, 10, 11, 6, 7, 14, 15)
#elif REAL_IS_FLOAT
#define FIRST_IN_TURN(x, y) PICK(x, y, 0, 4, 1, 5)
#define LAST_IN_TURN(x, y) PICK(x, y, 2, 6, 3, 7)
#define FIRST(x, y) PICK(x, y, 0, 1, 4, 5)
#define LAST(x, y) PICK(x, y, 2, 3, 6, 7)
#elif STRIPS == 2
#define FIRST(x, y) PICK(x, y, 0, 4, 2, 6)
#define LAST(x, y) PICK(x, y, 1, 5, 3, 7)
#else
#define FIRST(x, y) PICK(x, y, 0, 2)
#define LAST(x, y) PICK(x, y, 1, 3)
#endif

/* A strip, and where there are two at once the one that lies `below` it. */
INLINE strips NAME(strips_at)(const real *from, int64_t below)
{
    const strip x = *(const strip *)from;
#if STRIPS == 1
    (void)below;
    return x;
#elif REAL_IS_FLOAT
    return __builtin_shufflevector(x, *(const strip *)(from + below), 0, 1, 2, 3, 4, 5, 6, 7);
#else
    return __builtin_shufflevector(x, *(const strip *)(from + below), 0, 1, 2, 3);
#endif
}

/* to[c·to_row + r] = from[r·from_row + c] for SIDE columns of n·SIDE rows. */
INLINE void NAME(transpose_squares)(const int n, const real *from, int64_t from_row, real *to, int64_t to_row)
{
    strips x[4] = {{0}};
    for (int r = 0; r < SIDE; r++) x[r] = NAME(strips_at)(from + r * from_row, n > 1 ? SIDE * from_row : 0);
#if REAL_IS_FLOAT
    const strips low = FIRST_IN_TURN(x[0], x[1]), high = LAST_IN_TURN(x[0], x[1]);
    const strips low2 = FIRST_IN_TURN(x[2], x[3]), high2 = LAST_IN_TURN(x[2], x[3]);
    const strips turned[] = {FIRST(low, low2), LAST(low, low2), FIRST(high, high2), LAST(high, high2)};
#else
    const strips turned[] = {FIRST(x[0], x[1]), LAST(x[0], x[1])};
#endif
    for (int c = 0; c < SIDE; c++) memcpy(to + c * to_row, &turned[c], (size_t)n * 16);
}
#undef PICK
#undef FIRST_IN_TURN
#undef LAST_IN_TURN
#undef FIRST
#undef LAST

/* to[p·to_row + r] = from[r·from_row + p] for n_rows rows of k elements. */
static __attribute__((unused)) void NAME(transpose)(int64_t n_rows, int64_t k, const real *from, int64_t from_row, real *to,
                                                    int64_t to_row)
{
    const int64_t squared_k = k / SIDE * SIDE, squared_rows = n_rows / SIDE * SIDE;
    const int64_t paired_rows = n_rows / (STRIPS * SIDE) * (STRIPS * SIDE);
    for (int64_t line = 0; line < k; line += LINE) { /* of each row in turn, for rows may drive each other out of the cache */
        const int64_t end = line + LINE < k ? line + LINE : k, squared = end < squared_k ? end : squared_k;
        for (int64_t r = 0; r < paired_rows; r += STRIPS * SIDE)
            for (int64_t p = line; p < squared; p += SIDE)
                NAME(transpose_squares)(STRIPS, from + r * from_row + p, from_row, to + p * to_row + r, to_row);
        for (int64_t r = paired_rows; r < squared_rows; r += SIDE)
            for (int64_t p = line; p < squared; p += SIDE)
                NAME(transpose_squares)(1, from + r * from_row + p, from_row, to + p * to_row + r, to_row);
        for (int64_t r = squared_rows; r < n_rows; r++)
            for (int64_t p = line; p < squared; p++) to[p * to_row + r] = from[r * from_row + p];
    }
    for (int64_t p = squared_k; p < k; p++)
        for (int64_t r = 0; r < n_rows; r++) to[p * to_row + r] = from[r * from_row + p];
}
