// out = factor·x, elementwise: 8 bytes an element in float32. A thread per one or two vectors (vector.cuh).
#include "common.cuh"
#include "vector.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void scale(long long n, Accumulator<T> factor, const T* x /* any (n) */, T* out /* any (n) */) {
    constexpr int width = vector_width<T>;
    for_each_place<width>(n, is_aligned<width>(x, out), [&](auto place) {
        auto product = place.load(x);
        #pragma unroll
        for (int k = 0; k < place.size; ++k)
            product[k] = from_accumulator<T>(to_accumulator(product[k]) * factor);
        place.store(out, product);
    });
}
