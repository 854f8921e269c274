/* Numbers of the types that data sets have, as `real`. */
#ifndef FCNN_SOURCES
#define FCNN_SOURCES
enum { COPIED, FROM_UINT8, FROM_FLOAT16, FROM_BFLOAT16, FROM_FLOAT32, FROM_FLOAT64 };

INLINE float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* A float16's value: its exponent, less 15, and ten digits behind the point. */
INLINE float float16_value(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    const uint32_t bits = magnitude >= 0x7c00 ? 0x7f800000 | (magnitude & 0x3ff) << 13 : (magnitude << 13) + (112u << 23);
    const float subnormal = (float)magnitude * 0x1p-24f, value = magnitude < 0x400 ? subnormal : float_of(bits);
    uint32_t out;
    memcpy(&out, &value, 4);
    return float_of(out | sign);
}

INLINE float bfloat16_value(uint16_t h) { return float_of((uint32_t)h << 16); }
#endif

/* out = scale·x + shift: x is cast first; the product and the sum are each rounded. */
INLINE void NAME(take_numbers)(int64_t source, const void *from, int64_t n, real scale, real shift, real *out)
{
#define NUMBERS(type, value_of)                                        \
    {                                                                  \
        const type *x = from;                                          \
        for (int64_t i = 0; i < n; i++) out[i] = (real)value_of(x[i]); \
    }                                                                  \
    break;
    switch (source) {
        case FROM_UINT8: NUMBERS(uint8_t, )
        case FROM_FLOAT16: NUMBERS(uint16_t, float16_value)
        case FROM_BFLOAT16: NUMBERS(uint16_t, bfloat16_value)
        case FROM_FLOAT32: NUMBERS(float, )
        case FROM_FLOAT64: NUMBERS(double, )
    }
#undef NUMBERS
    if (scale != 1)
        for (int64_t i = 0; i < n; i++) out[i] = out[i] * scale;
    if (shift != 0)
        for (int64_t i = 0; i < n; i++) out[i] = out[i] + shift;
}
