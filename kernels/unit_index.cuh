// Which unit an element of an (n, batch) F-ordered matrix belongs to, for one thread that walks over the elements
// first_index(), first_index() + index_stride(), ...: two remainders at the start, additions afterwards. A remainder for
// each element would cost as much as the memory traffic of a fused pass, all the more in 64 bits.
#pragma once

#include "common.cuh"

__device__ __forceinline__ long long remainder_of(long long x, long long divisor) {
    constexpr long long largest = 0xFFFFFFFFll;
    if (x <= largest && divisor <= largest) return static_cast<unsigned>(x) % static_cast<unsigned>(divisor);
    return x % divisor;
}

struct UnitIndex {
    long long unit, step, n;

    __device__ __forceinline__ explicit UnitIndex(long long n_units)
        : unit(remainder_of(first_index(), n_units)), step(remainder_of(index_stride(), n_units)), n(n_units) {}

    __device__ __forceinline__ void advance() {
        unit += step;
        if (unit >= n) unit -= n;
    }
};
