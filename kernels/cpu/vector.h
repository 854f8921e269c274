/* Vectors of the width that the level has, for float or double; included after numbers.h. */
#undef vector
#undef lane_mask
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
typedef integer NAME(lane_mask_type) __attribute__((vector_size(VECTOR_BYTES), may_alias));
#define vector NAME(vector_type)
#define lane_mask NAME(lane_mask_type)

INLINE vector NAME(load)(const real *p) { return *(const vector *)p; }
INLINE void NAME(store)(real *p, vector x) { *(vector *)p = x; }
INLINE vector NAME(all)(real x) { return x - (vector){0}; }

/* x where m, else y */
INLINE vector NAME(where)(lane_mask m, vector x, vector y) { return (vector)(((lane_mask)x & m) | ((lane_mask)y & ~m)); }
