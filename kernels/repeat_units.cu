// A batch for each of k members, whose units lie behind each other in a sample: out_(g·n+i)j = x_ij for g = 0, ..., k − 1, and
// back: dx_ij = Σ_g d_(g·n+i)j, in the order of g, in the accumulator's type. A thread per element of x.
#include "common.cuh"
#include "unit_index.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void repeat_units(long long n, long long batch, long long members, const T* __restrict__ x /* F (n, batch) */,
                             T* __restrict__ out /* any (members*n*batch) */) {
    for (long long i = first_index(); i < n * batch; i += index_stride()) {
        const long long sample = quotient_of(i, n), unit = i - sample * n;
        const T value = x[i];
        T* to = out + sample * members * n + unit;
        for (long long g = 0; g < members; ++g) to[g * n] = value;
    }
}

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void sum_repeats(long long n, long long batch, long long members,
                            const T* __restrict__ d /* any (members*n*batch) */, T* __restrict__ dx /* F (n, batch) */) {
    for (long long i = first_index(); i < n * batch; i += index_stride()) {
        const long long sample = quotient_of(i, n), unit = i - sample * n;
        const T* from = d + sample * members * n + unit;
        Accumulator<T> sum = to_accumulator(from[0]);
        for (long long g = 1; g < members; ++g) sum = add_rounded(sum, to_accumulator(from[g * n]));
        dx[i] = from_accumulator<T>(sum);
    }
}
