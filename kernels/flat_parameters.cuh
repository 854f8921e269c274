// The flat buffer of all parameters: which segment a parameter belongs to, the penalized and clipped gradient that every
// optimizer uses, and sums over the buffer.
//
// The segment table is C (n_segments, 4) of doubles, one row per segment in the order of the buffer: the index where it
// stops, λ₁, λ₂, and 1 if its parameters take weight decay.
#pragma once

#include "common.cuh"

template <typename A> struct Segment {
    A l1, twice_l2;
    bool decays;
};

// Finds the segments of indices that one thread visits in rising order.
template <typename A> struct SegmentFinder {
    const double* table;
    long long n_segments, current, stop;
    Segment<A> segment;

    __device__ SegmentFinder(const double* segments, long long n)
        : table(segments), n_segments(n), current(-1), stop(0), segment{A(0), A(0), false} {}

    __device__ const Segment<A>& at(long long i) {
        if (i >= stop && current + 1 < n_segments) {
            do {
                ++current;
                stop = static_cast<long long>(table[4 * current]);
            } while (i >= stop && current + 1 < n_segments);
            segment.l1 = static_cast<A>(table[4 * current + 1]);
            segment.twice_l2 = static_cast<A>(2 * table[4 * current + 2]);
            segment.decays = table[4 * current + 3] != 0;
        }
        return segment;
    }
};

// g + 2λ₂w + λ₁ sign(w): the gradient of data loss and penalty together
template <typename A> __device__ __forceinline__ A penalized(A g, A w, const Segment<A>& segment) {
    if (segment.twice_l2 != 0) g += segment.twice_l2 * w;
    if (segment.l1 != 0) g += segment.l1 * (w > 0 ? A(1) : w < 0 ? A(-1) : w);
    return g;
}

// The gradient that an update uses: penalized, scaled by the clipping of the norm, then limited to ±max_value (which is
// infinite where there is no limit). NaN goes through.
template <typename A>
__device__ __forceinline__ A update_gradient(A g, A w, const Segment<A>& segment, A clip_scale, A max_value) {
    g = penalized(g, w, segment) * clip_scale;
    return g > max_value ? max_value : g < -max_value ? -max_value : g;
}

template <typename A> __device__ __forceinline__ A read_clip_scale(const double* clip_scale) {
    return clip_scale != nullptr ? static_cast<A>(*clip_scale) : A(1);
}

// Adds `term(i)` over part `part` of 0 ... n − 1; every thread of the block gets the sum. The parts' size does not depend
// on the grid or the device, so that a sum has the same bits everywhere.
template <typename A, typename Term>
__device__ A sum_of_part(long long part, long long part_size, long long n, Term term) {
    long long end = (part + 1) * part_size < n ? (part + 1) * part_size : n;
    A sum = 0;
    for (long long i = part * part_size + threadIdx.x; i < end; i += blockDim.x) sum += term(i);
    return block_sum(sum);
}

// Adds the parts' sums in double, for a grid of one block.
template <typename A> __device__ double sum_of_parts(long long n_parts, const A* partial) {
    double sum = 0;
    for (long long p = threadIdx.x; p < n_parts; p += blockDim.x) sum += static_cast<double>(partial[p]);
    return block_sum(sum);
}
