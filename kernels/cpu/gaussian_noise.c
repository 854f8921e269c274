/* out = A + σε: A, out (n, batch) F-ordered, out may be A. ε_i is normal number first_draw + i, i in memory order, of the stream of philox.h with this
   key and step: two for each word w, by Box and Muller. With u = (⌊w/2⁴⁰⌋ + 1)/2²⁴ and v = (⌊w/2⁸⌋ mod 2²⁴)/2²⁴, which floats hold exactly,
       ε = √(−2 log u) cos 2πv, √(−2 log u) sin 2πv;
   none is larger than 5.8.
   Source: Box & Muller (1958), "A note on the generation of random normal deviates". */
ARGUMENTS(gaussian_noise, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t first_draw;
          int64_t key0;
          int64_t key1;
          SCHEDULED(std)
          const int64_t *step;
          rows const real *A;
          rows real *out;)

enum { NAME(NORMALS_PER_BLOCK) = 8, NAME(NORMALS_AT_ONCE) = BLOCKS_AT_ONCE * NAME(NORMALS_PER_BLOCK) };

/* Two for each word. */
static void NAME(normals_of)(const uint64_t *words, real *normals)
{
    for (int k = 0; k < NAME(NORMALS_AT_ONCE) / 2; k++) {
        const real u = (real)((int32_t)(words[k] >> 40) + 1) * (real)0x1p-24;
        const real quarters = (real)((int32_t)(words[k] >> 8) & 0xffffff) * (real)0x1p-22;
        const real radius = SQRT(-2 * NAME(logarithm)(u));
        normals[2 * k] = radius * NAME(cosine_of_quarters)(quarters);
        normals[2 * k + 1] = radius * NAME(cosine_of_quarters)(quarters - 1);
    }
}

OPERATION(gaussian_noise)
{
    const Range range = share_of(a->batch, 1, share);
    const int64_t end = range.stop * a->n;
    const uint64_t step = (uint64_t)*a->step, key0 = (uint64_t)a->key0, key1 = (uint64_t)a->key1;
    const real sigma = (real)SCHEDULED_VALUE(a, std);
    uint64_t words[BLOCKS_AT_ONCE][4];
    real normals[NAME(NORMALS_AT_ONCE)];
    for (int64_t i = range.start * a->n; i < end;) {
        const int64_t next = a->first_draw + i, skipped = next % NAME(NORMALS_PER_BLOCK);
        draw((uint64_t)(next / NAME(NORMALS_PER_BLOCK)), step, key0, key1, words);
        NAME(normals_of)(words[0], normals);
        const int64_t left = end - i, most = NAME(NORMALS_AT_ONCE) - skipped, count = left < most ? left : most;
        const real *x = a->A + i;
        real *y = a->out + i;
        for (int64_t c = 0; c < count; c++) y[c] = FMA(sigma, normals[skipped + c], x[c]);
        i += count;
    }
}
