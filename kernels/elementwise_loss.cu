// ℓ_j = (1/n) Σ_i u_i ρ(z_ij, y_ij), losses_j = w_j ℓ_j and dZ_ij = L u_i w_j/(n·batch) · ∂ρ/∂z, in one pass. L is the
// loss scale (1 where its pointer is null), multiplied in before dZ is rounded; u are the outputs' weights. With e = z − y:
//     mse: ρ = e²;  mae: ρ = |e|;  huber: ρ = ½e² for |e| ≤ δ, else δ(|e| − ½δ);  log_cosh: ρ = log cosh e;
//     binary_cross_entropy: ρ = vỹ(max(−z, 0) + l) + (1 − ỹ)(max(z, 0) + l), l = log(1 + e^−|z|), ỹ = (1 − δ)y + ½δ;
//     quantile: ρ = (1 − v)e for e > 0, else −ve;  poisson: ρ = e^z − y·z;
//     hinge: ρ = max(0, m), m = 1 − (2y − 1)z;  squared_hinge: ρ = max(0, m)²;
// v is a number of each output, of_output (1 where its pointer is null).
// `lanes` of a warp or, where that is 0, a block per sample (sample_group.cuh).
#include "common.cuh"
#include "loss_scale.cuh"
#include "sample_group.cuh"

enum ElementwiseLoss { MSE, MAE, HUBER, BINARY_CROSS_ENTROPY, QUANTILE, POISSON, LOG_COSH, HINGE, SQUARED_HINGE };

// Returns ρ and leaves ∂ρ/∂z in `slope`. A NaN in z or y reaches both.
template <ElementwiseLoss KIND, typename A>
__device__ inline A loss_of_element(A z, A y, A delta, A v, A& slope) {
    A e = z - y;
    A size = fabs(e);
    if constexpr (KIND == MSE) {
        slope = 2 * e;
        return multiply_rounded(e, e);
    }
    if constexpr (KIND == MAE) {
        slope = e > 0 ? A(1) : e < 0 ? A(-1) : e;
        return size;
    }
    if constexpr (KIND == HUBER) {
        slope = e > delta ? delta : e < -delta ? -delta : e;
        A inner = size > delta ? delta : size;
        return multiply_rounded(inner, multiply_add(inner, A(-0.5), size));
    }
    if constexpr (KIND == BINARY_CROSS_ENTROPY) {
        const A small = exp(-fabs(z)), log_sum = log1p(small);
        const A smooth = multiply_add(A(1) - delta, y, multiply_rounded(A(0.5), delta));
        const A positive = multiply_rounded(v, smooth), negative = A(1) - smooth;
        slope = multiply_add((z >= 0 ? A(1) : small) / add_rounded(A(1), small), positive + negative, -positive);
        const A above = multiply_rounded(negative, add_rounded(z > 0 ? z : A(0), log_sum));
        return multiply_add(positive, add_rounded(z < 0 ? -z : A(0), log_sum), above);
    }
    if constexpr (KIND == QUANTILE) {
        slope = e > 0 ? A(1) - v : e < 0 ? -v : e;
        return multiply_rounded(e, slope);
    }
    if constexpr (KIND == POISSON) {
        const A rate = exp(z);
        slope = add_rounded(rate, -y);
        return add_rounded(rate, multiply_rounded(-z, y));
    }
    if constexpr (KIND == LOG_COSH) {  // below 1, |e| + log(1 + e^−2|e|) − log 2 would cancel
        slope = tanh(e);
        const bool near = size < 1;
        const A log_sum = log1p(near ? multiply_rounded(-slope, slope) : exp(multiply_rounded(A(-2), size)));
        return near ? multiply_rounded(A(-0.5), log_sum) : add_rounded(log_sum, size - A(0.69314718055994530942));
    }
    const A label = multiply_add(A(-2), y, A(1)), m = multiply_add(label, z, A(1));
    if constexpr (KIND == HINGE) {
        slope = m > 0 ? label : m < 0 ? A(0) : m;
        return m < 0 ? A(0) : m;
    }
    const A margin = m < 0 ? A(0) : m;
    slope = 2 * multiply_rounded(label, margin);
    return multiply_rounded(margin, margin);
}

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum ElementwiseLoss
// block: at most 512
template <typename T, ElementwiseLoss KIND>
__global__ void elementwise_loss(long long n, long long batch, int lanes, Accumulator<T> delta,
                                 const T* __restrict__ Z /* F (n, batch) */,
                                 const Accumulator<T>* __restrict__ Y /* F (n, batch) */,
                                 const Accumulator<T>* __restrict__ output_weight /* any (n), may be null */,
                                 const Accumulator<T>* __restrict__ of_output /* any (n), may be null */,
                                 const Accumulator<T>* __restrict__ sample_weight /* any (batch), may be null */,
                                 const double* __restrict__ loss_scale /* any (1), may be null */,
                                 Accumulator<T>* __restrict__ losses /* any (batch) */,
                                 T* __restrict__ dZ /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    const A per_element = read_loss_scale<A>(loss_scale) / (static_cast<A>(n) * static_cast<A>(batch));
    constexpr int width = vector_width<T, A>;
    const bool aligned = samples_are_aligned<width>(n, Z, Y, dZ);
    for_each_sample<width>(SampleGroup{lanes}, n, batch, aligned, [&](long long j, auto sample) {
        const A weight = sample_weight != nullptr && sample.n > 0 ? sample_weight[j] : A(1);
        const A scale = per_element * weight;
        A loss = 0;
        sample.for_each_place([&](auto place) {
            auto z = place.load(Z + j * n);
            const auto y = place.load(Y + j * n);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const long long i = place.index(k);
                const A u = output_weight != nullptr ? output_weight[i] : A(1);
                const A v = of_output != nullptr ? of_output[i] : A(1);
                A slope;
                loss = multiply_add(u, loss_of_element<KIND>(to_accumulator(z[k]), y[k], delta, v, slope), loss);
                z[k] = from_accumulator<T>(slope * (u * scale));
            }
            place.store(dZ + j * n, z);
        });
        loss = sample.group.sum(loss);
        if (sample.leads()) losses[j] = loss * per_unit * weight;
    });
}
