#ifndef HORNER_1
// c0 + x·(c1 + x·(c2 + …)), innermost first
#define HORNER_1(x, c0, c1) FMA(c1, x, c0)
#define HORNER_2(x, c0, ...) FMA(HORNER_1(x, __VA_ARGS__), x, c0)
#define HORNER_3(x, c0, ...) FMA(HORNER_2(x, __VA_ARGS__), x, c0)
#define HORNER_4(x, c0, ...) FMA(HORNER_3(x, __VA_ARGS__), x, c0)
#define HORNER_5(x, c0, ...) FMA(HORNER_4(x, __VA_ARGS__), x, c0)
#define HORNER_6(x, c0, ...) FMA(HORNER_5(x, __VA_ARGS__), x, c0)
#define HORNER_7(x, c0, ...) FMA(HORNER_6(x, __VA_ARGS__), x, c0)
#define HORNER_8(x, c0, ...) FMA(HORNER_7(x, __VA_ARGS__), x, c0)
#define HORNER_9(x, c0, ...) FMA(HORNER_8(x, __VA_ARGS__), x, c0)
#define HORNER_10(x, c0, ...) FMA(HORNER_9(x, __VA_ARGS__), x, c0)
#define HORNER_11(x, c0, ...) FMA(HORNER_10(x, __VA_ARGS__), x, c0)
#define HORNER_12(x, c0, ...) FMA(HORNER_11(x, __VA_ARGS__), x, c0)
#define HORNER_13(x, c0, ...) FMA(HORNER_12(x, __VA_ARGS__), x, c0)
#define HORNER_14(x, c0, ...) FMA(HORNER_13(x, __VA_ARGS__), x, c0)
#define HORNER_15(x, c0, ...) FMA(HORNER_14(x, __VA_ARGS__), x, c0)
#define HORNER_16(x, c0, ...) FMA(HORNER_15(x, __VA_ARGS__), x, c0)
#define HORNER_17(x, c0, ...) FMA(HORNER_16(x, __VA_ARGS__), x, c0)
#define INFINITE ((real)__builtin_inf())
#define NOT_A_NUMBER ((real)__builtin_nan(""))
#endif

#if REAL_IS_FLOAT
typedef uint32_t NAME(word);
INLINE real NAME(absolute)(real x) { return __builtin_fabsf(x); }
INLINE real NAME(with_sign_of)(real x, real sign) { return __builtin_copysignf(x, sign); }
#else
typedef uint64_t NAME(word);
INLINE real NAME(absolute)(real x) { return __builtin_fabs(x); }
INLINE real NAME(with_sign_of)(real x, real sign) { return __builtin_copysign(x, sign); }
#endif

// The parts of a number: sign, BIAS + exponent, MANTISSA_BITS.
enum {
    NAME(mantissa_bits) = REAL_IS_FLOAT ? 23 : 52,
    NAME(bias) = REAL_IS_FLOAT ? 127 : 1023,
};

INLINE NAME(word) NAME(bits)(real x)
{
    NAME(word) bits;
    __builtin_memcpy(&bits, &x, sizeof x);
    return bits;
}

