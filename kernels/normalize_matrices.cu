// X_g ← X_g/max(‖X_g‖, ε) for matrices of `size` elements, one behind the other, ‖·‖ Frobenius' norm: in two launches, whose
// blocks take parts of `part_size` elements. A matrix whose ‖X_g‖² is infinite becomes 0.
#include "common.cuh"
#include "flat_parameters.cuh"

// partial_gp = ‖part p of X_g‖²: a block per part.
// instances: T in float, double
template <typename T>
__global__ void matrix_squares(long long groups, long long size, long long part_size, long long n_parts,
                               const T* __restrict__ X /* any (groups*size) */,
                               T* __restrict__ partial /* any (groups*n_parts) */) {
    const T* none = nullptr;
    for (long long unit = blockIdx.x; unit < groups * n_parts; unit += gridDim.x) {
        T sum = 0;
        visit_part<4>(unit % n_parts, part_size, size, X + unit / n_parts * size, none,
                      [&](long long, const auto& x, const auto&) {
                          #pragma unroll
                          for (int k = 0; k < vector_width<T>; ++k) sum = multiply_add(x[k], x[k], sum);
                      });
        sum = block_sum(sum);
        if (threadIdx.x == 0) partial[unit] = sum;
    }
}

// X_g ← X_g/max(√(Σ_p partial_gp), ε): a block per part, each of which adds up the squares of its matrix.
// instances: T in float, double
template <typename T>
__global__ void normalize_matrices(long long groups, long long size, long long part_size, long long n_parts, double eps,
                                   const T* __restrict__ partial /* any (groups*n_parts) */,
                                   T* __restrict__ X /* any (groups*size) */) {
    __shared__ T divisor;
    for (long long unit = blockIdx.x; unit < groups * n_parts; unit += gridDim.x) {
        const long long g = unit / n_parts, begin = unit % n_parts * part_size;
        const long long end = begin + part_size < size ? begin + part_size : size;
        double sum = 0;
        for (long long p = threadIdx.x; p < n_parts; p += blockDim.x)
            sum += static_cast<double>(partial[g * n_parts + p]);
        const double norm = sqrt(block_sum(sum));
        __syncthreads();
        if (threadIdx.x == 0) divisor = static_cast<T>(norm > eps ? norm : eps);
        __syncthreads();
        for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) X[g * size + i] /= divisor;
    }
}
