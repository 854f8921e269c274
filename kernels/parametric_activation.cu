// A = g(Z) + p ⊙ h(Z), with one learned factor p_i per unit, and its gradients
//     dZ = dA ⊙ (g′(Z) + p ⊙ h′(Z)),    dp_i = Σ_j dA_ij h(Z_ij).
//
// PARAMETRIC: g(z) = z, h(z) = f(z) − z, f an activation of activation.cuh. PRELU: g = max(z, 0), h = min(z, 0) (He et al. 2015,
// "Delving deep into rectifiers", section 2.1). SCALE: g = 0, h = z. Both passes compute from Z, which is kept.
// Forward runs a thread per one or two vectors (vector.cuh). Backward runs a block per tile of units and samples
// (vector_tile.cuh) and leaves one sum per unit and chunk: with one chunk that is dp, with several sum_chunks adds them up.
#include "activation.cuh"
#include "common.cuh"
#include "unit_index.cuh"
#include "vector.cuh"
#include "vector_tile.cuh"

enum ParametricForm { PARAMETRIC = 0, SCALE = 1, PRELU = 2 };

// Whether f′ is computed from f's output: the first of the enumeration are (activation_derivative).
template <int kind> constexpr bool from_output = kind <= LEAKY_RELU || kind == EXP;

// instances: T in float, double, __half, __nv_bfloat16; FORM in PARAMETRIC; KIND in enum Activation
// instances: T in float, double, __half, __nv_bfloat16; FORM in SCALE, PRELU; KIND in IDENTITY
// block: at most 512
template <typename T, ParametricForm FORM, Activation KIND>
__global__ void parametric_activation(long long n, long long batch, Accumulator<T> slope,
                                      const Accumulator<T>* __restrict__ p /* any (n) */,
                                      const T* __restrict__ Z /* F (n, batch) */, T* __restrict__ out /* F (n, batch) */) {
    using A = Accumulator<T>;
    constexpr int width = vector_width<T>;
    const bool whole = has_whole_vectors<width>(n, p);
    for_each_place<width>(n * batch, is_aligned<width>(Z, out), [&](auto place) {
        auto loaded = place.load(Z);
        const auto factor = load_units(p, place, n, whole);
        #pragma unroll
        for (int k = 0; k < place.size; ++k) {
            const A z = to_accumulator(loaded[k]);
            A a;
            if constexpr (FORM == SCALE) a = factor[k] * z;
            else if constexpr (FORM == PRELU) a = z > 0 ? z : factor[k] * z;
            else a = multiply_add(factor[k], add_rounded(activate<KIND>(z, slope), -z), z);
            loaded[k] = from_accumulator<T>(a);
        }
        place.store(out, loaded);
    });
}

// partial_ic = Σ dA_ij h(Z_ij) over the samples j of chunk c; n_chunks = ⌈batch/chunk_size⌉
// instances: T in float, double, __half, __nv_bfloat16; FORM in PARAMETRIC; KIND in enum Activation
// instances: T in float, double, __half, __nv_bfloat16; FORM in SCALE, PRELU; KIND in IDENTITY
// block: at most 256
template <typename T, ParametricForm FORM, Activation KIND>
__global__ void parametric_activation_backward(long long n, long long batch, long long chunk_size, long long n_chunks,
                                               Accumulator<T> slope, const T* dA /* F (n, batch) */,
                                               const T* __restrict__ Z /* F (n, batch) */,
                                               const Accumulator<T>* __restrict__ p /* any (n) */,
                                               T* dZ /* F (n, batch) */,
                                               Accumulator<T>* __restrict__ partial /* any (n*n_chunks) */) {
    using A = Accumulator<T>;
    constexpr int width = Tile<T>::width;
    const bool aligned = is_aligned<width>(dA, Z, dZ);
    for (long long item = blockIdx.x; item < count_tiles<T>(n, n_chunks); item += gridDim.x) {
        const Tile<T> tile(item, n, batch, chunk_size);
        Vector<A, width> sum = {}, factor = {};
        #pragma unroll
        for (int k = 0; k < width; ++k)
            if (k < tile.count) factor[k] = p[tile.unit + k];
        tile.for_each_sample(aligned, [&](auto place) {
            auto dz = place.load(dA);
            const auto loaded = place.load(Z);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) {
                const A d = to_accumulator(dz[k]), z = to_accumulator(loaded[k]), weight = factor[k % width];
                A h, inner;
                if constexpr (FORM == SCALE) {
                    h = z;
                    inner = weight;
                } else if constexpr (FORM == PRELU) {
                    h = z > 0 ? A(0) : z;
                    inner = z > 0 ? A(1) : weight;
                } else {
                    const A f = activate<KIND>(z, slope);
                    h = add_rounded(f, -z);
                    const A derivative = activation_derivative<KIND>(from_output<KIND> ? f : z, slope);
                    inner = multiply_add(weight, add_rounded(derivative, A(-1)), A(1));
                }
                sum[k % width] = multiply_add(d, h, sum[k % width]);
                dz[k] = from_accumulator<T>(d * inner);
            }
            place.store(dZ, dz);
        });
        sum_over_rows(sum);
        tile.store(sum, partial);
    }
}
