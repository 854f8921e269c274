INLINE real NAME(exponential)(real x)
{
    return (real)(REAL_IS_FLOAT ? __builtin_expf((float)x) : __builtin_exp(x));
}
INLINE real NAME(logarithm)(real x)
{
    return (real)(REAL_IS_FLOAT ? __builtin_logf((float)x) : __builtin_log(x));
}
