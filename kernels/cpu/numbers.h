/* Set `real` and what belongs to it; included before each of the two times that the operations are. REAL_IS_FLOAT is given. */
#undef real
#undef integer
#undef SUFFIX
#undef FMA
#undef SQRT
#undef ABS
#undef LANES
#if REAL_IS_FLOAT
#define real float
#define integer int32_t
#define SUFFIX JOIN(_f32_, LEVEL)
#define SQRT(x) __builtin_sqrtf(x)
#define ABS(x) __builtin_fabsf(x)
#define LANES 16 /* running sums that a sum over elements is made of: element i goes to sum i mod LANES */
#else
#define real double
#define integer int64_t
#define SUFFIX JOIN(_f64_, LEVEL)
#define SQRT(x) __builtin_sqrt(x)
#define ABS(x) __builtin_fabs(x)
#define LANES 8
#endif
#if !HAS_FMA
#define FMA(a, b, c) ((a) * (b) + (c))
#elif REAL_IS_FLOAT
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) __builtin_fma(a, b, c)
#endif

/* A gradient, 0 where it has faded. What is multiplied by smaller ones lies below all normal numbers, and CPUs compute many times
   slower there: units that are far on the flat side of their activation, and samples of which the network is certain, would set
   the pace of a whole step. Beside any other gradient of the sums that it goes into, such a one is nothing. */
INLINE real NAME(faded)(real d) { return ABS(d) < (real)(REAL_IS_FLOAT ? 0x1p-100 : 0x1p-900) ? 0 : d; }
