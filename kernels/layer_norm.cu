// Layer normalization: over the units of each sample.
//     μ = mean_i x_i, σ² = mean_i (x_i − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β;
//     dx̂ = γ dY, dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε); dγ and dβ from affine_gradient.cu.
// Source: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3.
//
// Samples of at most CAPACITY units are held in registers: one read. With CAPACITY 0 a block reads a wider one twice. The
// variance is a second pass over the registers, or that of parts combined (moments.cuh), not mean(x²) − μ², which
// cancels where the mean is large.
#include "common.cuh"
#include "moments.cuh"
#include "sample_group.cuh"

// instances: T in float, double, __half, __nv_bfloat16; CAPACITY in 0, 32, 128, 512, 1024
// block: at most 256
template <typename T, int CAPACITY>
__global__ void layer_norm_forward(long long n, long long batch, Accumulator<T> eps,
                                   const T* __restrict__ X /* F (n, batch) */,
                                   const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                   const Accumulator<T>* __restrict__ beta /* any (n) */,
                                   T* __restrict__ x_hat /* F (n, batch) */,
                                   Accumulator<T>* __restrict__ inv_std /* any (batch) */,
                                   T* __restrict__ out /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    if constexpr (CAPACITY > 0) {
        const bool aligned = samples_are_aligned<held_width<T, CAPACITY>>(n, X, gamma, beta, x_hat, out);
        for_each_held_sample<T, CAPACITY>(n, batch, aligned, [&](long long j, auto held) {
            auto x = held.load(X + j * n);
            A sum = 0;
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) sum += x[k];
            const A mean = group_sum<held.group>(sum) * per_unit;
            A square = 0;
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) {
                x[k] -= mean;
                if (held.has(k)) square += x[k] * x[k];
            }
            const A factor = inverse_root(group_sum<held.group>(square) * per_unit + eps);
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) x[k] *= factor;
            held.store(x_hat + j * n, x);
            const auto g = held.load(gamma), b = held.load(beta);
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) x[k] = x[k] * g[k] + b[k];
            held.store(out + j * n, x);
            if (held.leads()) inv_std[j] = factor;
        });
    } else {
        constexpr int width = vector_width<T>;
        const bool aligned = samples_are_aligned<width>(n, X, gamma, beta, x_hat, out);
        for_each_sample<BLOCK_PER_SAMPLE, width>(n, batch, aligned, [&](long long j, auto sample) {
            UnitMoments<A, 1> moments;
            sample.for_each_place([&](auto place) { moments.add(place.load(X + j * n)); });
            const A mean = block_sum(moments.mean[0] * (moments.count * per_unit));
            const A difference = moments.mean[0] - mean;
            const A square = block_sum(moments.square[0] + difference * difference * moments.count);
            const A factor = inverse_root(square * per_unit + eps);
            sample.for_each_place([&](auto place) {
                auto h = place.load(X + j * n), y = h;
                const auto g = place.load(gamma), b = place.load(beta);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) {
                    const A normal = (to_accumulator(h[k]) - mean) * factor;
                    h[k] = from_accumulator<T>(normal);
                    y[k] = from_accumulator<T>(normal * g[k] + b[k]);
                }
                place.store(x_hat + j * n, h);
                place.store(out + j * n, y);
            });
            if (sample.leads()) inv_std[j] = factor;
        });
    }
}

// dX may be dY
// instances: T in float, double, __half, __nv_bfloat16; CAPACITY in 0, 32, 128, 512, 1024
// block: at most 256
template <typename T, int CAPACITY>
__global__ void layer_norm_backward(long long n, long long batch, const T* dY /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ gamma /* any (n) */,
                                    const T* __restrict__ x_hat /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ inv_std /* any (batch) */,
                                    T* dX /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    if constexpr (CAPACITY > 0) {
        const bool aligned = samples_are_aligned<held_width<T, CAPACITY>>(n, dY, gamma, x_hat, dX);
        for_each_held_sample<T, CAPACITY>(n, batch, aligned, [&](long long j, auto held) {
            auto d = held.load(dY + j * n);
            const auto h = held.load(x_hat + j * n), g = held.load(gamma);
            A sum = 0, product = 0;
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) {
                d[k] *= g[k];
                sum += d[k];
                product += d[k] * h[k];
            }
            const A mean = group_sum<held.group>(sum) * per_unit;
            const A slope = group_sum<held.group>(product) * per_unit;
            const A factor = held.n > 0 ? inv_std[j] : A(0);
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) d[k] = (d[k] - mean - h[k] * slope) * factor;
            held.store(dX + j * n, d);
        });
    } else {
        constexpr int width = vector_width<T>;
        const bool aligned = samples_are_aligned<width>(n, dY, gamma, x_hat, dX);
        for_each_sample<BLOCK_PER_SAMPLE, width>(n, batch, aligned, [&](long long j, auto sample) {
            A sum = 0, product = 0;
            sample.for_each_place([&](auto place) {
                const auto d = place.load(dY + j * n);
                const auto h = place.load(x_hat + j * n);
                const auto g = place.load(gamma);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) {
                    const A slope_here = g[k] * to_accumulator(d[k]);
                    sum += slope_here;
                    product += slope_here * to_accumulator(h[k]);
                }
            });
            const A mean = block_sum(sum) * per_unit;
            const A slope = block_sum(product) * per_unit;
            const A factor = inv_std[j];
            sample.for_each_place([&](auto place) {
                auto d = place.load(dY + j * n);
                const auto h = place.load(x_hat + j * n);
                const auto g = place.load(gamma);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) {
                    const A centred = g[k] * to_accumulator(d[k]) - mean;
                    d[k] = from_accumulator<T>((centred - to_accumulator(h[k]) * slope) * factor);
                }
                place.store(dX + j * n, d);
            });
        });
    }
}
