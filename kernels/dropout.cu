// Inverted dropout with a mask that NumPy can reproduce bit for bit.
//
//   forward:   out[i] = A[i] · mask[i] · scale,   mask[i] = (draw[i] >= threshold),   scale = 1 / (1 − threshold/65536)
//   backward:  dA[i] = dOut[i] · mask[i] · scale
//
// draw[i] is 16 bits of word i/4 of np.random.Philox(key=[key0, key1], counter=[0, step, 0, 0]).random_raw(): bits
// 16k to 16k + 15 with k = i mod 4. i is the position in memory, so a mask depends on the array's size and on nothing
// else. A block of Philox gives 16 draws: one thread of the forward kernel makes 16 elements.
//
// Grid: forward one thread per 16 elements, backward one per element. Source: Srivastava et al., "Dropout: a simple way to
// prevent neural networks from overfitting", JMLR 15 (2014), section 4, in its inverted form (scaling while training).
#include "common.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void dropout_forward(long long n, unsigned long long key0, unsigned long long key1, unsigned int threshold,
                                Accumulator<T> scale, const long long* __restrict__ step /* any (1) */,
                                const T* A /* any (n) */, T* out /* any (n) */,
                                unsigned char* __restrict__ mask /* any (n) */) {
    const unsigned long long stream = static_cast<unsigned long long>(*step);
    for (long long k = first_index(); k < (n + 15) / 16; k += index_stride()) {
        const Philox4x64 words = numpy_philox(key0, key1, stream, static_cast<unsigned long long>(k));
        #pragma unroll
        for (int j = 0; j < 16; ++j) {
            const long long i = 16 * k + j;
            if (i >= n) break;
            const bool kept = (words.word[j / 4] >> (16 * (j % 4)) & 0xFFFFu) >= threshold;
            mask[i] = kept;
            // A product and not a selection: a dropped NaN or infinity stays a NaN, so that divergence shows.
            out[i] = from_accumulator<T>(to_accumulator(A[i]) * (kept ? scale : Accumulator<T>(0)));
        }
    }
}

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void dropout_backward(long long n, Accumulator<T> scale, const T* dOut /* any (n) */,
                                 const unsigned char* __restrict__ mask /* any (n) */, T* dA /* any (n) */) {
    for (long long i = first_index(); i < n; i += index_stride())
        dA[i] = from_accumulator<T>(to_accumulator(dOut[i]) * (mask[i] ? scale : Accumulator<T>(0)));
}
