/* What alpha dropout makes of a unit x: scale·x + kept, or if it is dropped `dropped`. With q = 1 − p and α′ = −λα, the value that SELU tends
   to for small z: scale = (q(1 + p α′²))^(−½), kept = −scale·p α′, dropped = scale·α′ + kept; so a mean of 0 and a variance of 1 stay.
   Source: Klambauer et al. (2017), "Self-normalizing neural networks", "New dropout technique". */
#ifndef FCNN_ALPHA_DROPOUT
#define FCNN_ALPHA_DROPOUT
typedef struct {
    double scale, kept, dropped;
} AlphaDropout;

INLINE AlphaDropout alpha_dropout(double p)
{
    const double value = -1.7580993408473766, q = 1 - p; /* −λα */
    const double scale = 1 / __builtin_sqrt(q * (1 + p * value * value)), kept = -scale * p * value;
    return (AlphaDropout){.scale = scale, .kept = kept, .dropped = scale * value + kept};
}
#endif
