/* The products for one kind of numbers. */
#include "numbers.h"
#include "vector.h"
#include "column_sums.h"
#include "transpose.h"
#include "product.h"

#undef NR
#define NR (2 * VL)

/* Where a block of C comes from, and what is done to it. */
typedef struct {
    const real *A, *B, *b;
    real *C;
    int64_t a_row, a_inner, b_inner, b_column, c_row;
    int accumulate, epilogue;
    real alpha, slope;
} NAME(Product);

/* What a tile does for those that come, once before each `step` of its k: `c_rows` rows of the next one's C are fetched, and `b_rows`
   rows of B, `b_row` apart, are copied to `packed` (may be NULL), and those that lie `further` on are fetched. All at one time they
   would keep the products waiting: a core has room for some ten lines on their way. A line is asked for by its last number, for rows
   need not begin where lines do, and what lies before has been fetched. */
typedef struct {
    int64_t step, c_rows, b_rows, b_row, further;
    const real *b;
    real *packed;
} NAME(Meanwhile);

/* How far a tile has come. */
typedef struct {
    vector sum[MR][2];
    const real *row[MR / 3]; /* every third: a register with the stride reaches two more from it */
    const real *a, *b;
    real *copy;
} NAME(Tile);

/* `k` more products of each sum. What is `const int` here is known where this is expanded. */
INLINE void NAME(add_products)(const int mr, const int nv, const int by_rows, const int copies, int64_t k, int64_t stride,
                               int64_t b_inner, NAME(Tile) * t)
{
#pragma GCC unroll 1
    for (int64_t p = 0; p < k; p++, t->b += b_inner) {
        const vector b0 = NAME(load)(t->b), b1 = nv == 2 ? NAME(load)(t->b + VL) : b0;
        if (copies) {
            NAME(store)(t->copy, b0);
            if (nv == 2) NAME(store)(t->copy + VL, b1);
            t->copy += nv * VL;
        }
#pragma GCC unroll 16
        for (int r = 0; r < mr; r++) {
            const vector x = NAME(all)(by_rows ? t->row[r / 3][r % 3 * stride] : t->a[r]);
            t->sum[r][0] += x * b0;
            if (nv == 2) t->sum[r][1] += x * b1;
        }
        if (by_rows) {
#pragma GCC unroll 16
            for (int i = 0; i < (mr + 2) / 3; i++) t->row[i]++;
        } else {
            t->a += stride;
        }
    }
}

/* c (mr, nv·VL) = [c +] a (mr, k)·b (k, nv·VL), then the epilogue. An element of a lies at a[r·stride + p] if `by_rows`, else at
   a[r + p·stride]. `copies`: b is packed into `copy` on the way, which costs nothing beside the products. `next` is where the tile
   lies that comes then, `meanwhile` may be NULL. */
INLINE void NAME(tile)(const int mr, const int nv, const int by_rows, const int copies, int64_t k, const real *a, int64_t stride,
                       const real *b, int64_t b_inner, real *copy, real *c, int64_t c_row, const real *next,
                       const NAME(Meanwhile) * meanwhile, int accumulate, int epilogue, const real *bias, real alpha, real slope,
                       vector *poison)
{
    NAME(Tile) t;
    t.a = a, t.b = b, t.copy = copy;
#pragma GCC unroll 16
    for (int r = 0; r < mr; r++) {
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            t.sum[r][v] = accumulate ? NAME(load)(c + r * c_row + v * VL) : NAME(all)(0);
            if (!meanwhile) __builtin_prefetch(next + r * c_row + v * VL + VL - 1, 1);
        }
        if (r % 3 == 0) t.row[r / 3] = a + r * stride;
    }
    if (meanwhile) {
        const NAME(Meanwhile) w = *meanwhile;
        const real *from = w.b;
        real *to = w.packed;
        for (int64_t left = k; left > 0; left -= w.step) {
            for (int64_t i = 0; i < w.c_rows; i++, next += c_row)
                for (int v = 0; v < nv * VL; v += LINE) __builtin_prefetch(next + v + LINE - 1, 1);
            for (int64_t i = 0; i < w.b_rows; i++, from += w.b_row) {
                for (int v = 0; v < NR; v += LINE) __builtin_prefetch(from + w.further + v + LINE - 1, 0, 2);
                if (!to) continue;
                for (int v = 0; v < NR; v += VL) NAME(store)(to + v, NAME(load)(from + v));
                to += NR;
            }
            NAME(add_products)(mr, nv, by_rows, copies, left < w.step ? left : w.step, stride, b_inner, &t);
        }
    } else {
        NAME(add_products)(mr, nv, by_rows, copies, k, stride, b_inner, &t);
    }
