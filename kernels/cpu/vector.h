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
