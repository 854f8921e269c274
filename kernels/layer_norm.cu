// Layer normalization, over the units of each sample (CENTRED; without, β and its gradient are null):
//     μ = mean_i x_i, σ² = mean_i (x_i − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β;
//     dx̂ = γ dY, dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε), dγ = Σ_j dy_j x̂_j, dβ = Σ_j dy_j.
// Group normalization: the same over each of `groups` groups of n neighbours, whose γ and β are the units' own.
// RMS normalization, which has neither μ nor β:
//     x̂ = x/√(mean_i x_i² + ε), out = γ x̂;    dX = (dx̂ − x̂ mean_i(dx̂ x̂))/√(mean_i x_i² + ε).
// Sources: Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3; Wu & He (2018), "Group normalization", eq. 1 and 7;
// Zhang & Sennrich (2019), "Root mean square layer normalization", eq. 4.
//
// Samples of at most CAPACITY units are held in registers: one read, in backward for dγ and dβ as well. A block reads a
// wider one twice (CAPACITY 0). The variance is a second pass over the registers, or that of parts combined (moments.cuh),
// not mean(x²) − μ², which cancels where the mean is large. Where there are groups, each counts as a sample of n units in what
// follows, and comes with the part of γ and β that begins at unit_of(j).
#include "common.cuh"
#include "moments.cuh"
#include "sample_group.cuh"

inline __device__ long long unit_of(long long j, long long groups, long long n) { return groups == 1 ? 0 : j % groups * n; }

// instances: T in float, double, __half, __nv_bfloat16; CENTRED in false, true; CAPACITY in 0, 32, 128, 512, 1024
// block: at most 256
template <typename T, bool CENTRED, int CAPACITY>
__global__ void layer_norm_forward(long long n, long long batch, long long groups, Accumulator<T> eps,
                                   const T* __restrict__ X /* F (n, batch) */,
                                   const Accumulator<T>* __restrict__ gamma /* any (n*groups) */,
                                   const Accumulator<T>* __restrict__ beta /* any (n*groups), may be null */,
                                   T* __restrict__ x_hat /* F (n, batch) */,
                                   Accumulator<T>* __restrict__ inv_std /* any (batch) */,
                                   T* __restrict__ out /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    if constexpr (CAPACITY > 0) {
        const bool aligned = samples_are_aligned<held_width<T, CAPACITY>>(n, X, gamma, beta, x_hat, out);
        for_each_held_sample<T, CAPACITY>(n, batch, aligned, [&](long long j, auto held) {
            auto x = held.load(X + j * n);
            A mean = 0, square = 0;
            if constexpr (CENTRED) {
                A sum = 0;
                #pragma unroll
                for (int k = 0; k < held.slots; ++k) sum += x[k];
                mean = multiply_rounded(held.group.sum(sum), per_unit);
            }
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) {
                if constexpr (CENTRED) x[k] -= mean;
                if (held.has(k)) square = multiply_add(x[k], x[k], square);
            }
            const A factor = inverse_root(multiply_add(held.group.sum(square), per_unit, eps));
            #pragma unroll
            for (int k = 0; k < held.slots; ++k) x[k] *= factor;
            held.store(x_hat + j * n, x);
            const long long first = unit_of(j, groups, n);
            const auto g = held.load(gamma + first);
            if constexpr (CENTRED) {
                const auto b = held.load(beta + first);
                #pragma unroll
                for (int k = 0; k < held.slots; ++k) x[k] = multiply_add(x[k], g[k], b[k]);
            } else {
                #pragma unroll
                for (int k = 0; k < held.slots; ++k) x[k] *= g[k];
            }
            held.store(out + j * n, x);
            if (held.leads()) inv_std[j] = factor;
        });
    } else {
        constexpr int width = vector_width<T>;
        const bool aligned = samples_are_aligned<width>(n, X, gamma, beta, x_hat, out);
        for_each_sample<width>(whole_block, n, batch, aligned, [&](long long j, auto sample) {
            A mean = 0, square = 0;
            if constexpr (CENTRED) {
                UnitMoments<A, 1> moments;
                sample.for_each_place([&](auto place) { moments.add(place.load(X + j * n)); });
                mean = block_sum(multiply_rounded(moments.mean[0], moments.count * per_unit));
                const A difference = moments.mean[0] - mean;
                square = block_sum(multiply_add(difference * difference, moments.count, moments.square[0]));
            } else {
                sample.for_each_place([&](auto place) {
                    const auto x = place.load(X + j * n);
                    #pragma unroll
                    for (int k = 0; k < place.size; ++k)
                        square = multiply_add(to_accumulator(x[k]), to_accumulator(x[k]), square);
                });
                square = block_sum(square);
            }
            const A factor = inverse_root(multiply_add(square, per_unit, eps));
            const long long first = unit_of(j, groups, n);
            sample.for_each_place([&](auto place) {
                auto h = place.load(X + j * n), y = h;
                const auto g = place.load(gamma + first), b = place.load((CENTRED ? beta : gamma) + first);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) {
                    const A normal = (to_accumulator(h[k]) - mean) * factor;
                    h[k] = from_accumulator<T>(normal);
                    y[k] = from_accumulator<T>(CENTRED ? multiply_add(normal, g[k], b[k]) : normal * g[k]);
                }
                place.store(x_hat + j * n, h);
                place.store(out + j * n, y);
            });
            if (sample.leads()) inv_std[j] = factor;
        });
    }
}

