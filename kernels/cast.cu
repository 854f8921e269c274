// out = x·scale + shift, cast to out's type: what gather_rows_scaled (gather.cu) does, to an array that lies in order.
//
// A thread per one or two vectors (vector.cuh), as wide as the wider type allows.
#include "common.cuh"
#include "scaled.cuh"
#include "vector.cuh"

// instances: S in unsigned char, signed char, short, int, long long; T in float, double, __half, __nv_bfloat16
// instances: S in float, double, __half, __nv_bfloat16; T in float, double, __half, __nv_bfloat16
template <typename S, typename T>
__global__ void cast(long long n, Accumulator<T> scale, Accumulator<T> shift, const S* __restrict__ x /* any (n) */,
                     T* __restrict__ out /* any (n) */) {
    constexpr int width = vector_width<S, T>;
    for_each_place<width>(n, is_aligned<width>(x, out), [&](auto place) {
        const auto source = place.load(x);
        Vector<T, place.size> result;
        #pragma unroll
        for (int k = 0; k < place.size; ++k) result[k] = scaled<T>(source[k], scale, shift);
        place.store(out, result);
    });
}