/* Each vector of the tile, in turn: x is it, v its place in the row. One loop for each epilogue keeps the code straight. */
#define EACH_VECTOR(...)                          \
    _Pragma("GCC unroll 16") for (int r = 0; r < mr; r++) \
        _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) \
    {                                             \
        vector x = t.sum[r][v];                   \
        __VA_ARGS__                               \
        t.sum[r][v] = x;                          \
    }
    if (alpha != 1) EACH_VECTOR(x = x * alpha;)
    switch (epilogue) {
        case BIAS: EACH_VECTOR(x = x + NAME(load)(bias + v * VL);) break;
        case BIAS_RELU: /* a NaN stays */
            EACH_VECTOR(x = x + NAME(load)(bias + v * VL); x = NAME(where)(x <= 0, NAME(all)(0), x);)
            break;
        case BIAS_LEAKY: EACH_VECTOR(x = x + NAME(load)(bias + v * VL); x = NAME(where)(x <= 0, x * slope, x);) break;
        case CHECK: {
            vector found[4] = {NAME(all)(0), NAME(all)(0), NAME(all)(0), NAME(all)(0)}; /* ∞·0 is NaN; four sums wait for none */
            EACH_VECTOR(found[(r * nv + v) % 4] += x * x * NAME(all)(0);)
            *poison += (found[0] + found[1]) + (found[2] + found[3]);
            break;
        }
    }
    EACH_VECTOR(NAME(store)(c + r * c_row + v * VL, x);)
#undef EACH_VECTOR
}

/* Rows of `width` elements, fewer than a tile is wide, from one matrix into another. With the number of elements known where this
   is expanded, a row is copied in two or three moves. */
INLINE void NAME(copy_rows_of)(const int width, int64_t n_rows, real *to, int64_t to_row, const real *from, int64_t from_row)
{
    for (int64_t r = 0; r < n_rows; r++) memcpy(to + r * to_row, from + r * from_row, (size_t)width * sizeof(real));
}

static void NAME(copy_narrow)(int64_t width, int64_t n_rows, real *to, int64_t to_row, const real *from, int64_t from_row)
{
    while (width >= VL) {
        NAME(copy_rows_of)(VL, n_rows, to, to_row, from, from_row);
        to += VL;
        from += VL;
        width -= VL;
    }
#define CASE(n) \
    case n: \
        if (n < VL) NAME(copy_rows_of)(n, n_rows, to, to_row, from, from_row); \
        break;
    switch (width) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
        CASE(15)
    }
#undef CASE
}

/* b (k, width) ← B (k, columns), zeros behind its columns. */
static void NAME(pack_b)(int64_t k, int64_t columns, int64_t width, const real *B, int64_t b_inner, int64_t b_column, real *b)
{
    if (b_column == 1 && columns == width) {
        for (int64_t p = 0; p < k; p++, B += b_inner, b += width)
            for (int64_t j = 0; j < width; j += VL) NAME(store)(b + j, NAME(load)(B + j));
        return;
    }
    if (columns < width) memset(b, 0, (size_t)(k * width) * sizeof(real));
    if (b_column == 1)
        NAME(copy_narrow)(columns, k, b, width, B, b_inner);
    else if (b_inner == 1)
        NAME(transpose)(columns, k, B, b_column, b, width);
    else
        for (int64_t p = 0; p < k; p++)
            for (int64_t j = 0; j < columns; j++) b[p * width + j] = B[p * b_inner + j * b_column];
}

