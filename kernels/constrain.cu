// Weights brought back within limits behind an update: w ← max(w, 0) if non_negative, then
//     w_i ← w_i·c/‖w_i‖,  c = min(max(‖w_i‖, least), most),
// w_i the weights into unit i, row i of W (n, n_in), F-ordered. A row within the limits stays as it is, and so does one of
// zeros; low, a copy of W in 16 bits, is rounded anew. Nothing happens once a step has failed, or in one that is skipped.
//
// A block per 32 units, a warp per input: the sums over the inputs are a thread's own, then those of the warps in order.
// Source: Srivastava et al. (2014), "Dropout", section 5.1.
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float; Low in float, __half, __nv_bfloat16
// instances: T in double; Low in double
// block: 256
template <typename T, typename Low>
__global__ void constrain(long long n, long long n_in, bool non_negative, T least, T most,
                          const long long* __restrict__ skip /* any (1), may be null */,
                          const long long* __restrict__ failed_step /* any (1) */, T* __restrict__ W /* any (n*n_in) */,
                          Low* __restrict__ low /* any (n*n_in), may be null */) {
    constexpr int units = 32, warps = 8;
    __shared__ T sums[warps][units], factors[units];
    if (is_idle(failed_step, skip)) n = 0;
    const int lane = threadIdx.x % units, warp = threadIdx.x / units;
    for (long long first = blockIdx.x * static_cast<long long>(units); first < n;
         first += gridDim.x * static_cast<long long>(units)) {
        const long long unit = first + lane, n_mine = unit < n ? n_in : 0;
        T sum = 0;
        for (long long j = warp; j < n_mine; j += warps) {
            const T w = W[j * n + unit];
            const T kept = non_negative && w < 0 ? T(0) : w;
            sum = multiply_add(kept, kept, sum);
        }
        sums[warp][lane] = sum;
        __syncthreads();
        if (warp == 0) {
            T square = 0;
            for (int k = 0; k < warps; ++k) square = add_rounded(square, sums[k][lane]);
            const T norm = sqrt(square), raised = norm < least ? least : norm, limited = raised > most ? most : raised;
            factors[lane] = norm == 0 || limited == norm ? T(1) : limited / norm;
        }
        __syncthreads();
        const T factor = factors[lane];
        for (long long j = warp; j < n_mine; j += warps) {
            const long long i = j * n + unit;
            const T w = W[i];
            const T kept = multiply_rounded(non_negative && w < 0 ? T(0) : w, factor);
            W[i] = kept;
            if constexpr (!Same<Low, T>::value) {
                if (low != nullptr) low[i] = from_accumulator<Low>(kept);
            }
        }
    }
}
