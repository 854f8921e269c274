/* Elementary functions of one number, without branches, so that the compiler vectorizes whatever loop they stand in.

   Each is a fixed sequence of roundings: a number gives the same bits in a vector of any width, in what is left of a loop and on
   every CPU that has fused multiply-add. NaN gives NaN. −0, infinities and subnormal numbers are right, going in and coming out.

   Errors stay below these, in units in the last place, subnormal ones too; in the last two columns without fused multiply-add, as
   on x86-64-v2. For float they were found among all numbers where they are largest (2^−28 < |x| < 112; 2^−20 < |x| < 16 of the
   logarithms; 2^−20 < |x| ≤ 2^18 of sine and cosine) and every 61st of the rest, for double among 26 million at random, and rounded
   up. Beyond 2^18, 2^47 sine and cosine are those of 0, beyond 2^22, 2^51 that of quarters is, and NaN of infinities. A Φ(x) below ½
   has the unit of ½.

       function                              float   double   float, v2   double, v2
       exponential            e^x             0.95      1.1         1.3          1.4
       exponential_minus_one  e^x - 1         1.65      2.5         1.8          2.8
       logarithm              log x            0.9      0.9        0.95          0.9
       logarithm_one_plus     log(1 + x)       1.5      1.5         1.5          1.5
       hyperbolic_tangent     tanh x           2.0      2.2         2.0          2.2
       normal_cdf             Φ(x)             1.4      1.6         1.5          1.6
       logistic               1/(1 + e^-x)     1.5      1.6         2.2          2.3
       sine                   sin x            1.6      1.6         1.6          1.6
       cosine                 cos x            1.6      1.6         1.6          1.6
       cosine_of_quarters     cos πx/2         2.9      2.6         3.5          3.0

   The polynomials are our own. Each has the least error that its degree allows (Remez), which stands beside it, and coefficients
   that are rounded after that; tests/cpu_kernels/minimax.py computes them. u is half a unit in the last place of 1, 2^−24 or 2^−53.
   Degrees and errors are given for float, then for double.

   Sources of ideas: multiples of ln 2 are subtracted in two parts, Cody & Waite (1980), "Software manual for the elementary
   functions", and so are those of π/2 in three; e^x − 1 is made of e^r − 1, so that nothing cancels, Tang (1992), "Table-driven implementation of the expm1 function in
   IEEE floating-point arithmetic"; log(1 + f) by s = f/(2 + f), Hart et al. (1968), "Computer approximations"; erfc as the
   exponential of a polynomial, Press et al. (1992), "Numerical recipes in C". */

#ifndef HORNER_1
/* c0 + x(c1 + x(c2 + ...)) */
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

#define INFINITE ((real)__builtin_inf())
#define NOT_A_NUMBER ((real)__builtin_nan(""))
#endif

#if REAL_IS_FLOAT
typedef uint32_t NAME(word);
enum { NAME(mantissa_bits) = 23, NAME(bias) = 127 };
INLINE real NAME(with_sign_of)(real x, real sign) { return __builtin_copysignf(x, sign); }
#else
typedef uint64_t NAME(word);
enum { NAME(mantissa_bits) = 52, NAME(bias) = 1023 };
INLINE real NAME(with_sign_of)(real x, real sign) { return __builtin_copysign(x, sign); }
#endif

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

/* 2^(k − bias), 0 for k = 0. Of k, only the bits of sign and exponent are looked at, and must be at most 2·bias. */
INLINE real NAME(power_of_two)(NAME(word) k) { return NAME(from_bits)(k << NAME(mantissa_bits)); }

/* x = n ln 2 + r, |r| ≤ ½ ln 2; the lowest bits of k are those of n + offset. r is −0 for x = −0. */
typedef struct {
    real r;
    NAME(word) k;
} NAME(reduced);

