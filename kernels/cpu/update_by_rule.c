/* The updates of elementwise rules: θ ← θ·keep − ηu, keep = 1 − ηλ, with the direction u by `rule`, t = step + 1:
       NADAM     m, v averages of g, g² by β₁, β₂;  u = (a·g + b·m)/(√v/√(1 − β₂ᵗ) + ε), a = (1 − μ_t)/(1 − Π),
                 b = μ_{t+1}/(1 − Π·μ_{t+1}), Π = μ_1 ⋯ μ_t, μ_i = β₁(1 − ½·0.96^{iψ})
       RADAM     u = f·m/(s√v + e): rectified where ρ_t > 5, m/(1 − β₁ᵗ) else
       ADAMAX    s ← max(β₂s, |g| + ε);  u = m/((1 − β₁ᵗ)s)
       ADADELTA  v average of g²;  u = √(d + ε)/√(v + ε)·g, d average of u², at most 2⁵⁰
       LION      u = sign(β₁m + (1 − β₁)g), then m average of g by β₂
       AMSGRAD   m ← β₁m + g, v ← β₂v + g², top ← max(top, v);  u = a·m/(√top + b), as in adam.c
       CENTERED  v, w averages of g², g;  u = g/(√(v − w²) + ε), v − w² at least 2⁻²⁴v, or with momentum its velocity
       ALONG     u is what another operation has computed
   Sources: Dozat (2016), "Incorporating Nesterov momentum into Adam"; Liu et al. (2020), "On the variance of the adaptive learning
   rate and beyond"; Kingma & Ba (2015), "Adam", algorithm 2; Zeiler (2012), "Adadelta"; Chen et al. (2023), "Symbolic discovery of
   optimization algorithms"; Reddi et al. (2018), "On the convergence of Adam and beyond"; Graves (2013), "Generating sequences with
   recurrent neural networks", eq. 38-40. */
#ifndef FCNN_UPDATE_RULES
#define FCNN_UPDATE_RULES
enum { NADAM, RADAM, ADAMAX, ADADELTA, LION, AMSGRAD, CENTERED, ALONG };
#define LARGEST_SQUARE 0x1p50

/* What a rule takes of the step, from t and the settings. */
typedef struct {
    double a, b, c;
} RuleNumbers;

INLINE RuleNumbers nadam_numbers(const double *s, int64_t t)
{
    /* 0.96^ψ is the fourth number; of the product, factors beyond 2⁻⁶⁰ do not count beside 1 */
    const double fade = s[3];
    double power = 1, product = 1;
    for (int64_t i = 0; i < t && product >= 0x1p-60; i++) {
        power *= fade;
        product *= s[0] * (1 - 0.5 * power);
    }
    const double now = s[0] * (1 - 0.5 * (1 - one_minus_power(fade, t)));
    const double next = s[0] * (1 - 0.5 * (1 - one_minus_power(fade, t + 1)));
    const double a = (1 - now) / (1 - product), b = next / (1 - product * next);
    return (RuleNumbers){b / a, a, 1 / __builtin_sqrt(one_minus_power(s[1], t))};
}

INLINE RuleNumbers radam_numbers(const double *s, int64_t t)
{
    const double left = one_minus_power(s[1], t), first = 1 / one_minus_power(s[0], t), longest = 2 / (1 - s[1]) - 1;
    const double rho = longest - 2 * (double)t * (1 - left) / left;
    if (rho <= 5) return (RuleNumbers){first, 0x1p-126, 1};  /* not 0: times a v that is infinite that is NaN */
    const double rectified = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho);
    return (RuleNumbers){first * __builtin_sqrt(rectified * left), 1, s[2]};
}

INLINE RuleNumbers rule_numbers(int64_t rule, const double *s, int64_t t)
{
    if (rule == NADAM) return nadam_numbers(s, t);
    if (rule == RADAM) return radam_numbers(s, t);
    if (rule == ADAMAX) return (RuleNumbers){1 / one_minus_power(s[0], t), 0, 0};
    if (rule != AMSGRAD) return (RuleNumbers){0, 0, 0};
    const double c = __builtin_sqrt((1 - s[1]) / one_minus_power(s[1], t));
    return (RuleNumbers){(1 - s[0]) / (one_minus_power(s[0], t) * c), s[2] / c, 0};
}
#endif

ARGUMENTS(update_by_rule, SHARED,
          UPDATED
          int64_t rule;
          double setting0;
          double setting1;
          double setting2;
          double setting3;
          SCHEDULED(decay)
          double decay_factor;
          real *first;
          optional real *second;
          optional real *third;)

typedef struct {
    real eta, keep, a, b, c;
} NAME(rule_numbers);

