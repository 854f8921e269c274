/* Draws of 16 bits: draw k is bits 16(k mod 4) ... 16(k mod 4) + 15 of word ⌊k/4⌋ of the stream of Philox4x64-10 with
   a key and the counter (0, step, 0, 0).
   Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; NumPy's `Philox` is this generator. */
#ifndef FCNN_PHILOX
#define FCNN_PHILOX
enum { DRAWS_PER_BLOCK = 16, BLOCKS_AT_ONCE = 16, DRAWS_AT_ONCE = BLOCKS_AT_ONCE * DRAWS_PER_BLOCK };

/* Part of a word. */
typedef uint16_t __attribute__((may_alias)) Draw;

/* Both halves of a·b: in vectors where they multiply 64 bits, else by the instruction that gives 128. */
INLINE void multiply(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low)
{
#if defined(__AVX512DQ__)
    const uint64_t half = 0xffffffff, a0 = a & half, a1 = a >> 32, b0 = b & half, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & half);
    *high = a1 * b1 + (middle >> 32) + (other >> 32);
    *low = a * b;
#else
    const unsigned __int128 product = (unsigned __int128)a * b;
    *high = (uint64_t)(product >> 64);
    *low = (uint64_t)product;
#endif
}

/* Blocks `first` and following of the stream. Before it draws a block, NumPy adds 1 to the counter. Within another function there
   would be too few registers. */
static __attribute__((noinline, unused)) void draw(uint64_t first, uint64_t step, uint64_t key0, uint64_t key1, uint64_t (*words)[4])
{
    for (int block = 0; block < BLOCKS_AT_ONCE; block++) {
        uint64_t c0 = first + 1 + (uint64_t)block, c1 = step, c2 = 0, c3 = 0, k0 = key0, k1 = key1;
#pragma GCC unroll 10 /* or blocks are not computed in vectors */
        for (int round = 0; round < 10; round++) {
            uint64_t high0, low0, high1, low1;
            multiply(c0, 0xD2E7470EE14C6C93, &high0, &low0);
            multiply(c2, 0xCA5A826395121157, &high1, &low1);
            c0 = high1 ^ c1 ^ k0;
            c1 = low1;
            c2 = high0 ^ c3 ^ k1;
            c3 = low0;
            k0 += 0x9E3779B97F4A7C15;
            k1 += 0xBB67AE8584CAA73B;
        }
        words[block][0] = c0;
        words[block][1] = c1;
        words[block][2] = c2;
        words[block][3] = c3;
    }
}

/* The draws from number `next` on lie at *draws in `words`: how many, at most `most`. */
INLINE int64_t draws_from(int64_t next, int64_t most, uint64_t step, uint64_t key0, uint64_t key1, uint64_t (*words)[4],
                          const Draw **draws)
{
    const int64_t skipped = next % DRAWS_PER_BLOCK;
    draw((uint64_t)(next / DRAWS_PER_BLOCK), step, key0, key1, words);
    *draws = (const Draw *)words + skipped;
    return most < DRAWS_AT_ONCE - skipped ? most : DRAWS_AT_ONCE - skipped;
}
#endif