INLINE real NAME(from_bits)(NAME(word) bits)
{
    real x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

// 2^(k − bias)
INLINE real NAME(power_of_two)(NAME(word) k) { return NAME(from_bits)(k << NAME(mantissa_bits)); }

// r = x − n ln 2, and n + offset in the lowest bits of k
typedef struct {
    real r;
    NAME(word) k;
} NAME(reduced);

INLINE NAME(reduced) NAME(reduce)(real x, int offset)
{
    const real log2_e = 0x1.71547652b82fep0;
    const real ln2_high = REAL_IS_FLOAT ? 0x1.62e4p-1 : 0x1.62e42fefa38p-1;
    const real ln2_low = REAL_IS_FLOAT ? 0x1.7f7d1cp-20 : 0x1.ef35793c7673p-45;
    const real shift = (REAL_IS_FLOAT ? 0x1.8p23 : 0x1.8p52) + offset;
    const real shifted = FMA(x, log2_e, shift);
    const real n = shifted - shift;
    const real r = FMA(-n, ln2_low, FMA(-n, ln2_high, x));
    return (NAME(reduced)){r, NAME(bits)(shifted)};
}

// (e^r − 1 − r)/r²
INLINE real NAME(exponential_tail)(real r)
{
#if REAL_IS_FLOAT
    return HORNER_4(r, 0x1.fffffep-2f, 0x1.5554bp-3f, 0x1.555674p-5f, 0x1.1227bp-7f, 0x1.6bebfcp-10f);
#else
    return HORNER_9(r, 0x1.0000000000005p-1, 0x1.5555555555539p-3, 0x1.555555555228ep-5, 0x1.1111111119009p-7,
                    0x1.6c16c17ee729dp-10, 0x1.a01a0174fdb43p-13, 0x1.a019a74a6f209p-16, 0x1.71de881f27a24p-19,
                    0x1.28a20691722ap-22, 0x1.ae6bb52c983cbp-26);
#endif
}

// e^r
INLINE real NAME(exponential_of_rest)(real r)
{
    return FMA(FMA(NAME(exponential_tail)(r), r, (real)1), r, (real)1);
}

// e^r − 1
INLINE real NAME(exponential_minus_one_of_rest)(real r) { return FMA(r * r, NAME(exponential_tail)(r), r); }

INLINE real NAME(exponential)(real x)
{
    const real outside = REAL_IS_FLOAT ? 104 : 745.2;
    const NAME(reduced) part = NAME(reduce)(x, 2 * NAME(bias));
    const NAME(word) half = part.k >> 1;
    const real result =
        NAME(exponential_of_rest)(part.r) * NAME(power_of_two)(half) * NAME(power_of_two)(part.k - half);
    const real limit = x < 0 ? 0 : INFINITE;
    return NAME(absolute)(x) > outside ? limit : result;
}

INLINE real NAME(exponential_minus_one)(real x)
{
    const real tiny = REAL_IS_FLOAT ? 0x1p-26 : 0x1p-55;
    const real centre = REAL_IS_FLOAT ? 34 : 330, radius = REAL_IS_FLOAT ? 54.9 : 379.9;
    const NAME(reduced) part = NAME(reduce)(x, NAME(bias) - 1);
    const real half = NAME(power_of_two)(part.k);
    const real result = 2 * FMA(NAME(exponential_minus_one_of_rest)(part.r), half, half - (real)0.5);
    const real limit = x < 0 ? -1 : INFINITE;
    const real inside = NAME(absolute)(x - centre) > radius ? limit : result;
    return NAME(absolute)(x) < tiny ? x : inside;
}

// log(1 + f) − k ln 2
INLINE real NAME(logarithm_of_parts)(real f, real minus_k)
{
    const real ln2_high = REAL_IS_FLOAT ? 0x1.62e4p-1 : 0x1.62e42fefa38p-1;
    const real ln2_low = REAL_IS_FLOAT ? 0x1.7f7d1cp-20 : 0x1.ef35793c7673p-45;
    const real s = f / (2 + f), z = s * s, half_square = f * ((real)0.5 * f);
#if REAL_IS_FLOAT
    const real tail = HORNER_2(z, 0x1.55557ap-1f, 0x1.995eccp-2f, 0x1.31e138p-2f);
#else
    const real tail = HORNER_6(z, 0x1.5555555555592p-1, 0x1.999999997fea9p-2, 0x1.24924941e4935p-2,
                               0x1.c71c5212fb907p-3, 0x1.74663d0c735fdp-3, 0x1.39a1e7ee09ec5p-3,
                               0x1.2f03b613a08dep-3);
#endif
    const real rest = FMA(s, FMA(z, tail, half_square), -half_square);
    return FMA(minus_k, -ln2_high, f + FMA(minus_k, -ln2_low, rest));
}

INLINE real NAME(logarithm)(real x)
{
    const NAME(word) one = (NAME(word))NAME(bias) << NAME(mantissa_bits);
    const NAME(word) mantissa = ((NAME(word))1 << NAME(mantissa_bits)) - 1;
    const NAME(word) sqrt_half = REAL_IS_FLOAT ? 0x3f3504f3 : 0x3fe6a09e667f3bcd;
    const real whole = REAL_IS_FLOAT ? 0x1p23 : 0x1p52;
    const int up = REAL_IS_FLOAT ? 24 : 54;
    const int small = x < (real)(REAL_IS_FLOAT ? 0x1p-126 : 0x1p-1022);
    const real scaled = small ? x * (real)(REAL_IS_FLOAT ? 0x1p24 : 0x1p54) : x;
    const real zero = small ? whole + NAME(bias) + up : whole + NAME(bias);
    const NAME(word) moved = NAME(bits)(scaled) + (one - sqrt_half);
    const real minus_k = zero - NAME(from_bits)((moved >> NAME(mantissa_bits)) | NAME(bits)(whole));
    const real f = NAME(from_bits)((moved & mantissa) + sqrt_half) - 1;
    const real result = NAME(logarithm_of_parts)(f, minus_k);
    const real negative = x < 0 ? NOT_A_NUMBER : x;
    const real outside = x == 0 ? -INFINITE : negative;
    return (x > 0) & (x < INFINITE) ? result : outside;
}

INLINE real NAME(logarithm_one_plus)(real x)
{
    const NAME(word) one = (NAME(word))NAME(bias) << NAME(mantissa_bits);
    const NAME(word) two = (NAME(word))(NAME(bias) + 1) << NAME(mantissa_bits);
    const NAME(word) mantissa = ((NAME(word))1 << NAME(mantissa_bits)) - 1;
    const NAME(word) sqrt_half = REAL_IS_FLOAT ? 0x3f3504f3 : 0x3fe6a09e667f3bcd;
    const real whole = REAL_IS_FLOAT ? 0x1p23 : 0x1p52;
    const real sum = x + 1;
    const NAME(word) moved = NAME(bits)(sum) + (one - sqrt_half);
    const NAME(word) k = (moved & ~mantissa) - one;
    const real minus_k = whole + NAME(bias) - NAME(from_bits)((moved >> NAME(mantissa_bits)) | NAME(bits)(whole));
    const real f = NAME(from_bits)(NAME(bits)(x) - k) - FMA(NAME(from_bits)(two - k), (real)-0.5, (real)1);
    const real result = NAME(logarithm_of_parts)(f, minus_k);
    const real negative = x < -1 ? NOT_A_NUMBER : x;
    const real outside = x == -1 ? -INFINITE : negative;
    return (x > -1) & (x < INFINITE) ? result : outside;
}

INLINE real NAME(hyperbolic_tangent)(real x)
{
    const real most = REAL_IS_FLOAT ? 10 : 20;
    const real a = NAME(absolute)(x);
    const NAME(reduced) part = NAME(reduce)(a + a, NAME(bias));
    const real m = NAME(exponential_minus_one_of_rest)(part.r), power = NAME(power_of_two)(part.k);
#if REAL_IS_FLOAT
    const real square = x * x;
    const real tail = HORNER_4(square, -0x1.55554ap-2f, 0x1.110d26p-3f, -0x1.b9287ap-5f, 0x1.593d08p-6f, -0x1.9b304cp-8f);
    const real near = FMA(a * square, tail, a);
    const real far = 1 - 2 / FMA(m, power, power + 1);
    const real result = a < (real)0.55 ? near : far;
#else
    const real result = FMA(m, power, power - 1) / FMA(m, power, power + 1);
#endif
    return NAME(with_sign_of)(a > most ? 1 : result, x);
}

INLINE real NAME(error_function)(real x)
{
    const real most = REAL_IS_FLOAT ? 4 : 6;
    const real a = NAME(absolute)(x), square = x * x;
#if REAL_IS_FLOAT
    const real slope = HORNER_6(square, 0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cf8p-4f, -0x1.b7f90cp-6f, 0x1.5405bp-8f,
                                -0x1.a3f6fap-11f, 0x1.496a22p-14f);
    const real exponent = HORNER_5(a, -0x1.574d82p-9f, -0x1.1e1c6cp0f, -0x1.4ef89p-1f, -0x1.6bb932p-4f, 0x1.e6025cp-7f,
                                   -0x1.2f5b9ap-10f);
#else
    const real slope = HORNER_11(square, 0x1.06eba8214db68p-3, -0x1.812746b0379bdp-2, 0x1.ce2f21a040d15p-4,
                                 -0x1.b82ce311fa91ep-6, 0x1.565bccf92afa2p-8, -0x1.c02db03dd0662p-11,
                                 0x1.f9a2baa87517dp-14, -0x1.f4ca4d68090bdp-17, 0x1.b97fd39ac73ecp-20,
                                 -0x1.5c0725993198cp-23, 0x1.d71b06c2ed245p-27, -0x1.abae3286f5abfp-31);
    const real exponent = HORNER_16(
        a, -0x1.1d714a95b7051p-20, -0x1.20dcc5a5f3464p0, -0x1.45f94aacf608dp-1, -0x1.a467668fd0afap-4,
        0x1.351753d25ba6cp-6, 0x1.3230f58576957p-11, -0x1.1315af7f0cd44p-9, 0x1.e24ccace4fc75p-11,
        -0x1.e3ad1e32dea31p-13, 0x1.d5a92302b8235p-16, 0x1.e4c77b1e86ae7p-19, -0x1.66c9494e794ffp-19,
        0x1.71402183e9a23p-21, -0x1.d0d2d2aabb912p-24, 0x1.76a6924be7743p-27, -0x1.665a926fe8ab5p-31,
        0x1.377866386ed37p-36);
#endif
    const NAME(reduced) part = NAME(reduce)(exponent, NAME(bias));
    const real near = FMA(a, slope, a);
    const real far = FMA(-NAME(exponential_of_rest)(part.r), NAME(power_of_two)(part.k), (real)1);
    const real result = a < 1 ? near : far;
    return NAME(with_sign_of)(a > most ? 1 : result, x);
}

INLINE real NAME(logistic)(real x)
{
    const real e = NAME(exponential)(-NAME(absolute)(x));
    const real right = 1 / (1 + e);
    const real left = FMA(-e * right, e, e);
    return x < 0 ? left : right;
}