static void NAME(pack_a)(int64_t k, int64_t m, const real *A, int64_t a_row, int64_t a_inner, real *a)
{
    if (a_row == 1)
        NAME(copy_narrow)(m, k, a, m, A, a_inner);
    else if (a_inner == 1)
        NAME(transpose)(m, k, A, a_row, a, m);
    else
        for (int64_t p = 0; p < k; p++)
            for (int64_t r = 0; r < m; r++) a[p * m + r] = A[r * a_row + p * a_inner];
}

/* How many of m rows the next tile has. */
INLINE int NAME(rows_of_tile)(int64_t m)
{
#define FITS(n) \
    if (m >= n) return n;
    TILES(FITS)
#undef FITS
    __builtin_unreachable();
}

/* A panel of B (k, NR or VL) that is packed part by part beside the tiles of the one before it: `done` rows are in `to`. */
typedef struct {
    const real *B;
    real *to;
    int64_t columns, width, done;
} NAME(Panel);

static void NAME(pack_until)(const NAME(Product) * g, NAME(Panel) * panel, int64_t until)
{
    if (until <= panel->done) return;
    NAME(pack_b)(until - panel->done, panel->columns, panel->width, panel->B + panel->done * g->b_inner, g->b_inner, g->b_column,
                 panel->to + panel->done * panel->width);
    panel->done = until;
}

/* A whole tile of a product that the caches do not hold; a and b are packed, or lie so. A function of its own has registers enough. */
static __attribute__((noinline)) void NAME(tile_of_far)(int64_t k, const real *a, int64_t stride, const real *b, real *c,
                                                        int64_t c_row, const real *next, const NAME(Meanwhile) * meanwhile,
                                                        int accumulate, int epilogue, const real *bias, real alpha, real slope,
                                                        vector *poison)
{
    NAME(tile)(MR, 2, 0, 0, k, a, stride, b, NR, NULL, c, c_row, next, meanwhile, accumulate, epilogue, bias, alpha, slope, poison);
}

/* Columns j ... j + width − 1 of rows i0 ... i0 + m − 1, tile by tile, for one stretch of k. `packed`: a is packed, each tile's
   rows side by side. `copy`: the first tile packs b there, for the others. `panel`: b is packed, and this one is packed meanwhile. */