INLINE NAME(reduced) NAME(reduce)(real x, int offset)
{
    const real log2_e = 0x1.71547652b82fep0;
    const real ln2_high = REAL_IS_FLOAT ? 0x1.62e4p-1 : 0x1.62e42fefa38p-1; /* its products with n are exact */
    const real ln2_low = REAL_IS_FLOAT ? 0x1.7f7d1cp-20 : 0x1.ef35793c7673p-45;
    const real shift = (REAL_IS_FLOAT ? 0x1.8p23 : 0x1.8p52) + offset;
    const real shifted = FMA(x, log2_e, shift), n = shifted - shift;
    return (NAME(reduced)){FMA(-n, ln2_low, FMA(-n, ln2_high, x)), NAME(bits)(shifted)};
}

/* (e^r − 1 − r)/r² for |r| ≤ ½ ln 2: degree 4, 9; 0.3 u of e^r − 1. */
INLINE real NAME(exponential_tail)(real r, __attribute__((unused)) real square)
{
#if REAL_IS_FLOAT
    return HORNER_4(r, 0x1.fffffep-2f, 0x1.5554bp-3f, 0x1.555674p-5f, 0x1.1227bp-7f, 0x1.6bebfcp-10f);
#else
    const real even = HORNER_4(square, 0x1.0000000000005p-1, 0x1.555555555228ep-5, 0x1.6c16c17ee729dp-10,
                               0x1.a019a74a6f209p-16, 0x1.28a20691722ap-22);
    const real odd = HORNER_4(square, 0x1.5555555555539p-3, 0x1.1111111119009p-7, 0x1.a01a0174fdb43p-13,
                              0x1.71de881f27a24p-19, 0x1.ae6bb52c983cbp-26);
    return FMA(odd, r, even);
#endif
}

/* e^r and e^r − 1 for |r| ≤ ½ ln 2 */
INLINE real NAME(exponential_of_rest)(real r) { return FMA(FMA(NAME(exponential_tail)(r, r * r), r, 1), r, 1); }
INLINE real NAME(exponential_minus_one_of_rest)(real r)
{
    const real square = r * r;
    return FMA(square, NAME(exponential_tail)(r, square), r);
}

/* e^x = e^r 2^n where it is neither infinite nor 0. The power is in two halves: where e^x is subnormal, only the last product is
   rounded. */
INLINE real NAME(exponential_inside)(real x)
{
    const NAME(reduced) part = NAME(reduce)(x, 2 * NAME(bias));
    const NAME(word) half = part.k >> 1;
    return NAME(exponential_of_rest)(part.r) * NAME(power_of_two)(half) * NAME(power_of_two)(part.k - half);
}

INLINE real NAME(exponential)(real x)
{
    const real most = REAL_IS_FLOAT ? 104 : 745.2, limit = x < 0 ? 0 : INFINITE;
    return ABS(x) > most ? limit : NAME(exponential_inside)(x);
}

/* e^−|x| */
INLINE real NAME(falling_exponential)(real x)
{
    const real most = REAL_IS_FLOAT ? 104 : 745.2;
    return ABS(x) > most ? 0 : NAME(exponential_inside)(-ABS(x));
}

/* e^x − 1 = 2((e^r − 1) 2^(n−1) + (2^(n−1) − ½)): 2^n would overflow before e^x does. */
INLINE real NAME(exponential_minus_one)(real x)
{
    const real centre = REAL_IS_FLOAT ? 34 : 330, radius = REAL_IS_FLOAT ? 54.9 : 379.9;
    const real tiny = REAL_IS_FLOAT ? 0x1p-26 : 0x1p-55;
    const NAME(reduced) part = NAME(reduce)(x, NAME(bias) - 1);
    const real half = NAME(power_of_two)(part.k);
    const real inside = 2 * FMA(NAME(exponential_minus_one_of_rest)(part.r), half, half - (real)0.5);
    const real limit = x < 0 ? -1 : INFINITE;
    const real result = ABS(x - centre) > radius ? limit : inside;
    return ABS(x) < tiny ? x : result;
}

/* k ln 2 + log(1 + f), √½ ≤ 1 + f < √2, from −k, so that f = −0 gives −0. log(1 + f) = f − (½f² − s(½f² + s²P(s²))) with
   s = f/(2 + f) and s²P(s²) = 2 artanh(s)/s − 2. P: degree 2, 6; 0.02 u of the logarithm. */
