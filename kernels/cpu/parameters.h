/* What the updates have in common: the gradient that they use, moments that fade, and Adam's 1 − βᵗ. */
#ifndef FCNN_ONE_MINUS_POWER
#define FCNN_ONE_MINUS_POWER
/* 1 − βⁿ, by q₂ₖ = qₖ(2 − qₖ) and qⱼ₊ₖ = qⱼ + qₖ(1 − qⱼ) with qₖ = 1 − βᵏ. Nothing cancels: the result is right to 4·10⁻¹⁶, where
   1 − pow(β, n) is to 2·10⁻¹¹ (β = 0.999999). The same bits everywhere, which a library's pow does not promise. */
INLINE double one_minus_power(double beta, int64_t n)
{
    double result = 0;
    for (double q = 1 - beta; n > 0; n >>= 1, q *= 2 - q)
        if (n & 1) result += q * (1 - result);
    return result;
}
#endif

/* The smallest normal number, and its root. */
#undef SMALLEST
#undef ROOT_OF_SMALLEST
#undef COPYSIGN
#if REAL_IS_FLOAT
#define SMALLEST 0x1p-126f
#define ROOT_OF_SMALLEST 0x1p-63f
#define COPYSIGN(x, y) __builtin_copysignf(x, y)
#else
#define SMALLEST 0x1p-1022
#define ROOT_OF_SMALLEST 0x1p-511
#define COPYSIGN(x, y) __builtin_copysign(x, y)
#endif

/* A moment, 0 where it has faded below all normal numbers. CPUs compute many times slower with what lies there, and it would stay
   for good: rounded, 0.9 times 4 of the smallest steps is 4 of them. */
INLINE real NAME(normal)(real x) { return ABS(x) < SMALLEST ? 0 : x; }

/* A factor h for the square h·g of a gradient: g, or 0 where the square would lie below all normal numbers. */
INLINE real NAME(factor_of_square)(real g) { return ABS(g) < ROOT_OF_SMALLEST ? 0 : g; }

/* The arguments that all updates begin with. */
#define UPDATED           \
    int64_t n;            \
    double l1;            \
    double l2;            \
    double max_value;     \
    double rate_factor;   \
    const int64_t *step;  \
    const int64_t *failed_step;   \
    const double *learning_rate;  \
    optional const double *clip_scale; \
    optional const double *loss_scale; \
    optional const int64_t *skip; \
    const real *gradients;        \
    real *values;

/* What becomes of a gradient before it is used: g/loss_scale + 2λ₂w + λ₁ sign(w), times clip_scale, then within ±max_value. NaN
   goes through. Where there is no penalty a weight that is infinite must not make one: 0·∞ is NaN. The loss scale is a power of two,
   so that dividing by it leaves all digits. Of the kinds, UNCHANGED gradients are taken as they are, and LINEAR ones are without λ₁
   and max_value: loops of their own, because comparisons take as long as the update. */
#ifndef FCNN_KINDS_OF_CHANGE
#define FCNN_KINDS_OF_CHANGE
enum { UNCHANGED, LINEAR, ANY_CHANGE };
#endif

typedef struct {
    real inverse_scale, l1, twice_l2, clip_scale, max_value;
    int kind;
} NAME(change);

INLINE NAME(change) NAME(change_by)(const double *loss_scale, double l1, double l2, const double *clip_scale, double max_value)
{
    const int is_compared = l1 != 0 || max_value < __builtin_inf(), is_scaled = l2 != 0 || clip_scale || loss_scale;
    return (NAME(change)){
        .inverse_scale = loss_scale ? (real)(1 / *loss_scale) : 1,
        .l1 = (real)l1,
        .twice_l2 = (real)(2 * l2),
        .clip_scale = clip_scale ? (real)*clip_scale : 1,
        .max_value = (real)max_value,
        .kind = is_compared ? ANY_CHANGE : is_scaled ? LINEAR : UNCHANGED,
    };
}

INLINE real NAME(changed)(int kind, const NAME(change) *c, real g, real w)
{
    if (kind == UNCHANGED) return g;
    g *= c->inverse_scale;
    g = c->twice_l2 != 0 ? FMA(c->twice_l2, w, g) : g;
    if (kind == LINEAR) return g * c->clip_scale;
    g = c->l1 != 0 ? g + (ABS(w) > 0 ? COPYSIGN(c->l1, w) : w) : g;
    g *= c->clip_scale;
    g = g > c->max_value ? c->max_value : g;
    return g < -c->max_value ? -c->max_value : g;
}

/* pass(kind, …) with the kind of `change` as a constant. */
#define BY_KIND(change, pass, ...)                                      \
    switch ((change).kind) {                                            \
        case UNCHANGED: pass(UNCHANGED, __VA_ARGS__); break;            \
        case LINEAR: pass(LINEAR, __VA_ARGS__); break;                  \
        default: pass(ANY_CHANGE, __VA_ARGS__);                         \
    }

/* How an update begins. Nothing happens once a step has failed, and in one that is skipped. `range` are the parameters of this share, `eta` is their learning
   rate. */
#define BEGIN_UPDATE                                       \
    if (*a->failed_step >= 0 || (a->skip && *a->skip >= 0)) return;                                        \
    const Range range = share_of(a->n, 16, share);                                                         \
    const double eta = *a->learning_rate * a->rate_factor;                                                 \
    const NAME(change) change = NAME(change_by)(a->loss_scale, a->l1, a->l2, a->clip_scale, a->max_value);
