// n units of each sample from one matrix into another: out_(first_out + i)j = x_(first_x + i)j. A thread per element.
#include "common.cuh"
#include "unit_index.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void copy_units(long long n, long long batch, long long n_x, long long first_x, long long n_out,
                           long long first_out, const T* __restrict__ x /* F (n_x, batch) */,
                           T* __restrict__ out /* F (n_out, batch) */) {
    for (long long i = first_index(); i < n * batch; i += index_stride()) {
        const long long sample = quotient_of(i, n), unit = i - sample * n;
        out[sample * n_out + first_out + unit] = x[sample * n_x + first_x + unit];
    }
}
