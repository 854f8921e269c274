// Categories of tables embedded: out = of every embedded unit f the row of its table that X numbers, (n_categories, width) C-ordered
// from starts[f] on in E, at places[f] ... places[f + 1] − 1; then the other units as they are. The row of a number that is no
// category, an integer from 0 to n_categories − 1, is NaN.
//
// Backward: of a row of a table Σ_j dOut over the samples j = 0, 1, 2, ... of its category, in that order. No atomics: the first
// sample of a category in the batch adds up those of all others.
//
// Grid: forward a thread per number of out; backward a warp per embedded unit and sample, whose lanes look at 32 samples at a time and
// take a number of the row each; and a thread per number of dX.
#include "common.cuh"

// The category that x numbers, from 0 to n − 1, or −1 if it numbers none.
template <typename A> __device__ __forceinline__ long long category(A x, long long n) {
    if (!(x >= A(0) && x < static_cast<A>(n))) return -1;
    const long long i = static_cast<long long>(x);
    return static_cast<A>(i) == x && i < n ? i : -1;
}

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void embed_categories(long long n_in, long long n_out, long long batch, long long n_embedded, long long n_rows,
                                 const long long* __restrict__ order /* any (n_in) */,
                                 const long long* __restrict__ starts /* any (_) */,
                                 const long long* __restrict__ places /* any (_) */,
                                 const Accumulator<T>* __restrict__ E /* any (n_rows) */,
                                 const T* __restrict__ X /* F (n_in, batch) */, T* __restrict__ out /* F (n_out, batch) */) {
    using A = Accumulator<T>;
    for (long long item = first_index(); item < n_out * batch; item += index_stride()) {
        const long long j = item / n_out, i = item % n_out, rest = i - places[n_embedded];
        const T* x = X + j * n_in;
        if (rest >= 0) {
            out[item] = x[order[n_embedded + rest]];
            continue;
        }
        long long f = 0, behind = n_embedded;  // places[f] ≤ i < places[behind]
        while (behind - f > 1) {
            const long long middle = (f + behind) / 2;
            if (places[middle] <= i) f = middle;
            else behind = middle;
        }
        const long long width = places[f + 1] - places[f];
        const long long row = category(to_accumulator(x[order[f]]), (starts[f + 1] - starts[f]) / width);
        const A infinite = infinity<A>();
        out[item] = from_accumulator<T>(row < 0 ? infinite - infinite : E[starts[f] + row * width + i - places[f]]);
    }
}

// dE, which is 0 before, of the rows that there are samples of.
// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void embed_categories_rows(long long n_in, long long n_out, long long batch, long long n_embedded, long long n_rows,
                                      const long long* __restrict__ order /* any (n_in) */,
                                      const long long* __restrict__ starts /* any (_) */,
                                      const long long* __restrict__ places /* any (_) */,
                                      const T* __restrict__ dOut /* F (n_out, batch) */,
                                      const T* __restrict__ X /* F (n_in, batch) */,
                                      Accumulator<T>* __restrict__ dE /* any (n_rows) */) {
    using A = Accumulator<T>;
    const int lane = threadIdx.x % 32;
    for (long long item = first_index() / 32; item < n_embedded * batch; item += index_stride() / 32) {
        const long long f = item % n_embedded, mine = item / n_embedded;
        const long long width = places[f + 1] - places[f], n = (starts[f + 1] - starts[f]) / width;
        const T* x = X + order[f];
        const long long row = category(to_accumulator(x[mine * n_in]), n);
        bool is_first = row >= 0;
        for (long long start = 0; is_first && start < mine; start += 32) {
            const long long j = start + lane;
            const bool same = j < mine && category(to_accumulator(x[j * n_in]), n) == row;
            is_first = !__any_sync(full_warp, same);
        }
        if (!is_first) continue;
        for (long long at = 0; at < width; at += 32) {
            A sum = 0;
            for (long long start = mine / 32 * 32; start < batch; start += 32) {
                const long long j = start + lane;
                const bool same = j >= mine && j < batch && category(to_accumulator(x[j * n_in]), n) == row;
                for (unsigned left = __ballot_sync(full_warp, same); left != 0; left &= left - 1) {
                    const long long other = start + __ffs(static_cast<int>(left)) - 1;
                    if (at + lane < width) sum += to_accumulator(dOut[other * n_out + places[f] + at + lane]);
                }
            }
            if (at + lane < width) dE[starts[f] + row * width + at + lane] = sum;
        }
    }
}

// dX: 0 of embedded units.
// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void embed_categories_inputs(long long n_in, long long n_out, long long batch, long long n_embedded,
                                        const long long* __restrict__ order /* any (n_in) */,
                                        const T* __restrict__ dOut /* F (n_out, batch) */,
                                        T* __restrict__ dX /* F (n_in, batch) */) {
    const long long first = n_out - (n_in - n_embedded);
    for (long long item = first_index(); item < n_in * batch; item += index_stride()) {
        const long long j = item / n_in, i = item % n_in;
        const Accumulator<T> zero = 0;
        dX[j * n_in + order[i]] =
            i < n_embedded ? from_accumulator<T>(zero) : dOut[j * n_out + first + i - n_embedded];
    }
}