INLINE real NAME(logarithm_of_parts)(real f, real minus_k)
{
    const real ln2_high = REAL_IS_FLOAT ? 0x1.62e4p-1 : 0x1.62e42fefa38p-1; /* its products with k are exact */
    const real ln2_low = REAL_IS_FLOAT ? 0x1.7f7d1cp-20 : 0x1.ef35793c7673p-45;
    const real s = f / (2 + f), z = s * s, half_square = f * ((real)0.5 * f);
#if REAL_IS_FLOAT
    const real tail = HORNER_2(z, 0x1.55557ap-1f, 0x1.995eccp-2f, 0x1.31e138p-2f);
#else
    const real tail = HORNER_6(z, 0x1.5555555555592p-1, 0x1.999999997fea9p-2, 0x1.24924941e4935p-2, 0x1.c71c5212fb907p-3,
                               0x1.74663d0c735fdp-3, 0x1.39a1e7ee09ec5p-3, 0x1.2f03b613a08dep-3);
#endif
    const real rest = FMA(s, FMA(z, tail, half_square), -half_square);
    return FMA(minus_k, -ln2_high, f + FMA(minus_k, -ln2_low, rest));
}

/* A positive normal x = 2^k (1 + f), √½ ≤ 1 + f < √2: f, −k + zero − (bias + 2^mantissa_bits), and k·2^mantissa_bits. */
typedef struct {
    real f, minus_k;
    NAME(word) exponent;
} NAME(parts);

INLINE NAME(parts) NAME(split)(real x, real zero)
{
    const NAME(word) one = (NAME(word))NAME(bias) << NAME(mantissa_bits);
    const NAME(word) mantissa = ((NAME(word))1 << NAME(mantissa_bits)) - 1;
    const NAME(word) sqrt_half = REAL_IS_FLOAT ? 0x3f3504f3 : 0x3fe6a09e667f3bcd;
    const NAME(word) moved = NAME(bits)(x) + (one - sqrt_half);
    const NAME(word) integer_bits = NAME(bits)(REAL_IS_FLOAT ? 0x1p23 : 0x1p52);
    const real biased_k = NAME(from_bits)(moved >> NAME(mantissa_bits) | integer_bits);
    const real f = NAME(from_bits)((moved & mantissa) + sqrt_half) - 1;
    return (NAME(parts)){f, zero - biased_k, (moved & ~mantissa) - one};
}

/* log x = k ln 2 + log(1 + f), a subnormal x multiplied by a power of two first */
INLINE real NAME(logarithm)(real x)
{
    const real zero = (REAL_IS_FLOAT ? 0x1p23 : 0x1p52) + NAME(bias);
    const real up = REAL_IS_FLOAT ? 0x1p24 : 0x1p54, zero_up = zero + (REAL_IS_FLOAT ? 24 : 54);
    const int subnormal = x < (real)(REAL_IS_FLOAT ? 0x1p-126 : 0x1p-1022);
    const NAME(parts) part = NAME(split)(subnormal ? x * up : x, subnormal ? zero_up : zero);
    const real inside = NAME(logarithm_of_parts)(part.f, part.minus_k);
    const real negative = x < 0 ? NOT_A_NUMBER : x;
    const real outside = x == 0 ? -INFINITE : negative;
    return ((x > 0) & (x < INFINITE)) ? inside : outside;
}

/* log(1 + x) = k ln 2 + log(1 + f) for finite x > −1, with the rounded sum's k and f = 2^−k x − (1 − 2^−k), x for k = 0. */
INLINE real NAME(logarithm_one_plus_inside)(real x)
{
    const NAME(parts) part = NAME(split)(1 + x, (REAL_IS_FLOAT ? 0x1p23 : 0x1p52) + NAME(bias));
    const real scaled = NAME(from_bits)(NAME(bits)(x) - part.exponent);
    const real twice = NAME(from_bits)(NAME(bits)(2) - part.exponent); /* 2^(1−k): 2^−k may be subnormal */
    return NAME(logarithm_of_parts)(scaled - FMA(twice, (real)-0.5, 1), part.minus_k);
}

