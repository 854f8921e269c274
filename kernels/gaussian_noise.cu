// out[i] = A[i] + σ·ε[i], ε normal and the same on every backend up to rounding.
//
// ε[i] is number first + i of a stream that has two for each word w of np.random.Philox(key=[key0, key1],
// counter=[0, step, 0, 0]).random_raw(), by Box and Muller: with u = (floor(w/2^40) + 1)/2^24 and
// v = (floor(w/2^8) mod 2^24)/2^24, which floats hold exactly,
//
//   ε = √(−2 log u) · cos 2πv, √(−2 log u) · sin 2πv.
//
// A block of Philox gives 8. i is the position in memory; where the array is a part of a larger one that begins with
// number 8·first_block + n_skipped, the numbers are those that its elements have there. σ is a number or the table's.
//
// Grid: one thread per block of Philox.
//
// Source: Box & Muller (1958), "A note on the generation of random normal deviates".
#include "circular.cuh"
#include "common.cuh"

constexpr int NORMALS = 8;  // of one block of Philox

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void gaussian_noise(long long n, long long first_block, int n_skipped, unsigned long long key0,
                               unsigned long long key1, long long n_table, double std,
                               const double* __restrict__ table /* any (n_table), may be null */,
                               const long long* __restrict__ position /* any (1), may be null */,
                               const long long* __restrict__ step /* any (1) */, const T* A /* any (n) */,
                               T* out /* any (n) */) {
    using R = Accumulator<T>;
    const unsigned long long stream = static_cast<unsigned long long>(*step);
    const R sigma = static_cast<R>(scheduled_value(std, n_table, table, position));
    for (long long block = first_index(); block * NORMALS < n_skipped + n; block += index_stride()) {
        const Philox4x64 words = numpy_philox(key0, key1, stream, static_cast<unsigned long long>(first_block + block));
        #pragma unroll
        for (int j = 0; j < NORMALS / 2; ++j) {
            const int of_u = static_cast<int>(words.word[j] >> 40) + 1;
            const int of_v = static_cast<int>(words.word[j] >> 8 & 0xFFFFFF);
            const R u = multiply_rounded(static_cast<R>(of_u), R(1.0 / 16777216));
            const R quarters = multiply_rounded(static_cast<R>(of_v), R(4.0 / 16777216));
            const R radius = sqrt(R(-2) * log(u));
            const Circular<R> direction = circular_of_quarters(quarters);
            const long long i = block * NORMALS + 2 * j - n_skipped;
            if (i >= 0 && i < n)
                out[i] = from_accumulator<T>(multiply_add(sigma, radius * direction.cosine, to_accumulator(A[i])));
            if (i + 1 >= 0 && i + 1 < n)
                out[i + 1] = from_accumulator<T>(multiply_add(sigma, radius * direction.sine, to_accumulator(A[i + 1])));
        }
    }
}
