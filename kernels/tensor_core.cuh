// Matrix products of one warp on tensor cores: D = A·B + C on 16×16×16 tiles, 16-bit operands and float sums.
//
// The names and meanings are those of nvcuda::wmma in CUDA's <mma.h>, as far as the kernels use them, and so are the
// instructions. The header itself is left out because <crt/mma.h>, which it includes, is neither in CuPy's CUDA wheels
// nor in nvidia-cuda-runtime: it comes with nvcc alone. Unlike there, tiles are read from and written to shared memory only.
//
// All 32 lanes of a warp call each function with the same arguments. Pointers are aligned to 32 bytes; the leading
// dimension is a multiple of 8 for 16-bit elements and of 4 for float. Which lane holds which element is unspecified.
// bfloat16 needs sm_80. After store_matrix_sync, other lanes may read the tile once __syncwarp has been called.
//
// Source: PTX ISA, "Warp level matrix instructions": wmma.load, wmma.mma and wmma.store.
#pragma once

#include "common.cuh"

#ifndef __CUDA_ARCH__
#include <mma.h>  // executed on the CPU, with the header of tests/cuda_on_cpu
namespace wmma = nvcuda::wmma;
#else

namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct col_major;
enum layout_t { mem_col_major };

template <typename Use, int M, int N, int K, typename T, typename Layout = void> struct fragment;

#define FCNN_OPERAND(use, T, n_registers)                          \
    template <> struct fragment<use, 16, 16, 16, T, col_major> {   \
        unsigned registers[n_registers];                           \
    };
FCNN_OPERAND(matrix_a, __half, 8)
FCNN_OPERAND(matrix_b, __half, 8)
FCNN_OPERAND(matrix_a, __nv_bfloat16, 4)
FCNN_OPERAND(matrix_b, __nv_bfloat16, 4)
#undef FCNN_OPERAND

template <> struct fragment<accumulator, 16, 16, 16, float> {
    float x[8];
};

__device__ __forceinline__ unsigned shared_address(const void* place) {
    return static_cast<unsigned>(__cvta_generic_to_shared(place));
}

#define FCNN_LOAD_HALF(use, letter)                                                                                \
    __device__ __forceinline__ void load_matrix_sync(fragment<use, 16, 16, 16, __half, col_major>& tile,           \
                                                     const __half* place, unsigned leading) {                      \
        unsigned* r = tile.registers;                                                                              \
        asm volatile("wmma.load." letter ".sync.aligned.col.m16n16k16.shared.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, " \
                     "[%8], %9;"                                                                                   \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]), "=r"(r[4]), "=r"(r[5]), "=r"(r[6]), "=r"(r[7]) \
                     : "r"(shared_address(place)), "r"(leading)                                                    \
                     : "memory");                                                                                  \
    }
FCNN_LOAD_HALF(matrix_a, "a")
FCNN_LOAD_HALF(matrix_b, "b")
#undef FCNN_LOAD_HALF

__device__ __forceinline__ void mma_sync(fragment<accumulator, 16, 16, 16, float>& D,
                                         const fragment<matrix_a, 16, 16, 16, __half, col_major>& A,
                                         const fragment<matrix_b, 16, 16, 16, __half, col_major>& B,
                                         const fragment<accumulator, 16, 16, 16, float>& C) {
    const unsigned *a = A.registers, *b = B.registers;
    asm volatile(
        "wmma.mma.sync.aligned.col.col.m16n16k16.f32.f32 {%0, %1, %2, %3, %4, %5, %6, %7}, "
        "{%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19, %20, %21, %22, %23}, "
        "{%24, %25, %26, %27, %28, %29, %30, %31};"
        : "=f"(D.x[0]), "=f"(D.x[1]), "=f"(D.x[2]), "=f"(D.x[3]), "=f"(D.x[4]), "=f"(D.x[5]), "=f"(D.x[6]), "=f"(D.x[7])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(b[0]), "r"(b[1]),
          "r"(b[2]), "r"(b[3]), "r"(b[4]), "r"(b[5]), "r"(b[6]), "r"(b[7]), "f"(C.x[0]), "f"(C.x[1]), "f"(C.x[2]),
          "f"(C.x[3]), "f"(C.x[4]), "f"(C.x[5]), "f"(C.x[6]), "f"(C.x[7]));
}

#if __CUDA_ARCH__ >= 800
#define FCNN_LOAD_BFLOAT16(use, letter)                                                                             \
    __device__ __forceinline__ void load_matrix_sync(fragment<use, 16, 16, 16, __nv_bfloat16, col_major>& tile,     \
                                                     const __nv_bfloat16* place, unsigned leading) {                \
        unsigned* r = tile.registers;                                                                               \
        asm volatile("wmma.load." letter ".sync.aligned.col.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"      \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                               \
                     : "r"(shared_address(place)), "r"(leading)                                                     \
                     : "memory");                                                                                   \
    }
FCNN_LOAD_BFLOAT16(matrix_a, "a")
FCNN_LOAD_BFLOAT16(matrix_b, "b")
#undef FCNN_LOAD_BFLOAT16

__device__ __forceinline__ void mma_sync(fragment<accumulator, 16, 16, 16, float>& D,
                                         const fragment<matrix_a, 16, 16, 16, __nv_bfloat16, col_major>& A,
                                         const fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major>& B,
                                         const fragment<accumulator, 16, 16, 16, float>& C) {
    const unsigned *a = A.registers, *b = B.registers;
    asm volatile(
        "wmma.mma.sync.aligned.col.col.m16n16k16.f32.bf16.bf16.f32 {%0, %1, %2, %3, %4, %5, %6, %7}, "
        "{%8, %9, %10, %11}, {%12, %13, %14, %15}, {%16, %17, %18, %19, %20, %21, %22, %23};"
        : "=f"(D.x[0]), "=f"(D.x[1]), "=f"(D.x[2]), "=f"(D.x[3]), "=f"(D.x[4]), "=f"(D.x[5]), "=f"(D.x[6]), "=f"(D.x[7])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "f"(C.x[0]),
          "f"(C.x[1]), "f"(C.x[2]), "f"(C.x[3]), "f"(C.x[4]), "f"(C.x[5]), "f"(C.x[6]), "f"(C.x[7]));
}
#endif

__device__ __forceinline__ void fill_fragment(fragment<accumulator, 16, 16, 16, float>& tile, float value) {
    #pragma unroll
    for (int i = 0; i < 8; ++i) tile.x[i] = value;
}

// `place` column by column, `leading` elements apart.
__device__ __forceinline__ void store_matrix_sync(float* place, const fragment<accumulator, 16, 16, 16, float>& tile,
                                                  unsigned leading, layout_t) {
    const float* x = tile.x;
    asm volatile("wmma.store.d.sync.aligned.col.m16n16k16.shared.f32 [%0], {%1, %2, %3, %4, %5, %6, %7, %8}, %9;"
                 :
                 : "r"(shared_address(place)), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]), "f"(x[4]), "f"(x[5]),
                   "f"(x[6]), "f"(x[7]), "r"(leading)
                 : "memory");
}

}  // namespace wmma
#endif