INLINE real NAME(logarithm_one_plus)(real x)
{
    const real sum = 1 + x, inside = NAME(logarithm_one_plus_inside)(x);
    const real negative = sum < 0 ? NOT_A_NUMBER : x;
    const real outside = sum == 0 ? -INFINITE : negative;
    return ((sum > 0) & (sum < INFINITE)) ? inside : outside;
}

/* log(1 + e^−|x|); for NaN, any number */
INLINE real NAME(logarithm_one_plus_falling)(real x)
{
    return NAME(logarithm_one_plus_inside)(NAME(falling_exponential)(x));
}

/* tanh |x| = (1 − e^−2|x|)/(1 + e^−2|x|), beyond 10, 20 that of 10, 20, which is 1 */
INLINE real NAME(hyperbolic_tangent)(real x)
{
    const real most = REAL_IS_FLOAT ? 10 : 20, a = ABS(x) > most ? most : ABS(x);
    const NAME(reduced) part = NAME(reduce)(-2 * a, NAME(bias));
    const real e = NAME(exponential_minus_one_of_rest)(part.r), power = NAME(power_of_two)(part.k);
    return NAME(with_sign_of)(FMA(e, power, power - 1) / FMA(e, power, power + 1), x);
}

/* (2^r − 1)/r for |r| ≤ ½: degree 5, 10; 0.3 u of 2^r. */
INLINE real NAME(power_slope)(real r)
{
#if REAL_IS_FLOAT
    return HORNER_5(r, 0x1.62e43p-1f, 0x1.ebfbdcp-3f, 0x1.c6aee6p-5f, 0x1.3b2d5p-7f, 0x1.5f3f3p-10f, 0x1.41fb2ap-13f);
#else
    const real square = r * r;
    const real even = HORNER_5(square, 0x1.62e42fefa39efp-1, 0x1.c6b08d7049fe6p-5, 0x1.5d87fe78cdbc3p-10,
                               0x1.ffcbfba876b19p-17, 0x1.b5267e2235884p-24, 0x1.e79b226a80d07p-32);
    const real odd = HORNER_4(square, 0x1.ebfbdff82c5a5p-3, 0x1.3b2ab6fba007cp-7, 0x1.4309130efb21fp-13,
                              0x1.62bfc740d0871p-20, 0x1.e61bf9035be73p-28);
    return FMA(odd, r, even);
#endif
}

/* Beyond these 1 − Φ(a) counts as 0: it is below 0.02 u, 0.002 u. NaN is not. */
INLINE int NAME(is_beyond_tail)(real a) { return a > (REAL_IS_FLOAT ? 6 : 9); }

/* 1 − Φ(a) = ½ erfc(a/√2) = 2^(aP(a) − 1) for 0 ≤ a ≤ 6, 9. P: degree 8, 21; 0.6 u of Φ(a), and no more than 2^10, 2^42 times that
   of 1 − Φ(a). aP(a) = n + r, |r| ≤ ½, and r has no rounding of its own. */
INLINE real NAME(normal_tail)(real a)
{
#if REAL_IS_FLOAT
    const real p = HORNER_8(a, -0x1.26aee2p0f, -0x1.d637e6p-2f, -0x1.ae6122p-5f, 0x1.d31cbp-8f, -0x1.7eb5dep-13f,
                            -0x1.6e5edcp-13f, 0x1.5a196cp-15f, -0x1.199024p-18f, 0x1.69fa7ep-23f);
#else
    const real square = a * a;
    const real even = HORNER_10(square, -0x1.26aec21bce714p0, -0x1.ad6f35dc3a047p-5, 0x1.bf8f177a10e55p-15,
                                0x1.3bafe5171382bp-14, -0x1.10db46aad9bacp-18, -0x1.ed7d977b45449p-25,
                                0x1.ae57ecde73937p-25, 0x1.9b239c9779e75p-29, 0x1.f3387648dab07p-35,
                                0x1.8385a06e47cb4p-42, 0x1.01cadcdc1a64ap-51);
    const real odd = HORNER_10(square, -0x1.d63ed749999c6p-2, 0x1.c4242c2c311c9p-8, -0x1.40c0b26abf0dfp-12,
                               -0x1.3d2c1513dbbfcp-19, 0x1.58fe68c0673d9p-20, -0x1.b4db50ebb1c51p-24,
                               -0x1.ef66c7fb968c9p-27, -0x1.02ebdee660e54p-31, -0x1.6b9909930652dp-38,
                               -0x1.1ce257c7f3612p-46, -0x1.aff2701cdc4cep-58);
    const real p = FMA(odd, a, even);
#endif
    const real shift = (REAL_IS_FLOAT ? 0x1.8p23 : 0x1.8p52) + NAME(bias) - 1;
    const real shifted = FMA(a, p, shift), n = shifted - shift, r = FMA(a, p, -n);
    return FMA(r, NAME(power_slope)(r), 1) * NAME(power_of_two)(NAME(bits)(shifted));
}

