// Tiled matrix product with an epilogue: C = f(A·B + addend + bias).
//
//   A (m, k) and B (k, n), each C- or F-ordered with a leading dimension; C and addend (m, n) F-ordered; bias (m).
//   Z = W·A:    A is W (C), B is A (F).        dA = Wᵀ·dZ:  A is Wᵀ (F), B is dZ (F).
//   dW = dZ·Aᵀ: C-ordered, so the kernel computes its transpose A·dZᵀ (F-ordered): A is A (F), B is dZᵀ (C).
//
// When the inner dimension comes in chunks, each call but the last is given neither bias nor activation, and each but
// the first the sum so far as `addend` (which may be C itself). Sums run, and are handed on, in the accumulator type.
//
// A block of 16×16 threads computes a TILE×TILE tile of C, each thread (TILE/16)² of its elements in registers. Slices of
// A and B, DEPTH deep, go through shared memory; the next slice is on its way from global memory into registers while
// the present one is multiplied, and two slices of shared memory take turns, so that one barrier per slice is enough.
// In a slice the index along the tile runs fastest: a thread reads its operands as vectors of four. Its rows are
// TILE/64 groups of four neighbours, 64 apart, so that a warp's vector reads fall on different banks.
//
// Grid: a block of 256 threads per tile of C, tiles along m first.
// Source: Volkov and Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008 (register tiles over shared slices).
#include "activation.cuh"
#include "common.cuh"

// One slice of an operand, by the index along the tile ("long" axis: m for A, n for B) and the inner index.
template <typename T, int TILE, int DEPTH, bool INNER_IS_FAST> struct Slice {
    static constexpr int PER_THREAD = TILE * DEPTH / 256;
    static constexpr int STRIDE = TILE + 4;  // the four keep vectors aligned and spread the columns over the banks
    Accumulator<T> in_flight[PER_THREAD];

    // Neighbouring threads take neighbours in memory; from one of its elements to the next, a thread moves by STEP along
    // the slower axis only.
    static constexpr int STEP = INNER_IS_FAST ? 256 / DEPTH : 256 / TILE;
    __device__ static int first_inner() { return static_cast<int>(threadIdx.x) / (INNER_IS_FAST ? 1 : TILE) % DEPTH; }
    __device__ static int first_along() { return static_cast<int>(threadIdx.x) / (INNER_IS_FAST ? DEPTH : 1) % TILE; }

    // `corner` is the slice's first element; the slice has `n_along` × `n_inner` elements inside the matrix, or all.
    __device__ void fetch(const T* corner, long long leading, long long n_along, long long n_inner) {
        const int along = first_along(), inner = first_inner();
        const int inside_along = static_cast<int>(min(n_along, static_cast<long long>(TILE)));
        const int inside_inner = static_cast<int>(min(n_inner, static_cast<long long>(DEPTH)));
        const T* element = corner + (INNER_IS_FAST ? along * leading + inner : inner * leading + along);
        #pragma unroll
        for (int s = 0; s < PER_THREAD; ++s) {
            const bool inside = INNER_IS_FAST ? along + s * STEP < inside_along && inner < inside_inner
                                              : along < inside_along && inner + s * STEP < inside_inner;
            in_flight[s] = inside ? to_accumulator(*element) : Accumulator<T>(0);
            element += STEP * leading;
        }
    }
    __device__ void put(Accumulator<T>* slice) const {
        Accumulator<T>* place = slice + first_inner() * STRIDE + first_along();
        #pragma unroll
        for (int s = 0; s < PER_THREAD; ++s) place[s * STEP * (INNER_IS_FAST ? 1 : STRIDE)] = in_flight[s];
    }
};

// One branch per element that all threads take alike. As a template parameter the activation would spare it, and would
// multiply the instances to compile by their number.
template <typename A> __device__ A activate_by_number(int activation, A z, A alpha) {
    switch (activation) {
        case SIGMOID: return activate<SIGMOID>(z, alpha);
        case TANH: return activate<TANH>(z, alpha);
        case RELU: return activate<RELU>(z, alpha);
        case LEAKY_RELU: return activate<LEAKY_RELU>(z, alpha);
        case ELU: return activate<ELU>(z, alpha);
        case SELU: return activate<SELU>(z, alpha);
        case GELU: return activate<GELU>(z, alpha);
        case GELU_TANH: return activate<GELU_TANH>(z, alpha);
        case SILU: return activate<SILU>(z, alpha);
        case SOFTPLUS: return activate<SOFTPLUS>(z, alpha);
        case MISH: return activate<MISH>(z, alpha);
        case HARDSWISH: return activate<HARDSWISH>(z, alpha);
        case SIN: return activate<SIN>(z, alpha);
        case EXP: return activate<EXP>(z, alpha);
        default: return z;
    }
}

template <typename A> struct alignas(16) Four {
    A value[4];
};