INLINE void NAME(rule_pass)(int rule, int kind, int has_velocity, const NAME(change) * change, const NAME(update_by_rule_arguments) * a,
                            Range range, const NAME(rule_numbers) * k)
{
    const real *restrict gradients = a->gradients;
    real *restrict theta = a->values, *restrict first = a->first, *restrict second = a->second, *restrict third = a->third;
    const real eta = k->eta, keep = k->keep;
    const real beta1 = (real)a->setting0, rest1 = (real)(1 - a->setting0), beta2 = (real)a->setting1, rest2 = (real)(1 - a->setting1);
    const real eps = (real)(rule == ADADELTA || rule == CENTERED ? a->setting1 : a->setting2), momentum = (real)a->setting2;
    for (int64_t i = range.start; i < range.stop; i++) {
        const real g = NAME(changed)(kind, change, gradients[i], theta[i]), h = NAME(factor_of_square)(g);
        real u;
        if (rule == NADAM || rule == RADAM) {
            const real m = NAME(normal)(FMA(beta1, first[i], rest1 * g)), v = NAME(normal)(FMA(rest2 * h, g, beta2 * second[i]));
            first[i] = m;
            second[i] = v;
            u = rule == NADAM ? FMA(k->a, m, g) * k->b / FMA(k->c, SQRT(v), eps) : k->a * m / FMA(k->b, SQRT(v), k->c);
        } else if (rule == ADAMAX) {
            const real m = NAME(normal)(FMA(beta1, first[i], rest1 * g)), size = ABS(g) + eps, faded = beta2 * second[i];
            const real s = faded > size ? faded : size;
            first[i] = m;
            second[i] = s;
            u = k->a * (m / s);
        } else if (rule == ADADELTA) {
            const real v = NAME(normal)(FMA(rest1 * h, g, beta1 * first[i]));
            u = SQRT((second[i] + eps) / (v + eps)) * g;
            const real d = NAME(normal)(FMA(rest1 * NAME(factor_of_square)(u), u, beta1 * second[i]));
            first[i] = v;
            second[i] = d < (real)LARGEST_SQUARE ? d : (real)LARGEST_SQUARE;
        } else if (rule == LION) {
            const real mixed = FMA(beta1, first[i], rest1 * g);
            first[i] = NAME(normal)(FMA(beta2, first[i], rest2 * g));
            u = ABS(mixed) > 0 ? COPYSIGN(1, mixed) : mixed;
        } else if (rule == AMSGRAD) {
            const real m = NAME(normal)(FMA(beta1, first[i], g)), v = NAME(normal)(FMA(h, g, beta2 * second[i]));
            const real top = v > third[i] ? v : third[i];
            first[i] = m;
            second[i] = v;
            third[i] = top;
            u = k->a * (m / (SQRT(top) + k->b));
        } else if (rule == ALONG) {
            u = first[i];
        } else {
            const real v = NAME(normal)(FMA(rest1 * h, g, beta1 * first[i])), w = NAME(normal)(FMA(beta1, second[i], rest1 * g));
            const real around = FMA(-w, w, v), least = v * (real)0x1p-24;
            first[i] = v;
            second[i] = w;
            u = g / (SQRT(around > least ? around : least) + eps);
            if (has_velocity) {
                u = NAME(normal)(FMA(momentum, third[i], u));
                third[i] = u;
            }
        }
        theta[i] = FMA(-eta, u, theta[i] * keep);
    }
}

INLINE void NAME(rule_pass_of)(int kind, const NAME(change) * change, const NAME(update_by_rule_arguments) * a, Range range,
                               const NAME(rule_numbers) * k)
{
    switch (a->rule) {
        case NADAM: NAME(rule_pass)(NADAM, kind, 0, change, a, range, k); break;
        case RADAM: NAME(rule_pass)(RADAM, kind, 0, change, a, range, k); break;
        case ADAMAX: NAME(rule_pass)(ADAMAX, kind, 0, change, a, range, k); break;
        case ADADELTA: NAME(rule_pass)(ADADELTA, kind, 0, change, a, range, k); break;
        case LION: NAME(rule_pass)(LION, kind, 0, change, a, range, k); break;
        case AMSGRAD: NAME(rule_pass)(AMSGRAD, kind, 0, change, a, range, k); break;
        case ALONG: NAME(rule_pass)(ALONG, kind, 0, change, a, range, k); break;
        default: NAME(rule_pass)(CENTERED, kind, a->third != 0, change, a, range, k);
    }
}

OPERATION(update_by_rule)
{
    BEGIN_UPDATE
    const double settings[4] = {a->setting0, a->setting1, a->setting2, a->setting3};
    const RuleNumbers found = rule_numbers(a->rule, settings, *a->step + 1);
    const NAME(rule_numbers) numbers = {
        .eta = (real)eta,
        .keep = (real)(1 - eta * (SCHEDULED_VALUE(a, decay) * a->decay_factor)),
        .a = (real)found.a,
        .b = (real)found.b,
        .c = (real)found.c,
    };
    BY_KIND(change, NAME(rule_pass_of), &change, a, range, &numbers)
}
