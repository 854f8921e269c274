// nvcuda::wmma on the CPU: products of 16×16×16 tiles by all 32 lanes of a warp, 16-bit operands and float sums.
//
// A tile is distributed over the lanes in an order of its own for each kind of fragment, which no GPU has: code that
// relies on which lane holds what fails. Every function waits for the whole warp, whose lanes must pass the same
// pointer and leading dimension; like on a GPU, this orders no accesses of memory. Pointers and leading dimensions are
// checked for CUDA's alignment. Elements are read and written as by plain code, so that bounds, races and shared
// memory that nothing was written to are seen.
#pragma once

#include "../cuda_on_cpu.hpp"

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

// Only specializations exist: another shape or type does not compile.
template <typename Use, int M, int N, int K, typename T, typename Layout = void> struct fragment;

}  // namespace nvcuda::wmma

namespace cuda_on_cpu {

constexpr int tile_size = 16, per_lane = tile_size * tile_size / 32;

// What the lanes of a warp bring to a product.
struct Operands {
    float a[tile_size][tile_size], b[tile_size][tile_size];
};
inline Operands operands[32];  // of each warp of the block

struct Position {
    int row, column;
};
// Where element i of this lane's part of a fragment lies. Odd factors make each a permutation of the 256 places.
template <typename Use> Position position(int i) {
    constexpr unsigned factor = std::is_same_v<Use, nvcuda::wmma::matrix_a>   ? 37
                                : std::is_same_v<Use, nvcuda::wmma::matrix_b> ? 107
                                                                              : 173;
    const unsigned place = (threadIdx.x % 32 * per_lane + static_cast<unsigned>(i)) * factor % 256;
    return {static_cast<int>(place / tile_size), static_cast<int>(place % tile_size)};
}

inline void matrix_collective(uint64_t same_for_all, const char* file, int line) {
    warp_collective(Collective::matrix, 0xFFFFFFFFu, same_for_all, 0, 32, file, line);
}

template <typename T> void check_tile(const char* function, const T* place, unsigned leading, const char* file, int line) {
    if (device_address(place) % 32)
        fail("calls %s at %s:%d with a pointer that is not aligned to 32 bytes", function, file, line);
    if (leading * sizeof(T) % 16)
        fail("calls %s at %s:%d with a leading dimension of %u, which is no multiple of %zu", function, file, line, leading,
             16 / sizeof(T));
    matrix_collective(reinterpret_cast<uint64_t>(place) * 65599 + leading, file, line);
}

}  // namespace cuda_on_cpu

namespace nvcuda::wmma {

#define CUDA_ON_CPU_HERE const char* file = __builtin_FILE(), int line = __builtin_LINE()
#define CUDA_ON_CPU_FRAGMENT(Use, T)                                                 \
    template <typename Layout> struct fragment<Use, 16, 16, 16, T, Layout> {         \
        static constexpr int num_elements = cuda_on_cpu::per_lane;                   \
        T x[num_elements];                                                           \
    };
CUDA_ON_CPU_FRAGMENT(matrix_a, __half)
CUDA_ON_CPU_FRAGMENT(matrix_b, __half)
CUDA_ON_CPU_FRAGMENT(matrix_a, __nv_bfloat16)
CUDA_ON_CPU_FRAGMENT(matrix_b, __nv_bfloat16)
CUDA_ON_CPU_FRAGMENT(accumulator, float)
#undef CUDA_ON_CPU_FRAGMENT

template <typename Use, typename T, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& tile, const T* place, unsigned leading, CUDA_ON_CPU_HERE) {
    static_assert(std::is_same_v<Layout, row_major> || std::is_same_v<Layout, col_major>, "an operand has an order");
    cuda_on_cpu::check_tile("load_matrix_sync", place, leading, file, line);
    for (int i = 0; i < tile.num_elements; ++i) {
        const auto [row, column] = cuda_on_cpu::position<Use>(i);
        tile.x[i] = std::is_same_v<Layout, row_major> ? place[row * leading + column] : place[column * leading + row];
    }
}

inline void store_matrix_sync(float* place, const fragment<accumulator, 16, 16, 16, float>& tile, unsigned leading,
                              layout_t layout, CUDA_ON_CPU_HERE) {
    cuda_on_cpu::check_tile("store_matrix_sync", place, leading, file, line);
    for (int i = 0; i < tile.num_elements; ++i) {
        const auto [row, column] = cuda_on_cpu::position<accumulator>(i);
        place[layout == mem_row_major ? row * leading + column : column * leading + row] = tile.x[i];
    }
}

inline void fill_fragment(fragment<accumulator, 16, 16, 16, float>& tile, float value) {
    for (float& x : tile.x) x = value;
}

// D = A·B + C; D may be C. What the lanes exchange is no memory of the kernel's: nobody watches it.
template <typename T, typename LayoutA, typename LayoutB>
__attribute__((no_sanitize("thread"), noinline)) void mma_sync(fragment<accumulator, 16, 16, 16, float>& D,
                                                     const fragment<matrix_a, 16, 16, 16, T, LayoutA>& A,
                                                     const fragment<matrix_b, 16, 16, 16, T, LayoutB>& B,
                                                     const fragment<accumulator, 16, 16, 16, float>& C, CUDA_ON_CPU_HERE) {
    cuda_on_cpu::Operands& all = cuda_on_cpu::operands[threadIdx.x / 32];
    for (int i = 0; i < cuda_on_cpu::per_lane; ++i) {
        const auto of_a = cuda_on_cpu::position<matrix_a>(i), of_b = cuda_on_cpu::position<matrix_b>(i);
        all.a[of_a.row][of_a.column] = static_cast<float>(A.x[i]);
        all.b[of_b.column][of_b.row] = static_cast<float>(B.x[i]);
    }
    cuda_on_cpu::matrix_collective(0, file, line);
    for (int i = 0; i < cuda_on_cpu::per_lane; ++i) {
        const auto [row, column] = cuda_on_cpu::position<accumulator>(i);
        float sum = 0;
        for (int k = 0; k < cuda_on_cpu::tile_size; ++k) sum += all.a[row][k] * all.b[column][k];
        D.x[i] = C.x[i] + sum;
    }
    cuda_on_cpu::matrix_collective(1, file, line);  // nobody brings the next operands before all have used these
}
#undef CUDA_ON_CPU_HERE

}  // namespace nvcuda::wmma
