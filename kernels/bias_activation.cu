// Z ← Z + b, then out = f(Z), in one pass over memory: 8 bytes an element in float32 where out is Z, 12 otherwise.
//
// One thread per element. Where out is Z, Z is overwritten with A = f(Z); otherwise Z keeps Z + b, from which
// f′ is computed in the backward pass.
#include "activation.cuh"
#include "common.cuh"
#include "unit_index.cuh"

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Activation
template <typename T, Activation KIND>
__global__ void bias_activation(long long n, long long batch, Accumulator<T> alpha,
                                const T* __restrict__ b /* any (n), may be null */, T* Z /* F (n, batch) */,
                                T* out /* F (n, batch) */) {
    UnitIndex index(n);
    for (long long i = first_index(); i < n * batch; i += index_stride(), index.advance()) {
        T z = Z[i];
        if (b != nullptr) {
            z = from_accumulator<T>(to_accumulator(z) + to_accumulator(b[index.unit]));
            if (out != Z) Z[i] = z;
        }
        out[i] = from_accumulator<T>(activate<KIND>(to_accumulator(z), alpha));
    }
}
