/* What every update does to a gradient before it uses it: g + 2λ₂w + λ₁ sign(w), times clip_scale, then within ±max_value. */
#ifndef FCNN_POWER
#define FCNN_POWER
/* x^n by squaring: the same bits everywhere, which a library's pow does not promise. */
INLINE double power(double x, int64_t n)
{
    double result = 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) result *= x;
    return result;
}
#endif

/* The arguments that all updates begin with. Without penalty and clipping `is_plain`, and g is taken as it is. */
#define UPDATED           \
    int64_t n;            \
    int64_t is_plain;     \
    double l1;            \
    double l2;            \
    double max_value;     \
    const int64_t *step;  \
    const int64_t *failed_step;   \
    const double *learning_rate;  \
    optional const double *clip_scale; \
    const real *gradients;        \
    real *values;

INLINE real NAME(whole_gradient)(real g, real w, real l1, real twice_l2, real clip, real most)
{
    g = FMA(twice_l2, w, g);
    g += w > 0 ? l1 : w < 0 ? -l1 : 0;
    g *= clip;
    g = g > most ? most : g;
    return g < -most ? -most : g;
}
