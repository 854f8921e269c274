/* out_i = Σ_b blocks_b,i times α, or out_i + that with `accumulate`; in the order of the blocks b, which lie `stride` apart. With `unsound`,
   that is 1 from then on if the square of an element is not finite. */
ARGUMENTS(sum_of_blocks, SHARED,
          int64_t n;
          int64_t n_blocks;
          int64_t stride;
          int64_t accumulate;
          double alpha;
          const real *blocks;
          optional any_order int64_t *unsound;
          real *out;)

OPERATION(sum_of_blocks)
{
    enum { CHUNK = 64 };
    const Range range = share_of(a->n, 16, share);
    const real alpha = (real)a->alpha;
    int bad = 0;
    for (int64_t start = range.start; start < range.stop; start += CHUNK) {
        const int64_t left = range.stop - start, count = left < CHUNK ? left : CHUNK;
        const real *block = a->blocks + start;
        real sum[CHUNK] = {0}, *out = a->out + start;
        for (int64_t b = 0; b < a->n_blocks; b++, block += a->stride)
            for (int64_t i = 0; i < count; i++) sum[i] += block[i];
        for (int64_t i = 0; i < count; i++) {
            const real x = a->accumulate ? FMA(sum[i], alpha, out[i]) : sum[i] * alpha, square = x * x;
            bad |= square - square != 0;
            out[i] = x;
        }
    }
    if (bad && a->unsound) raise_flag(a->unsound);
}
