// Layer normalization: over the units of each sample.
//     μ = mean_i x_i, σ² = mean_i (x_i − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β;
//     dx̂ = γ dY, dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε); dγ and dβ from affine_gradient.cu.
// Source: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3.
//
// A warp or a block per sample (sample_group.cuh). The variance is a second pass over the sample (from cache), not
// mean(x²) − μ², which cancels where the mean is large.
#include "common.cuh"
#include "sample_group.cuh"

// instances: T in float, double; GROUP in enum SampleGroup
template <typename T, SampleGroup GROUP>
__global__ void layer_norm_forward(long long n, long long batch, T eps, const T* __restrict__ X /* F (n, batch) */,
                                   const T* __restrict__ gamma /* any (n) */, const T* __restrict__ beta /* any (n) */,
                                   T* __restrict__ x_hat /* F (n, batch) */, T* __restrict__ inv_std /* any (batch) */,
                                   T* __restrict__ out /* F (n, batch) */) {
    T per_unit = T(1) / static_cast<T>(n);
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        T sum = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) sum += X[j * n + i];
        T mean = group_sum<GROUP>(sum) * per_unit;
        T square = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            square += (X[j * n + i] - mean) * (X[j * n + i] - mean);
        }
        T factor = inverse_root(group_sum<GROUP>(square) * per_unit + eps);
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            T h = (X[j * n + i] - mean) * factor;
            x_hat[j * n + i] = h;
            out[j * n + i] = h * gamma[i] + beta[i];
        }
        if (first_unit<GROUP>() == 0) inv_std[j] = factor;
    }
}

// dX may be dY
// instances: T in float, double; GROUP in enum SampleGroup
template <typename T, SampleGroup GROUP>
__global__ void layer_norm_backward(long long n, long long batch, const T* dY /* F (n, batch) */,
                                    const T* __restrict__ gamma /* any (n) */,
                                    const T* __restrict__ x_hat /* F (n, batch) */,
                                    const T* __restrict__ inv_std /* any (batch) */, T* dX /* F (n, batch) */) {
    T per_unit = T(1) / static_cast<T>(n);
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        T sum = 0, product = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            T d = gamma[i] * dY[j * n + i];
            sum += d;
            product += d * x_hat[j * n + i];
        }
        T mean = group_sum<GROUP>(sum) * per_unit;
        T slope = group_sum<GROUP>(product) * per_unit;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            dX[j * n + i] = (gamma[i] * dY[j * n + i] - mean - x_hat[j * n + i] * slope) * inv_std[j];
        }
    }
}
