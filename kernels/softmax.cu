// Softmax over the units of each sample, and its backward pass with the full Jacobian.
//
// Samples of at most CAPACITY units are held in registers: one read, one write. With CAPACITY 0 a block reads a wider
// one twice, in forward with the maximum and the sum found together (online_softmax.cuh).
#include "common.cuh"
#include "online_softmax.cuh"
#include "sample_group.cuh"

// out_ij = e^(z_ij − m_j) / Σ_k e^(z_kj − m_j), m_j = max_i z_ij; out may be Z
// instances: T in float, double, __half, __nv_bfloat16; CAPACITY in 0, 32, 128, 512, 1024
// block: at most 256
template <typename T, int CAPACITY>
__global__ void softmax_forward(long long n, long long batch, const T* Z /* F (n, batch) */, T* out /* F (n, batch) */) {
    using A = Accumulator<T>;
    if constexpr (CAPACITY > 0) {
        const bool aligned = samples_are_aligned<held_width<T, CAPACITY>>(n, Z, out);
        for_each_held_sample<T, CAPACITY>(n, batch, aligned, [&](long long j, auto held) {
            auto e = held.load(Z + j * n);
            A largest = -infinity<A>();
            #pragma unroll
            for (int k = 0; k < held.slots; ++k)
                if (held.has(k)) largest = Maximum::combine(e[k], largest);
            largest = held.group.max(largest);
            A sum = 0;
            #pragma unroll
            for (int k = 0; k < held.slots; ++k)
                if (held.has(k)) {
                    e[k] = exp(e[k] - largest);
                    sum = add_rounded(sum, e[k]);
                }
            const A share = 1 / held.group.sum(sum);
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) e[k] *= share;
            held.store(out + j * n, e);
        });
    } else {
        constexpr int width = vector_width<T>;
        for_each_sample<width>(whole_block, n, batch, samples_are_aligned<width>(n, Z, out), [&](auto j, auto sample) {
            OnlineSoftmax<A> softmax;
            sample.for_each_place([&](auto place) { softmax.add(place.load(Z + j * n)); });
            softmax.combine_over_block();
            const A share = 1 / softmax.sum;
            sample.for_each_place([&](auto place) {
                auto z = place.load(Z + j * n);
                #pragma unroll
                for (int k = 0; k < place.size; ++k)
                    z[k] = from_accumulator<T>(exp(to_accumulator(z[k]) - softmax.largest) * share);
                place.store(out + j * n, z);
            });
        });
    }
}

// dZ = A ⊙ (dA − Σ_i A_ij dA_ij): diag(a) − a aᵀ of each sample, times dA; dZ may be dA
// instances: T in float, double, __half, __nv_bfloat16; CAPACITY in 0, 32, 128, 512, 1024
// block: at most 256
template <typename T, int CAPACITY>
__global__ void softmax_backward(long long n, long long batch, const T* dA /* F (n, batch) */,
                                 const T* __restrict__ A /* F (n, batch) */, T* dZ /* F (n, batch) */) {
    if constexpr (CAPACITY > 0) {
        const bool aligned = samples_are_aligned<held_width<T, CAPACITY>>(n, dA, A, dZ);
        for_each_held_sample<T, CAPACITY>(n, batch, aligned, [&](long long j, auto held) {
            auto d = held.load(dA + j * n);
            const auto a = held.load(A + j * n);
            Accumulator<T> inner = 0;
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) inner = multiply_add(a[k], d[k], inner);
            inner = held.group.sum(inner);
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) d[k] = a[k] * (d[k] - inner);
            held.store(dZ + j * n, d);
        });
    } else {
        constexpr int width = vector_width<T>;
        const bool aligned = samples_are_aligned<width>(n, dA, A, dZ);
        for_each_sample<width>(whole_block, n, batch, aligned, [&](long long j, auto sample) {
            Accumulator<T> inner = 0;
            sample.for_each_place([&](auto place) {
                const auto d = place.load(dA + j * n);
                const auto a = place.load(A + j * n);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) inner = multiply_add(to_accumulator(a[k]), to_accumulator(d[k]), inner);
            });
            inner = block_sum(inner);
            sample.for_each_place([&](auto place) {
                auto d = place.load(dA + j * n);
                const auto a = place.load(A + j * n);
                #pragma unroll
                for (int k = 0; k < place.size; ++k)
                    d[k] = from_accumulator<T>(to_accumulator(a[k]) * (to_accumulator(d[k]) - inner));
                place.store(dZ + j * n, d);
            });
        });
    }
}