static __attribute__((noinline)) void NAME(tiles)(const NAME(Product) * g, int64_t k, const real *a, int packed, int64_t m,
                                                  const real *b, int64_t b_inner, real *copy, NAME(Panel) * panel, int64_t i0,
                                                  int64_t j, int64_t width, int accumulate, int epilogue, vector *poison)
{
    enum { STEP = 32, PART = 2 * LINE }; /* columns are turned a part at a time */
    const int nv = width > VL ? 2 : 1, narrow = width < nv * VL, by_rows = !packed && g->a_row != 1;
    real part[MR * NR], bias[NR] = {0};
    if (g->b && narrow) NAME(copy_narrow)(width, 1, bias, 0, g->b + j, 0);
    const real *const extra = narrow ? bias : g->b ? g->b + j : NULL;
    const int is_copied = panel && g->b_column == 1 && panel->columns == NR;
    NAME(Meanwhile) w = {.step = k > MR * STEP ? (k + MR - 1) / MR : STEP};
    const int64_t n_steps = (k + w.step - 1) / w.step;
    w.c_rows = (MR + n_steps - 1) / (n_steps ? n_steps : 1);
    for (int64_t first = 0, mr; first < m; first += mr) {
        mr = NAME(rows_of_tile)(m - first);
        const real *from = a + first * (packed ? k : g->a_row);
        const int64_t stride = packed ? mr : by_rows ? g->a_row : g->a_inner;
        real *c = g->C + (i0 + first) * g->c_row + j, *out = narrow ? part : c, *next = narrow ? part : c + mr * g->c_row;
        const int64_t c_row = narrow ? NR : g->c_row;
        if (narrow && accumulate) {
            memset(part, 0, sizeof part); /* a NaN that lies behind the columns would be found */
            NAME(copy_narrow)(width, mr, part, NR, c, g->c_row);
        }
        if (panel && mr == MR && width == NR) {
            const int64_t until = k * (first + mr) / m;
            w.b = panel->B + panel->done * g->b_inner;
            if (is_copied) {
                w.b_rows = (until - panel->done) / n_steps;
                w.b_row = g->b_inner;
                w.packed = panel->to + panel->done * NR;
                w.further = n_steps * w.b_rows * w.b_row;
                panel->done += n_steps * w.b_rows;
            } else if (g->b_inner == 1) {
                w.b_rows = (panel->columns + n_steps - 1) / n_steps;
                w.b_row = g->b_column;
            }
            if (first + mr == m) next = g->C + i0 * g->c_row + j + NR;
            NAME(tile_of_far)(k, from, stride, b, c, c_row, next, &w, accumulate, epilogue, extra, g->alpha, g->slope, poison);
            if (!is_copied) NAME(pack_until)(g, panel, until / PART * PART);
            continue;
        }
#define TILE(n, nv, by_rows, copies)                                                                                        \
    NAME(tile)(n, nv, by_rows, copies, k, from, stride, b, b_inner, copy, out, c_row, next, NULL, accumulate, epilogue, extra, \
               g->alpha, g->slope, poison)
#define CASE(n)                    \
    case n:                        \
        if (by_rows && nv == 2)    \
            TILE(n, 2, 1, 0);      \
        else if (by_rows)          \
            TILE(n, 1, 1, 0);      \
        else if (nv == 2)          \
            TILE(n, 2, 0, 0);      \
        else                       \
            TILE(n, 1, 0, 0);      \
        break;
        if (copy) {
            if (by_rows) TILE(MR, 2, 1, 1);
            else TILE(MR, 2, 0, 1);
            b = copy;
            b_inner = NR;
            copy = NULL;
        } else
            switch (mr) { TILES(CASE) }
#undef CASE
#undef TILE
        if (narrow) NAME(copy_narrow)(width, mr, c, g->c_row, part, NR);
    }
}

enum { NAME(KC) = 512, NAME(MC) = 512 / (sizeof(real) / 4) };