// instances: T in float; O in float; TILE in 64, 128; ORDER_A in C_ORDER, F_ORDER; ORDER_B in C_ORDER, F_ORDER
// instances: T in double; O in double; TILE in 64; ORDER_A in C_ORDER, F_ORDER; ORDER_B in C_ORDER, F_ORDER
// instances: T in __half; O in __half, float; TILE in 128; ORDER_A in C_ORDER, F_ORDER; ORDER_B in C_ORDER, F_ORDER
// instances: T in __nv_bfloat16; O in __nv_bfloat16, float; TILE in 128; ORDER_A in C_ORDER, F_ORDER; ORDER_B in C_ORDER, F_ORDER
// block: 256
template <typename T, typename O, int TILE, MatrixOrder ORDER_A, MatrixOrder ORDER_B>
__global__ void __launch_bounds__(256, 2)
    matmul(long long m, long long n, long long k, long long lda, long long ldb, long long ldc, int activation,
           Accumulator<T> alpha, const T* __restrict__ A /* ORDER_A leading lda (m, k) */,
           const T* __restrict__ B /* ORDER_B leading ldb (k, n) */,
           const Accumulator<T>* addend /* F leading ldc (m, n), may be null */,
           const Accumulator<T>* __restrict__ bias /* any (m), may be null */, O* C /* F leading ldc (m, n) */) {
    using Acc = Accumulator<T>;
    constexpr int DEPTH = TILE == 64 && sizeof(Acc) == 4 ? 16 : 8;
    // Further, operands read ahead would not fit 128 registers, and spill.
    constexpr int UNROLL = TILE == 64 ? 4 : sizeof(T) == 2 && ORDER_A == F_ORDER && ORDER_B == C_ORDER ? 1 : 2;
    constexpr int GROUPS = TILE / 64, MINE = 4 * GROUPS;  // per thread: GROUPS times four neighbours
    using SliceA = Slice<T, TILE, DEPTH, ORDER_A == C_ORDER>;
    using SliceB = Slice<T, TILE, DEPTH, ORDER_B == F_ORDER>;
    constexpr int SLICE_A = DEPTH * SliceA::STRIDE, SLICE_B = DEPTH * SliceB::STRIDE;
    constexpr int SLICES = 2 * (SLICE_A + SLICE_B), STAGE = 64 * TILE;
    __shared__ __align__(16) Acc shared[SLICES > STAGE ? SLICES : STAGE];

    const int in_m = 4 * (static_cast<int>(threadIdx.x) % 16), in_n = 4 * (static_cast<int>(threadIdx.x) / 16);
    const long long tiles_m = (m + TILE - 1) / TILE, tiles_n = (n + TILE - 1) / TILE, n_slices = (k + DEPTH - 1) / DEPTH;

    for (long long tile = blockIdx.x; tile < tiles_m * tiles_n; tile += gridDim.x) {
        const long long first_m = tile % tiles_m * TILE, first_n = tile / tiles_m * TILE;
        Acc sum[MINE][MINE] = {};
        SliceA a;
        SliceB b;
        const T* next_a = A + first_m * (ORDER_A == C_ORDER ? lda : 1);
        const T* next_b = B + first_n * (ORDER_B == F_ORDER ? ldb : 1);
        a.fetch(next_a, lda, m - first_m, k);
        b.fetch(next_b, ldb, n - first_n, k);
        for (long long slice = 0; slice < n_slices; ++slice) {
            Acc* now_a = shared + slice % 2 * (SLICE_A + SLICE_B);
            Acc* now_b = now_a + SLICE_A;
            a.put(now_a);
            b.put(now_b);
            // After this barrier nobody still reads the other pair of slices, which the next round writes.
            __syncthreads();
            if (slice + 1 < n_slices) {
                next_a += DEPTH * (ORDER_A == C_ORDER ? 1 : lda);
                next_b += DEPTH * (ORDER_B == F_ORDER ? 1 : ldb);
                a.fetch(next_a, lda, m - first_m, k - (slice + 1) * DEPTH);
                b.fetch(next_b, ldb, n - first_n, k - (slice + 1) * DEPTH);
            }
            #pragma unroll UNROLL
            for (int p = 0; p < DEPTH; ++p) {
                Four<Acc> of_a[GROUPS], of_b[GROUPS];
                #pragma unroll
                for (int g = 0; g < GROUPS; ++g) {
                    of_a[g] = *reinterpret_cast<const Four<Acc>*>(now_a + p * SliceA::STRIDE + 64 * g + in_m);
                    of_b[g] = *reinterpret_cast<const Four<Acc>*>(now_b + p * SliceB::STRIDE + 64 * g + in_n);
                }
                #pragma unroll
                for (int i = 0; i < MINE; ++i)
                    #pragma unroll
                    for (int j = 0; j < MINE; ++j)
                        sum[i][j] += of_a[i / 4].value[i % 4] * of_b[j / 4].value[j % 4];
            }
        }
        // The epilogue goes through shared memory, 64 columns of the tile at a time, so that neighbouring threads write
        // neighbours of C, and so that its code stands in the kernel once per 64 columns and not once per element.
        #pragma unroll
        for (int g = 0; g < GROUPS; ++g) {
            __syncthreads();
            #pragma unroll
            for (int j = 0; j < 4; ++j)
                #pragma unroll
                for (int h = 0; h < GROUPS; ++h)
                    #pragma unroll
                    for (int i = 0; i < 4; ++i)
                        shared[(in_n + j) * TILE + 64 * h + in_m + i] = sum[4 * h + i][4 * g + j];
            __syncthreads();
            #pragma unroll 1
            for (int item = static_cast<int>(threadIdx.x); item < STAGE; item += 256) {
                const long long row = first_m + item % TILE, column = first_n + 64 * g + item / TILE;
                if (row >= m || column >= n) continue;
                Acc z = shared[item];
                if (addend) z += addend[column * ldc + row];
                if (bias) z += bias[row];
                C[column * ldc + row] = from_accumulator<O>(activate_by_number(activation, z, alpha));
            }
        }
        __syncthreads();  // the next tile writes its first slice where some thread may still read
    }
}