/* Φ(x) = ½(1 + erf(x/√2)) */
INLINE real NAME(normal_cdf)(real x)
{
    const real a = ABS(x), tail = NAME(is_beyond_tail)(a) ? 0 : NAME(normal_tail)(a);
    return x < 0 ? tail : 1 - tail;
}

/* σ = 1/(1 + e), e = e^−|x|; for x < 0 it is 1 − σ, a difference without rounding. What σ itself was rounded by shows in
   δ = (1 − σ) − σe, and (1 − σ) − σδ puts it right: a step of Newton's method. */
INLINE real NAME(logistic)(real x)
{
    const real e = NAME(falling_exponential)(x);
    const real right = 1 / (1 + e), left = 1 - right;
    return x < 0 ? FMA(-right, FMA(-right, e, left), left) : right;
}

/* a·b + c, rounded once where a·b nearly cancels c. Without fused multiply-add, what the product loses is added by itself: Dekker
   (1971), "A floating-point technique for extending the available precision". */
INLINE real NAME(multiply_add_exactly)(real a, real b, real c)
{
#if HAS_FMA
    return FMA(a, b, c);
#else
    const real splitter = REAL_IS_FLOAT ? 0x1p12 + 1 : 0x1p27 + 1;
    const real a_high = a * splitter - (a * splitter - a), a_low = a - a_high;
    const real b_high = b * splitter - (b * splitter - b), b_low = b - b_high;
    const real product = a * b;
    const real lost = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
    return (product + c) + lost;
#endif
}

/* sin r and cos r, x = n π/2 + r, |r| ≤ 1.04 π/4; the lowest bits of k are those of n. The first difference is exact, and so is the
   second where it is small: both are multiples of half a unit of the first numbers that they are made of.
   sin r = r + r³P(r²): degree 2, 5; 0.2 u. cos r = 1 − ½r² + r⁴Q(r²): degree 2, 5; 0.02 u. */
typedef struct {
    real sine, cosine;
    NAME(word) k;
} NAME(quadrant);

INLINE NAME(quadrant) NAME(quadrant_of_rest)(real r, NAME(word) k)
{
    const real z = r * r;
#if REAL_IS_FLOAT
    const real p = HORNER_2(z, -0x1.55554p-3f, 0x1.11058ep-7f, -0x1.98b55p-13f);
    const real q = HORNER_2(z, 0x1.555548p-5f, -0x1.6c0a62p-10f, 0x1.99692cp-16f);
#else
    const real p = HORNER_5(z, -0x1.5555555555541p-3, 0x1.111111110ebap-7, -0x1.a01a019a78c0bp-13,
                            0x1.71de34184d5c4p-19, -0x1.ae5d561d61c11p-26, 0x1.5d451e3bd9f5cp-33);
    const real q = HORNER_5(z, 0x1.5555555555544p-5, -0x1.6c16c16c1419fp-10, 0x1.a01a019b2cddbp-16,
                            -0x1.27e4f6f689233p-22, 0x1.1ee9346e31b97p-29, -0x1.8f518395d8c45p-37);
#endif
    return (NAME(quadrant)){FMA(r * z, p, r), FMA(z, FMA(z, q, (real)-0.5), 1), k};
}

