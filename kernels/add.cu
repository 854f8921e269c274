// out = x + y, elementwise: 12 bytes an element in float32. A thread per one or two vectors (vector.cuh).
#include "common.cuh"
#include "vector.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void add(long long n, const T* x /* any (n) */, const T* y /* any (n) */, T* out /* any (n) */) {
    constexpr int width = vector_width<T>;
    for_each_place<width>(n, is_aligned<width>(x, y, out), [&](auto place) {
        auto sum = place.load(x);
        const auto other = place.load(y);
        #pragma unroll
        for (int k = 0; k < place.size; ++k)
            sum[k] = from_accumulator<T>(to_accumulator(sum[k]) + to_accumulator(other[k]));
        place.store(out, sum);
    });
}
