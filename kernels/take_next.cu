// out = table[position], position ← position + 1: the learning rate of a step from the table of its epoch.
//
// One thread. Table and position live in device memory, so that each replay of a graph takes the next number; at the
// table's end the last one stays.
#include "common.cuh"

// instances: T in float, double
template <typename T>
__global__ void take_next(long long n, const T* __restrict__ table /* any (n) */,
                          long long* __restrict__ position /* any (1) */, T* __restrict__ out /* any (1) */) {
    if (first_index() == 0 && n > 0) {
        const long long i = *position;
        *out = table[i < 0 ? 0 : i < n ? i : n - 1];
        *position = i + 1;
    }
}
