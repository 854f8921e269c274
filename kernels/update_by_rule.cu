// Elementwise rules over the flat buffer, with penalties, clipping and learning rate fused in: θ ← θ(1 − ηλ) − ηu, where the
// direction u is, t = step + 1:
//     NADAM     m, v averages of g, g² by β₁, β₂;  u = (a·g + b·m)/(√v/√(1 − β₂ᵗ) + ε), a = (1 − μ_t)/(1 − Π),
//               b = μ_{t+1}/(1 − Π·μ_{t+1}), Π = μ_1 ⋯ μ_t, μ_i = β₁(1 − ½·fadeⁱ)
//     RADAM     u = f·m/(s√v + e): rectified where ρ_t > 5, m/(1 − β₁ᵗ) else
//     ADAMAX    s ← max(β₂s, |g| + ε);  u = m/((1 − β₁ᵗ)s)
//     ADADELTA  v average of g²;  u = √(d + ε)/√(v + ε)·g, d average of u², at most 2⁵⁰
//     LION      u = sign(β₁m + (1 − β₁)g), then m average of g by β₂
//     AMSGRAD   m ← β₁m + g, v ← β₂v + g², top ← max(top, v);  u = a·m/(√top + b), as in adam.cu
//     CENTERED  v, w averages of g², g;  u = g/(√(v − w²) + ε), v − w² at least 2⁻²⁴v, or with momentum its velocity
//     ALONG     u is what another kernel has computed
//
// One thread per 16 bytes of parameters. A block's first thread works out what depends on t, in double but for the factors of
// Π, of which those beyond 2⁻⁶⁰ do not count. Nothing happens once a step has failed, or in one that is skipped.
// Sources: Dozat (2016), "Incorporating Nesterov momentum into Adam"; Liu et al. (2020), "On the variance of the adaptive
// learning rate and beyond"; Kingma & Ba (2015), "Adam", algorithm 2; Zeiler (2012), "Adadelta"; Chen et al. (2023), "Symbolic
// discovery of optimization algorithms"; Reddi et al. (2018), "On the convergence of Adam and beyond"; Graves (2013),
// "Generating sequences with recurrent neural networks", eq. 38-40.
#include "common.cuh"
#include "flat_parameters.cuh"

enum UpdateRule { NADAM, RADAM, ADAMAX, ADADELTA, LION, AMSGRAD, CENTERED, ALONG };

// 1 − βⁿ, by q₂ₖ = qₖ(2 − qₖ) and qⱼ₊ₖ = qⱼ + qₖ(1 − qⱼ) with qₖ = 1 − βᵏ: nothing cancels
__device__ __forceinline__ double one_minus_power(double beta, long long n) {
    double result = 0;
    for (double q = 1 - beta; n > 0; n >>= 1, q = multiply_rounded(q, add_rounded(2.0, -q)))
        if (n & 1) result = multiply_add(q, 1 - result, result);
    return result;
}

// (a, b, c) of a rule in step t
template <typename T, int RULE>
__device__ void rule_numbers(double beta1, double beta2, double eps, double fade, long long t, T* numbers) {
    double a = 0, b = 0, c = 0;
    if constexpr (RULE == NADAM) {
        T power = 1, product = 1;
        for (long long i = 0; i < t && product >= T(8.673617379884035e-19); ++i) {
            power *= static_cast<T>(fade);
            product = multiply_rounded(product, static_cast<T>(beta1) * multiply_add(T(-0.5), power, T(1)));
        }
        const double now = multiply_rounded(beta1, multiply_add(0.5, one_minus_power(fade, t), 0.5));
        const double next = multiply_rounded(beta1, multiply_add(0.5, one_minus_power(fade, t + 1), 0.5));
        b = (1 - now) / (1 - static_cast<double>(product));
        a = next / multiply_add(-next, static_cast<double>(product), 1.0) / b;
        c = 1 / sqrt(one_minus_power(beta2, t));
    } else if constexpr (RULE == RADAM) {
        const double left = one_minus_power(beta2, t), longest = 2 / (1 - beta2) - 1;
        const double rho = add_rounded(longest, -(2 * static_cast<double>(t) * (1 - left) / left));
        a = 1 / one_minus_power(beta1, t);
        b = 1.1754943508222875e-38;  // 2⁻¹²⁶, not 0: times a v that is infinite that is NaN
        c = 1;
        if (rho > 5) {
            a *= sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho) * left);
            b = 1;
            c = eps;
        }
    } else if constexpr (RULE == ADAMAX) {
        a = 1 / one_minus_power(beta1, t);
    } else if constexpr (RULE == AMSGRAD) {
        const double root = sqrt((1 - beta2) / one_minus_power(beta2, t));
        a = (1 - beta1) / (one_minus_power(beta1, t) * root);
        b = eps / root;
    }
    numbers[0] = static_cast<T>(a);
    numbers[1] = static_cast<T>(b);
    numbers[2] = static_cast<T>(c);
}

