// What the kernels share: the type that sums run in, the loops over a grid, sums and maxima over a warp and a block,
// and the Philox generator. The launcher puts this text in front of each kernel's own.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// ---- types --------------------------------------------------------------------------------------------------------

// The type that arithmetic on elements of type T runs in: float for the 16-bit types (and for integers), T otherwise.
template <typename T> struct AccumulatorOf { using type = float; };
template <> struct AccumulatorOf<double> { using type = double; };
template <typename T> using Accumulator = typename AccumulatorOf<T>::type;

template <typename T> __device__ __forceinline__ Accumulator<T> to_accumulator(T x) {
    return static_cast<Accumulator<T>>(x);
}

// Round to T, to nearest; for the 16-bit types this is the store's only rounding.
template <typename T, typename A> __device__ __forceinline__ T from_accumulator(A x) { return static_cast<T>(x); }

// The run-time compiler has no INFINITY.
template <typename A> __device__ __forceinline__ A infinity() { return static_cast<A>(__int_as_float(0x7F800000)); }

// The compiler may fuse a product and the sum that it goes into, or not, and of two products in one sum it may fuse either:
// from path to path, version to version and GPU to GPU as it likes, and each choice rounds differently. So a sum with a
// product in it says what is rounded: multiply_add rounds once; a product that goes into a sum by itself is multiply_rounded.
// The compiler test looks for sums that leave it open.
__device__ __forceinline__ float multiply_rounded(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double multiply_rounded(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float add_rounded(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double add_rounded(double a, double b) { return __dadd_rn(a, b); }
// a·b + c
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

enum MatrixOrder { C_ORDER = 0, F_ORDER = 1 };

// A setting that may change from step to step: `value`, or where there is a table its number at `position`, the last one
// beyond the table's end. The step counts the position up when it is done.
__device__ __forceinline__ double scheduled_value(double value, long long n, const double* table,
                                                  const long long* position) {
    if (table == nullptr || n < 1) return value;
    const long long i = *position;
    return table[i < 0 ? 0 : i < n ? i : n - 1];
}

// ---- loops over a grid --------------------------------------------------------------------------------------------
// for (long long i = first_index(); i < n; i += index_stride()): every i once, whatever the grid; neighbouring threads
// take neighbouring elements.

__device__ __forceinline__ long long first_index() {
    return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ long long index_stride() { return static_cast<long long>(gridDim.x) * blockDim.x; }

// ---- reductions ---------------------------------------------------------------------------------------------------
// All in a fixed order, so that the same launch gives the same bits. Every thread of the warp or block must take part.

constexpr unsigned full_warp = 0xFFFFFFFFu;

struct Sum {
    template <typename A> __device__ __forceinline__ static A combine(A a, A b) { return a + b; }
};
struct Maximum {
    // NaN wins, so that a diverged value is not hidden.
    template <typename A> __device__ __forceinline__ static A combine(A a, A b) { return a > b || a != a ? a : b; }
};

// The combination of the warp's 32 values, in every lane.
template <typename Operation, typename A> __device__ __forceinline__ A warp_reduce(A value) {
    #pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        value = Operation::combine(value, __shfl_xor_sync(full_warp, value, offset));
    return value;
}

// The combination of the block's values, in every thread. `neutral` stands in for warps that a small block lacks.
// May be called again right away: it ends with a barrier.
template <typename Operation, typename A> __device__ A block_reduce(A value, A neutral) {
    __shared__ A of_warp[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = (blockDim.x + 31) / 32;
    value = warp_reduce<Operation>(value);
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = warp_reduce<Operation>(lane < n_warps ? of_warp[lane] : neutral);
    __syncthreads();
    return value;
}

template <typename A> __device__ __forceinline__ A warp_sum(A value) { return warp_reduce<Sum>(value); }
template <typename A> __device__ __forceinline__ A warp_max(A value) { return warp_reduce<Maximum>(value); }
template <typename A> __device__ __forceinline__ A block_sum(A value) { return block_reduce<Sum>(value, A(0)); }
template <typename A> __device__ __forceinline__ A block_max(A value) {
    return block_reduce<Maximum>(value, -infinity<A>());
}

// Whether this block is the last of the grid to come here; it then sees what the others wrote before they came. Every
// thread of every block must call it, once. *arrived is 0 before the launch and after it. Which block is last differs
// from launch to launch: what it computes must not depend on that.
__device__ __forceinline__ bool is_last_block(unsigned int* arrived) {
    __shared__ bool is_last;
    __syncthreads();
    if (threadIdx.x == 0) {
        if (gridDim.x > 1) {
            __threadfence();
            is_last = atomicAdd(arrived, 1u) == gridDim.x - 1;
            __threadfence();
            if (is_last) atomicExch(arrived, 0u);
        } else {
            is_last = true;
        }
    }
    __syncthreads();
    return is_last;
}

// 1/√x, and NaN where x has overflowed to infinity: 0 there would hide it behind finite outputs.
template <typename T> __device__ __forceinline__ T inverse_root(T x) { return sqrt(x) / x; }

// ---- Philox4x64-10 ------------------------------------------------------------------------------------------------
// Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3 and table 2.

struct Philox4x64 {
    unsigned long long word[4];
};

__device__ __forceinline__ Philox4x64 philox4x64(Philox4x64 counter, unsigned long long key0, unsigned long long key1) {
    #pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ull, counter.word[0]);
        const unsigned long long low0 = 0xD2E7470EE14C6C93ull * counter.word[0];
        const unsigned long long high1 = __umul64hi(0xCA5A826395121157ull, counter.word[2]);
        const unsigned long long low1 = 0xCA5A826395121157ull * counter.word[2];
        counter = {{high1 ^ counter.word[1] ^ key0, low1, high0 ^ counter.word[3] ^ key1, low0}};
        key0 += 0x9E3779B97F4A7C15ull;
        key1 += 0xBB67AE8584CAA73Bull;
    }
    return counter;
}

// Block k of the words that NumPy's Philox(key=[key0, key1], counter=[0, stream, 0, 0]) gives: NumPy adds one to its
// counter before each block, the first included.
__device__ __forceinline__ Philox4x64 numpy_philox(unsigned long long key0, unsigned long long key1,
                                                   unsigned long long stream, unsigned long long k) {
    // The counter is one 256-bit number, lowest word first. k + 1 does not overflow: k counts blocks of one array.
    return philox4x64({{k + 1, stream, 0, 0}}, key0, key1);
}