/* Rows i0 ... i1 of C. */
static int NAME(multiply)(const NAME(Product) * g, int64_t i0, int64_t i1, int64_t n, int64_t k, real *scratch)
{
    enum { KC = NAME(KC), MC = NAME(MC), FAR = (1 << 19) / sizeof(real) };
    const int64_t n_k = (k + KC - 1) / KC, kc = n_k ? (k + n_k - 1) / n_k : 1, m = i1 - i0;
    const int64_t n_m = (m + MC - 1) / MC;
    real *const panels[] = {scratch, scratch + KC * NR}, *const packed_a = scratch + 2 * KC * NR;
    const int parts_of_b = g->b_column == 1 && g->b_inner >= 2 * n; /* rows: see below */
    const int packs_b = g->b_column != 1 || (m >= 64 && n > 64 && (parts_of_b || k * n > 32768)) || (n > 512 && m > MR);
    const int apart = g->a_inner == 1 && g->a_row >= 2 * k; /* parts of rows: those of a tile may be in each other's way in the cache */
    const int packs_a = g->a_row != 1 && g->a_inner != 1 ? 1
                        : g->a_row != 1                  ? m >= 64 && n >= (apart ? 128 : 512)
                                                         : k > 128 && m > 64 && n > 64;
    vector poison = NAME(all)(0);
    for (int64_t p = 0; p < k || p == 0; p += kc) {
        const int64_t depth = k - p < kc ? k - p : kc;
        const int last = p + kc >= k, accumulate = g->accumulate || p > 0;
        NAME(Product) part = *g;
        if (!last) part.alpha = 1;
        for (int64_t block = 0; block < n_m; block++) {
            const int64_t start = i0 + m * block / n_m, count = i0 + m * (block + 1) / n_m - start;
            const real *a = g->A + start * g->a_row + p * g->a_inner;
            if (packs_a) {
                const int64_t most = g->a_row == 1 ? 8 : depth; /* as many lines as stay in the cache from tile to tile */
                for (int64_t q = 0; q < depth; q += most)
                    for (int64_t r = 0, mr; r < count; r += mr) {
                        mr = NAME(rows_of_tile)(count - r);
                        NAME(pack_a)(depth - q < most ? depth - q : most, mr, a + r * g->a_row + q * g->a_inner, g->a_row,
                                     g->a_inner, packed_a + r * depth + q * mr);
                    }
                a = packed_a;
            }
            /* What lies far away is packed a panel ahead. Of the rest the first tile packs rows, on its way. */
            const int is_far = packs_b && (packs_a || g->a_row == 1) && depth * n >= FAR && count >= 4 * MR;
            NAME(Panel) panel = {.done = 0}, ahead = {.done = 0};
            for (int64_t j = 0, number = 0; j < n; j += NR, number++) {
                const real *b = g->B + p * g->b_inner + j * g->b_column;
                const int64_t width = n - j < NR ? n - j : NR, whole = width > VL ? NR : VL, left = n - j - width;
                int64_t b_inner = g->b_inner;
                const int copies = !is_far && packs_b && width == NR && g->b_column == 1 && count >= MR;
                if (!copies && (packs_b || width < whole)) {
                    panel = is_far && number ? ahead : (NAME(Panel)){b, panels[0], width, whole, 0};
                    NAME(pack_until)(g, &panel, depth);
                    b = panel.to;
                    b_inner = whole;
                }
                if (is_far && left)
                    ahead = (NAME(Panel)){g->B + p * g->b_inner + (j + NR) * g->b_column, panels[(number + 1) % 2],
                                          left < NR ? left : NR, left > VL ? NR : VL, 0};
                NAME(tiles)(&part, depth, a, packs_a, count, b, b_inner, copies ? panels[0] : NULL, is_far && left ? &ahead : NULL,
                            start, j, width, accumulate, last ? g->epilogue : STORE, &poison);
            }
        }
    }
    int unsound = 0;
    for (int i = 0; i < VL; i++) unsound |= poison[i] != 0; /* NaN is not 0 */
    return unsound;
}

/* Cᵀ = Bᵀ·Aᵀ, for a C of so few columns that a vector would be mostly empty: rows i0 ... i1 of C lie along it instead. The sums
   are the same ones. */
static int NAME(multiply_turned)(const NAME(Product) * g, int64_t i0, int64_t i1, int64_t n, int64_t k, real *scratch)
{
    enum { CHUNK = 512 };
    real *const turned = scratch + 2 * NAME(KC) * NR + NAME(KC) * NAME(MC);
    int unsound = 0;
    for (int64_t i = i0, m; i < i1; i += m) {
        m = i1 - i < CHUNK ? i1 - i : CHUNK;
        const NAME(Product) part = {.A = g->B, .B = g->A + i * g->a_row, .C = turned, .a_row = g->b_column, .a_inner = g->b_inner,
                                    .b_inner = g->a_inner, .b_column = g->a_row, .c_row = m,
                                    .epilogue = g->epilogue == CHECK ? CHECK : STORE, .alpha = g->alpha};
        unsound |= NAME(multiply)(&part, 0, n, m, k, scratch);
        if (g->epilogue == BIAS)
            for (int64_t j = 0; j < n; j++)
                for (int64_t r = 0; r < m; r++) turned[j * m + r] += g->b[j];
        NAME(transpose)(n, m, turned, m, g->C + i * g->c_row, g->c_row);
    }
    return unsound;
}