// dX, and the sums of dγ and dβ over a chunk of samples, which affine_gradient_sum adds up (without dβ, sum_chunks): a block
// per chunk and group, whose warps take a sample after the other and keep their sums in registers to the end. dX may be dY.
// instances: T in float, __half, __nv_bfloat16; CENTRED in false, true; CAPACITY in 128, 512, 1024
// instances: T in double; CENTRED in false, true; CAPACITY in 128, 512
// block: 256
template <typename T, bool CENTRED, int CAPACITY>
__global__ void layer_norm_backward_held(
    long long n, long long batch, long long groups, long long chunk_size, long long n_chunks,
    const T* dY /* F (n*groups, batch) */, const Accumulator<T>* __restrict__ gamma /* any (n*groups) */,
    const T* __restrict__ x_hat /* F (n*groups, batch) */,
    const Accumulator<T>* __restrict__ inv_std /* any (groups*batch) */,
    Accumulator<T>* __restrict__ partial_dgamma /* any (n*groups*n_chunks) */,
    Accumulator<T>* __restrict__ partial_dbeta /* any (n*groups*n_chunks), may be null */,
    T* dX /* F (n*groups, batch) */) {
    using A = Accumulator<T>;
    constexpr int slots = CAPACITY / 32, n_warps = 8, width = held_width<T, CAPACITY>;
    __shared__ A of_warp[n_warps][CAPACITY];
    const int warp = threadIdx.x / 32;
    const A per_unit = A(1) / static_cast<A>(n);

    const auto with = [&](auto held) {
        for (long long item = blockIdx.x; item < n_chunks * groups; item += gridDim.x) {
            const long long chunk = item / groups, group = item % groups;
            const long long end = (chunk + 1) * chunk_size < batch ? (chunk + 1) * chunk_size : batch;
            Vector<A, slots> dgamma = {}, dbeta = {};
            for (long long sample = chunk * chunk_size + warp; sample < end; sample += n_warps) {
                const long long j = sample * groups + group;
                auto d = held.load(dY + j * n);
                const auto h = held.load(x_hat + j * n), g = held.load(gamma + group * n);
                A sum = 0, product = 0;
                #pragma unroll
                for (int k = 0; k < slots; ++k) {
                    dgamma[k] = multiply_add(d[k], h[k], dgamma[k]);
                    if constexpr (CENTRED) dbeta[k] += d[k];
                    d[k] = multiply_rounded(d[k], g[k]);
                    if constexpr (CENTRED) sum += d[k];
                    product = multiply_add(d[k], h[k], product);
                }
                A mean = 0;
                if constexpr (CENTRED) mean = multiply_rounded(warp_sum(sum), per_unit);
                const A slope = warp_sum(product) * per_unit, factor = inv_std[j];
                #pragma unroll
                for (int k = 0; k < slots; ++k) d[k] = multiply_add(-h[k], slope, d[k] - mean) * factor;
                held.store(dX + j * n, d);
            }
            const auto store_sum = [&](const Vector<A, slots>& part, A* partial) {
                #pragma unroll
                for (int k = 0; k < slots; ++k)
                    if (held.has(k)) of_warp[warp][held.unit(k)] = part[k];
                __syncthreads();
                for (int unit = threadIdx.x; unit < n; unit += blockDim.x) {
                    A total = of_warp[0][unit];
                    #pragma unroll
                    for (int w = 1; w < n_warps; ++w) total += of_warp[w][unit];
                    partial[item * n + unit] = total;
                }
                __syncthreads();  // the next sum overwrites of_warp
            };
            store_sum(dgamma, partial_dgamma);
            if constexpr (CENTRED) store_sum(dbeta, partial_dbeta);
        }
    };
    if (samples_are_aligned<width>(n, dY, gamma, x_hat, dX)) with(HeldSample<32, slots, width>{static_cast<int>(n)});
    else with(HeldSample<32, slots, 1>{static_cast<int>(n)});
}

// dX of wider samples, a block for each; dγ and dβ are affine_gradient.cu's. dX may be dY.
// instances: T in float, double, __half, __nv_bfloat16; CENTRED in false, true
template <typename T, bool CENTRED>
__global__ void layer_norm_backward(long long n, long long batch, long long groups, const T* dY /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ gamma /* any (n*groups) */,
                                    const T* __restrict__ x_hat /* F (n, batch) */,
                                    const Accumulator<T>* __restrict__ inv_std /* any (batch) */,
                                    T* dX /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = vector_width<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    const bool aligned = samples_are_aligned<width>(n, dY, gamma, x_hat, dX);
    for_each_sample<width>(whole_block, n, batch, aligned, [&](long long j, auto sample) {
        const long long first = unit_of(j, groups, n);
        A sum = 0, product = 0;
        sample.for_each_place([&](auto place) {
            const auto d = place.load(dY + j * n);
            const auto h = place.load(x_hat + j * n);
            const auto g = place.load(gamma + first);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const A scaled = multiply_rounded(g[k], to_accumulator(d[k]));
                if constexpr (CENTRED) sum += scaled;
                product = multiply_add(scaled, to_accumulator(h[k]), product);
            }
        });
        A mean = 0;
        if constexpr (CENTRED) mean = multiply_rounded(block_sum(sum), per_unit);
        const A slope = block_sum(product) * per_unit;
        const A factor = inv_std[j];
        sample.for_each_place([&](auto place) {
            auto d = place.load(dY + j * n);
            const auto h = place.load(x_hat + j * n);
            const auto g = place.load(gamma + first);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const A centred = multiply_rounded(g[k], to_accumulator(d[k])) - mean;
                d[k] = from_accumulator<T>(multiply_add(-to_accumulator(h[k]), slope, centred) * factor);
            }
            place.store(dX + j * n, d);
        });
    });
}