INLINE NAME(quadrant) NAME(quadrant_of)(real x)
{
    const real two_over_pi = 0x1.45f306dc9c883p-1, shift = REAL_IS_FLOAT ? 0x1.8p23 : 0x1.8p52;
    const real first = REAL_IS_FLOAT ? 0x1.921fb6p0 : 0x1.921fb54442d18p0; /* π/2 in three parts */
    const real second = REAL_IS_FLOAT ? -0x1.777a5cp-25 : 0x1.1a62633145c07p-54;
    const real third = REAL_IS_FLOAT ? -0x1.ee59dap-50 : -0x1.f1976b7ed8fbcp-110;
    const real shifted = FMA(x, two_over_pi, shift), n = shifted - shift;
    const real near = NAME(multiply_add_exactly)(-n, second, NAME(multiply_add_exactly)(-n, first, x));
    return NAME(quadrant_of_rest)(FMA(-n, third, near), NAME(bits)(shifted));
}

/* Of x in quarters of a turn: x = n + f, |f| ≤ ½, both exact. Beyond 2^22, 2^51 that of 0. */
INLINE NAME(quadrant) NAME(quadrant_of_quarters)(real x)
{
    const real shift = REAL_IS_FLOAT ? 0x1.8p23 : 0x1.8p52, most = REAL_IS_FLOAT ? 0x1p22 : 0x1p51;
    const real inside = ABS(x) <= most ? x : 0 * x;
    const real shifted = inside + shift, n = shifted - shift;
    return NAME(quadrant_of_rest)((inside - n) * (real)1.57079632679489661923, NAME(bits)(shifted));
}

/* cos of x quarters of a turn: x = 4n + g, |g| ≤ 2, and sin of 1 − |g| of them, fP(f²) for |f| ≤ 1: degree 4, 8; 0.8 u, 0.4 u of it.
   Less than half of what the quadrants of both take. Beyond 2^22, 2^51 it is 1. */
INLINE real NAME(cosine_of_quarters)(real x)
{
    const real shift = REAL_IS_FLOAT ? 0x1.8p25 : 0x1.8p54, most = REAL_IS_FLOAT ? 0x1p22 : 0x1p51;
    const real inside = ABS(x) <= most ? x : 0 * x;
    const real n = (inside + shift) - shift, f = 1 - ABS(inside - n), z = f * f;
#if REAL_IS_FLOAT
    return f * HORNER_4(z, 0x1.921fb6p0f, -0x1.4abbc2p-1f, 0x1.4668bp-4f, -0x1.324ccap-8f, 0x1.3daff6p-13f);
#else
    return f * HORNER_8(z, 0x1.921fb54442d18p0, -0x1.4abbce625be52p-1, 0x1.466bc6775aa6ep-4, -0x1.32d2cce627542p-8,
                        0x1.50783485190bcp-13, -0x1.e3074ddd1d11p-19, 0x1.e8f35e9d44099p-25, -0x1.6f797709c1f2dp-31,
                        0x1.9d1b86559f785p-38);
#endif
}

/* sin r, cos r, −sin r or −cos r, by the lowest two bits of k */
INLINE real NAME(turned)(NAME(quadrant) part, NAME(word) k)
{
    const real value = k & 1 ? part.cosine : part.sine;
    return NAME(from_bits)(NAME(bits)(value) ^ (k >> 1 << (8 * sizeof(real) - 1)));
}

/* Beyond these, sin x = ±0 and cos x = 1: neighbouring numbers lie up to 2^−6 apart. */
INLINE int NAME(is_circular)(real x) { return ABS(x) <= (real)(REAL_IS_FLOAT ? 0x1p18 : 0x1p47); }

INLINE real NAME(sine)(real x)
{
    const NAME(quadrant) part = NAME(quadrant_of)(x);
    return (NAME(is_circular)(x) & (x != 0)) ? NAME(turned)(part, part.k) : 0 * x;
}

INLINE real NAME(cosine)(real x)
{
    const NAME(quadrant) part = NAME(quadrant_of)(x);
    return NAME(is_circular)(x) ? NAME(turned)(part, part.k + 1) : FMA(0, x, 1);
}
