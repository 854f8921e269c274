// The products of a first layer with sparse samples. Sample j has the numbers p from extents[j, 0] to extents[j, 1] − 1, in columns
// that ascend; v_p = scale·values[p].
//     out_j = Σ_p v_p·W_c, c = columns[p], in the order of p;
//     dW_i ← dW_i + Σ_j v_p·dZ_j over the samples j = 0, 1, 2, ... that have a number p in column i, in that order.
//
// Grid: forward a thread per unit and sample, so that neighbours read neighbouring weights of one input. Backward there is nothing to
// go by but the numbers themselves, of which a captured step does not know how many there are: 16 warps take turns at those of a
// sample. The first sample of the batch that has a column adds up those of all others: no atomics. Each lane looks for the column in
// a sample by bisection, in 32 at a time; for those that have it, each takes a unit. The host checks extents and columns; what lies
// outside stops the launch with an error.
#include "common.cuh"

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void sparse_product(long long n_out, long long n_in, long long batch, long long n_values, Accumulator<T> scale,
                               const T* __restrict__ W /* F (n_out, n_in) */,
                               const long long* __restrict__ extents /* C (batch, 2) */,
                               const int* __restrict__ columns /* any (n_values) */,
                               const Accumulator<T>* __restrict__ values /* any (n_values) */,
                               T* __restrict__ out /* F (n_out, batch) */) {
    for (long long item = first_index(); item < n_out * batch; item += index_stride()) {
        const long long j = item / n_out, unit = item % n_out, stop = extents[2 * j + 1];
        if (extents[2 * j] < 0 || stop > n_values) __trap();
        Accumulator<T> sum = 0;
        for (long long p = extents[2 * j]; p < stop; ++p) {
            const long long column = columns[p];
            if (column < 0 || column >= n_in) __trap();
            sum = multiply_add(multiply_rounded(scale, values[p]), to_accumulator(W[column * n_out + unit]), sum);
        }
        out[item] = from_accumulator<T>(sum);
    }
}

// Where sample j has this column, or −1.
__device__ __forceinline__ long long place_of(int column, long long j, const long long* extents, const int* columns) {
    long long start = extents[2 * j], stop = extents[2 * j + 1];
    const long long end = stop;
    while (start < stop) {
        const long long middle = start + (stop - start) / 2;
        if (columns[middle] < column) start = middle + 1;
        else stop = middle;
    }
    return start < end && columns[start] == column ? start : -1;
}

constexpr int WARPS_PER_SAMPLE = 16;

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void sparse_gradient(long long n_out, long long n_in, long long batch, long long n_values, Accumulator<T> scale,
                                const T* __restrict__ dZ /* F (n_out, batch) */,
                                const long long* __restrict__ extents /* C (batch, 2) */,
                                const int* __restrict__ columns /* any (n_values) */,
                                const Accumulator<T>* __restrict__ values /* any (n_values) */,
                                Accumulator<T>* __restrict__ dW /* F (n_out, n_in) */) {
    using A = Accumulator<T>;
    const int lane = threadIdx.x % 32;
    const long long n_items = batch * WARPS_PER_SAMPLE;
    for (long long item = first_index() / 32; item < n_items; item += index_stride() / 32) {
        const long long mine = item / WARPS_PER_SAMPLE, stop = extents[2 * mine + 1];
        if (extents[2 * mine] < 0 || stop > n_values) __trap();
        for (long long p = extents[2 * mine] + item % WARPS_PER_SAMPLE; p < stop; p += WARPS_PER_SAMPLE) {
            const int column = columns[p];
            if (column < 0 || column >= n_in) __trap();
            bool is_first = true;
            for (long long start = 0; is_first && start < mine; start += 32) {
                const long long j = start + lane;
                is_first = !__any_sync(full_warp, j < mine && place_of(column, j, extents, columns) >= 0);
            }
            if (!is_first) continue;
            A* sums = dW + column * n_out;
            for (long long start = mine / 32 * 32; start < batch; start += 32) {
                const long long j = start + lane;
                const long long place = j >= mine && j < batch ? place_of(column, j, extents, columns) : -1;
                const A v = place >= 0 ? multiply_rounded(scale, values[place]) : A(0);
                const unsigned found = __ballot_sync(full_warp, place >= 0);
                for (long long at = 0; found != 0 && at < n_out; at += 32) {
                    const bool has_unit = at + lane < n_out;
                    A sum = has_unit ? sums[at + lane] : A(0);
                    for (unsigned left = found; left != 0; left &= left - 1) {
                        const int from = __ffs(static_cast<int>(left)) - 1;
                        const A factor = __shfl_sync(full_warp, v, from);
                        if (has_unit)
                            sum = multiply_add(factor, to_accumulator(dZ[(start + from) * n_out + at + lane]), sum);
                    }
                    if (has_unit) sums[at + lane] = sum;
                }
            }
        }
    }
}
