// Layer normalization: over the units of each sample.
//     μ = mean_i x_i, σ² = mean_i (x_i − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β;
//     dx̂ = γ dY, dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε); dγ and dβ from affine_gradient.cu.
// Source: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3.
//
// A warp or a block per sample (sample_group.cuh). The variance is a second pass over the sample (from cache), not
// mean(x²) − μ², which cancels where the mean is large.
#include "common.cuh"
#include "sample_group.cuh"

// instances: T in float, double, __half, __nv_bfloat16; GROUP in enum SampleGroup
template <typename T, SampleGroup GROUP>
__global__ void layer_norm_forward(long long n, long long batch, Accumulator<T> eps,
                                   const T* __restrict__ X /* F (n, batch) */,
                                   const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                   const Accumulator<T>* __restrict__ beta /* any (n) */,
                                   T* __restrict__ x_hat /* F (n, batch) */,
                                   Accumulator<T>* __restrict__ inv_std /* any (batch) */,
                                   T* __restrict__ out /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        A sum = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) sum += to_accumulator(X[j * n + i]);
        const A mean = group_sum<GROUP>(sum) * per_unit;
        A square = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            const A deviation = to_accumulator(X[j * n + i]) - mean;
            square += deviation * deviation;
        }
        const A factor = inverse_root(group_sum<GROUP>(square) * per_unit + eps);
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            const A h = (to_accumulator(X[j * n + i]) - mean) * factor;
            x_hat[j * n + i] = from_accumulator<T>(h);
            out[j * n + i] = from_accumulator<T>(h * gamma[i] + beta[i]);
        }
        if (first_unit<GROUP>() == 0) inv_std[j] = factor;
    }
}

// dX may be dY
// instances: T in float, double, __half, __nv_bfloat16; GROUP in enum SampleGroup
template <typename T, SampleGroup GROUP>
__global__ void layer_norm_backward(long long n, long long batch, const T* dY /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                    const T* __restrict__ x_hat /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ inv_std /* any (batch) */,
                                    T* dX /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        A sum = 0, product = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            const A d = gamma[i] * to_accumulator(dY[j * n + i]);
            sum += d;
            product += d * to_accumulator(x_hat[j * n + i]);
        }
        const A mean = group_sum<GROUP>(sum) * per_unit;
        const A slope = group_sum<GROUP>(product) * per_unit;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            const A d = gamma[i] * to_accumulator(dY[j * n + i]);
            dX[j * n + i] = from_accumulator<T>((d - mean - to_accumulator(x_hat[j * n + i]) * slope) * inv_std[j]);
        }
    }
}