// block: at most 512
// instances: T in float; Low in float, __half, __nv_bfloat16; RULE in enum UpdateRule
// instances: T in double; Low in double; RULE in enum UpdateRule
template <typename T, typename Low, int RULE>
__global__ void update_by_rule(long long n, long long n_low, long long n_segments, double setting0, double setting1,
                               double setting2, double setting3, long long n_decay, double weight_decay, T max_value,
                               const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                               const double* __restrict__ decay_table /* any (n_decay), may be null */,
                               const long long* __restrict__ decay_position /* any (1), may be null */,
                               const long long* __restrict__ step /* any (1) */,
                               const double* __restrict__ learning_rate /* any (1) */,
                               const double* __restrict__ clip_scale /* any (1), may be null */,
                               const double* __restrict__ loss_scale /* any (1), may be null */,
                               const long long* __restrict__ skip /* any (1), may be null */,
                               const long long* __restrict__ failed_step /* any (1) */,
                               const T* __restrict__ gradients /* any (n) */, T* __restrict__ values /* any (n) */,
                               Low* __restrict__ low /* any (n_low), may be null */, T* __restrict__ first /* any (n) */,
                               T* __restrict__ second /* any (n), may be null */,
                               T* __restrict__ third /* any (n), may be null */) {
    __shared__ T numbers[3];
    if (is_idle(failed_step, skip)) n = 0;
    if (threadIdx.x == 0) rule_numbers<T, RULE>(setting0, setting1, setting2, setting3, *step + 1, numbers);
    __syncthreads();
    const T a = numbers[0], b = numbers[1], c = numbers[2];
    const T eta = static_cast<T>(*learning_rate);
    const T pull = static_cast<T>(*learning_rate * scheduled_value(weight_decay, n_decay, decay_table, decay_position));
    const T beta1 = static_cast<T>(setting0), rest1 = static_cast<T>(1 - setting0);
    const T beta2 = static_cast<T>(setting1), rest2 = static_cast<T>(1 - setting1);
    const T eps = static_cast<T>(RULE == ADADELTA || RULE == CENTERED ? setting1 : setting2);
    const T momentum = static_cast<T>(setting2);
    constexpr bool has_second = RULE != LION && RULE != ALONG, may_have_third = RULE == AMSGRAD || RULE == CENTERED;
    T* const none = nullptr;
    const bool has_velocity = RULE == CENTERED && third != nullptr;
    const Clipping<T> clipping(loss_scale, clip_scale, max_value);
    update_with_state(
        n, n_low, n_segments, segments, clipping, gradients, values, first, has_second ? second : none,
        may_have_third ? third : none, low,
        [=](T g, T& theta, T& x, T& y, T& z, const Segment<T>& segment) {
            T u;
            if constexpr (RULE == NADAM || RULE == RADAM) {
                x = multiply_add(beta1, x, multiply_rounded(rest1, g));
                y = multiply_add(beta2, y, multiply_rounded(rest2, g * g));
                if constexpr (RULE == NADAM) u = multiply_add(a, x, g) * b / multiply_add(c, sqrt(y), eps);
                else u = a * x / multiply_add(b, sqrt(y), c);
            } else if constexpr (RULE == ADAMAX) {
                x = multiply_add(beta1, x, multiply_rounded(rest1, g));
                const T size = fabs(g) + eps, faded = beta2 * y;
                y = faded > size ? faded : size;
                u = a * (x / y);
            } else if constexpr (RULE == ADADELTA) {
                x = multiply_add(beta1, x, multiply_rounded(rest1, g * g));
                u = sqrt((y + eps) / (x + eps)) * g;
                y = multiply_add(beta1, y, multiply_rounded(rest1, u * u));
                y = y > T(1125899906842624.0) ? T(1125899906842624.0) : y;
            } else if constexpr (RULE == LION) {
                const T mixed = multiply_add(beta1, x, multiply_rounded(rest1, g));
                x = multiply_add(beta2, x, multiply_rounded(rest2, g));
                u = mixed > 0 ? T(1) : mixed < 0 ? T(-1) : mixed;
            } else if constexpr (RULE == AMSGRAD) {
                x = multiply_add(beta1, x, g);
                y = multiply_add(beta2, y, multiply_rounded(g, g));
                z = y > z ? y : z;
                u = a * (x / (sqrt(z) + b));
            } else if constexpr (RULE == ALONG) {
                u = x;
            } else {
                x = multiply_add(beta1, x, multiply_rounded(rest1, g * g));
                y = multiply_add(beta1, y, multiply_rounded(rest1, g));
                const T around = multiply_add(-y, y, x), least = x * T(5.9604644775390625e-08);
                u = g / (sqrt(around > least ? around : least) + eps);
                if (has_velocity) u = z = multiply_add(momentum, z, u);
            }
            decay_parameter(theta, pull, segment);
            theta = multiply_add(-eta * segment.rate, u, theta);
        });
}
