// ℓ_j = (1/n) Σ_i ρ(z_ij, y_ij), losses_j = w_j ℓ_j and dZ_ij = L w_j/(n·batch) · ∂ρ/∂z, in one pass. L is the loss
// scale (1 where its pointer is null), multiplied in before dZ is rounded. With e = z − y:
//     mse: ρ = e²;  mae: ρ = |e|;  huber: ρ = ½e² for |e| ≤ δ, else δ(|e| − ½δ);
//     binary_cross_entropy: ρ = max(z, 0) − z·y + log(1 + e^−|z|), whose derivative is σ(z) − y.
// A thread, eight lanes, a warp or a block per sample (sample_group.cuh).
#include "common.cuh"
#include "loss_scale.cuh"
#include "sample_group.cuh"

enum ElementwiseLoss { MSE, MAE, HUBER, BINARY_CROSS_ENTROPY };

// Returns ρ and leaves ∂ρ/∂z in `slope`. A NaN in z or y reaches both.
template <ElementwiseLoss KIND, typename A>
__device__ inline A loss_of_element(A z, A y, A delta, A& slope) {
    A e = z - y;
    A size = fabs(e);
    if (KIND == MSE) {
        slope = 2 * e;
        return multiply_rounded(e, e);
    }
    if (KIND == MAE) {
        slope = e > 0 ? A(1) : e < 0 ? A(-1) : e;
        return size;
    }
    if (KIND == HUBER) {
        slope = e > delta ? delta : e < -delta ? -delta : e;
        A inner = size > delta ? delta : size;
        return multiply_rounded(inner, multiply_add(inner, A(-0.5), size));
    }
    A small = exp(-fabs(z));
    slope = (z >= 0 ? A(1) : small) / add_rounded(A(1), small) - y;
    return add_rounded(multiply_add(-z, y, z > 0 ? z : A(0)), log1p(small));
}

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum ElementwiseLoss; GROUP in enum SampleGroup
// block: at most 512
template <typename T, ElementwiseLoss KIND, SampleGroup GROUP>
__global__ void elementwise_loss(long long n, long long batch, Accumulator<T> delta,
                                 const T* __restrict__ Z /* F (n, batch) */,
                                 const Accumulator<T>* __restrict__ Y /* F (n, batch) */,
                                 const Accumulator<T>* __restrict__ sample_weight /* any (batch), may be null */,
                                 const double* __restrict__ loss_scale /* any (1), may be null */,
                                 Accumulator<T>* __restrict__ losses /* any (batch) */,
                                 T* __restrict__ dZ /* F (n, batch) */) {
    using A = Accumulator<T>;
    const A per_unit = A(1) / static_cast<A>(n);
    const A per_element = read_loss_scale<A>(loss_scale) / (static_cast<A>(n) * static_cast<A>(batch));
    constexpr int width = vector_width<T, A>;
    for_each_sample<GROUP, width>(n, batch, samples_are_aligned<width>(n, Z, Y, dZ), [&](long long j, auto sample) {
        const A weight = sample_weight != nullptr && sample.n > 0 ? sample_weight[j] : A(1);
        const A scale = per_element * weight;
        A loss = 0;
        sample.for_each_place([&](auto place) {
            auto z = place.load(Z + j * n);
            const auto y = place.load(Y + j * n);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                A slope;
                loss += loss_of_element<KIND>(to_accumulator(z[k]), y[k], delta, slope);
                z[k] = from_accumulator<T>(slope * scale);
            }
            place.store(dZ + j * n, z);
        });
        loss = group_sum<GROUP>(loss);
        if (sample.leads()) losses[j] = loss * per_unit * weight;
    });
}
