/* The products for one instruction level. They stand apart because here the compiler fuses x·b + sum by itself, in vectors, for
   which C has no other way to say it (-ffp-contract=fast). */
#include "level.h"

/* Rows of a tile: with two vectors to a row, as many as there are registers for its sums. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define MR 12
#define TILES(X) X(12) X(8) X(4) X(3) X(2) X(1)
#else
#define MR 6
#define TILES(X) X(6) X(4) X(3) X(2) X(1)
#endif

#define REAL_IS_FLOAT 1
#include "product_of.h"
#undef REAL_IS_FLOAT
#define REAL_IS_FLOAT 0
#include "product_of.h"
