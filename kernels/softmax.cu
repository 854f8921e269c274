// Softmax over the units of each sample, and its backward pass with the full Jacobian.
//
// A warp or a block per sample (sample_group.cuh). Each sample is read three times in forward and twice in
// backward; all but the first reading come from cache.
#include "common.cuh"
#include "sample_group.cuh"

// out_ij = e^(z_ij − m_j) / Σ_k e^(z_kj − m_j), m_j = max_i z_ij; out may be Z
// instances: T in float, double, __half, __nv_bfloat16; GROUP in enum SampleGroup
template <typename T, SampleGroup GROUP>
__global__ void softmax_forward(long long n, long long batch, const T* Z /* F (n, batch) */, T* out /* F (n, batch) */) {
    using A = Accumulator<T>;
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        const T* z = Z + j * n;
        T* p = out + j * n;
        A largest = -infinity<A>();
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            largest = Maximum::combine(to_accumulator(z[i]), largest);
        }
        largest = group_max<GROUP>(largest);
        A sum = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            sum += exp(to_accumulator(z[i]) - largest);
        }
        sum = group_sum<GROUP>(sum);
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            p[i] = from_accumulator<T>(exp(to_accumulator(z[i]) - largest) / sum);
        }
    }
}

// dZ = A ⊙ (dA − Σ_i A_ij dA_ij): diag(a) − a aᵀ of each sample, times dA; dZ may be dA
// instances: T in float, double, __half, __nv_bfloat16; GROUP in enum SampleGroup
template <typename T, SampleGroup GROUP>
__global__ void softmax_backward(long long n, long long batch, const T* dA /* F (n, batch) */,
                                 const T* __restrict__ A /* F (n, batch) */, T* dZ /* F (n, batch) */) {
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        Accumulator<T> inner = 0;
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            inner += to_accumulator(A[j * n + i]) * to_accumulator(dA[j * n + i]);
        }
        inner = group_sum<GROUP>(inner);
        for (long long i = first_unit<GROUP>(); i < n; i += unit_stride<GROUP>()) {
            dZ[j * n + i] =
                from_accumulator<T>(to_accumulator(A[j * n + i]) * (to_accumulator(dA[j * n + i]) - inner));
        }
    }
}
