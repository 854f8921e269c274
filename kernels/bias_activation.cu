// Z ← Z + b, then out = f(Z), in one pass over memory: 8 bytes an element in float32 where out is Z, 12 otherwise.
//
// A thread per one or two vectors (vector.cuh). Where out is Z, Z is overwritten with A = f(Z); otherwise Z keeps Z + b,
// from which f′ is computed in the backward pass.
#include "activation.cuh"
#include "common.cuh"
#include "unit_index.cuh"
#include "vector.cuh"

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Activation
// block: at most 512
template <typename T, Activation KIND>
__global__ void bias_activation(long long n, long long batch, Accumulator<T> alpha,
                                const Accumulator<T>* __restrict__ b /* any (n), may be null */, T* Z /* F (n, batch) */,
                                T* out /* F (n, batch) */) {
    constexpr int width = vector_width<T>;
    const bool whole = has_whole_vectors<width>(n, b);
    for_each_place<width>(n * batch, is_aligned<width>(Z, out), [&](auto place) {
        auto z = place.load(Z);
        if (b != nullptr) {
            const auto bias = load_units(b, place, n, whole);
            #pragma unroll
            for (int k = 0; k < place.size; ++k) z[k] = from_accumulator<T>(to_accumulator(z[k]) + bias[k]);
            if (out != Z) place.store(Z, z);
        }
        #pragma unroll
        for (int k = 0; k < place.size; ++k) z[k] = from_accumulator<T>(activate<KIND>(to_accumulator(z[k]), alpha));
        place.store(out, z);
    });
}