/* Which of the two: the one with fewer vectors by a third, and by three quarters where Aᵀ does not lie as it is read. */
static int NAME(is_turned)(const NAME(Product) * g, int64_t m, int64_t n)
{
    const int64_t upright = m * ((n + VL - 1) / VL), turned = n * ((m + VL - 1) / VL);
    const int plain = !g->accumulate && (g->epilogue == STORE || g->epilogue == BIAS || g->epilogue == CHECK);
    return plain && m >= VL && n < VL && (g->a_row == 1 ? 3 * turned <= 2 * upright : g->a_inner == 1 && 4 * turned <= upright);
}

/* The product of group number `group`. */
#define PRODUCT(group)                                                                                                        \
    {.A = a->A + (group) * a->a_group, .B = a->B + (group) * a->b_group, .b = a->b ? a->b + (group) * a->n : NULL,             \
     .C = a->C + (group) * a->c_group, .a_row = a->a_row, .a_inner = a->a_inner, .b_inner = a->b_inner,                        \
     .b_column = a->b_column, .c_row = a->c_row, .accumulate = (int)a->accumulate, .epilogue = (int)a->epilogue,               \
     .alpha = (real)a->alpha, .slope = (real)a->slope}

/* Samples are shared out as they are everywhere. */
void NAME(product_of_samples)(const void *arguments, const Share *share)
{
    const NAME(product_of_samples_arguments) *a = arguments;
    const Range range = share_of(a->batch, 1, share);
    if (range.start >= range.stop) return;
    int unsound = 0;
    for (int64_t group = 0; group < a->groups; group++) {
        const NAME(Product) g = PRODUCT(group);
        const int turned = NAME(is_turned)(&g, a->batch, a->n);
        unsound |= (turned ? NAME(multiply_turned) : NAME(multiply))(&g, range.start, range.stop, a->n, a->k, share->scratch);
    }
    if (unsound) raise_flag(a->unsound);
}

void NAME(product_of_weights)(const void *arguments, const Share *share)
{
    const NAME(product_of_weights_arguments) *a = arguments;
    const int64_t m = a->m / a->groups;
    const NAME(Product) first = PRODUCT(0);
    const int turned = NAME(is_turned)(&first, m, a->n);
    const Range range = share_of(a->m, turned ? VL : 1, share);
    int unsound = 0;
    for (int64_t i = range.start, stop; i < range.stop; i = stop) {
        const int64_t group = i / m, before = group * m;
        const NAME(Product) g = PRODUCT(group);
        stop = before + m < range.stop ? before + m : range.stop;
        unsound |= (turned ? NAME(multiply_turned) : NAME(multiply))(&g, i - before, stop - before, a->n, a->k, share->scratch);
    }
    if (unsound) raise_flag(a->unsound);
}
#undef PRODUCT

void NAME(gradient_of_blocks)(const void *arguments, const Share *share)
{
    const NAME(gradient_of_blocks_arguments) *a = arguments;
    const int64_t of_A = a->groups * a->m, of_B = a->groups * a->n, size = a->m * of_B + (a->biases ? of_B : 0);
    const Range range = share_of(a->n_blocks, 1, share);
    const Share whole = {.part = 0, .n_parts = 1, .scratch = share->scratch};
    for (int64_t block = range.start; block < range.stop; block++) {
        const Share of_block = {.part = block, .n_parts = a->n_blocks};
        const Range samples = share_of(a->batch, 1, &of_block);
        const int64_t count = samples.stop - samples.start;
        const real *B = a->B + samples.start * of_B;
        real *out = a->blocks + block * size;
        const NAME(product_of_weights_arguments) weights = {
            .m = of_A, .n = a->n, .k = count, .a_row = 1, .a_inner = of_A, .b_inner = of_B, .b_column = 1, .c_row = a->n,
            .groups = a->groups, .a_group = a->m, .b_group = a->n, .c_group = a->m * a->n, .epilogue = STORE, .alpha = 1,
            .A = a->A + samples.start * of_A, .B = B, .C = out};
        NAME(product_of_weights)(&weights, &whole);
        if (a->biases) NAME(sum_columns)(0, of_B, of_B, count, B, out + of_A * a->n);
    }
}
