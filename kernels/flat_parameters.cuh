// The flat buffer of all parameters: which segment a parameter belongs to, the gradient that every optimizer uses, the
// pass that every update is, and sums over the buffer.
//
// A thread takes 16 bytes of neighbouring parameters at a time; views that begin between two 16-byte boundaries, and the
// last parameters, take the same arithmetic in narrower accesses.
// The segment table is C (n_segments, 5) of doubles, one row per segment in the order of the buffer: the index where it
// stops, λ₁, λ₂, what weight decay is multiplied by for its parameters, and what the learning rate is. Without rows nothing
// is penalized, nothing decays, and the rate is everyone's.
#pragma once

#include "common.cuh"
#include "vector.cuh"

// ---- segments -----------------------------------------------------------------------------------------------------

template <typename A> struct Segment {
    A l1, twice_l2, decay, rate;
};

// Finds the segments of indices that one thread visits in rising order.
template <typename A> struct SegmentFinder {
    const double* table;
    long long n_segments, current, stop;
    Segment<A> segment;

    __device__ __forceinline__ SegmentFinder(const double* segments, long long n)
        : table(segments), n_segments(n), current(-1), stop(n ? 0 : 0x7FFFFFFFFFFFFFFFll), segment{A(0), A(0), A(0), A(1)} {}

    // Afterwards `segment` is that of index i, and of all indices from i to stop − 1.
    __device__ __forceinline__ void seek(long long i) {
        if (i < stop || current + 1 >= n_segments) return;
        do {
            ++current;
            stop = static_cast<long long>(table[5 * current]);
        } while (i >= stop && current + 1 < n_segments);
        segment.l1 = static_cast<A>(table[5 * current + 1]);
        segment.twice_l2 = static_cast<A>(2 * table[5 * current + 2]);
        segment.decay = static_cast<A>(table[5 * current + 3]);
        segment.rate = static_cast<A>(table[5 * current + 4]);
    }
};

// Calls visit(k) for the elements of a place (vector.cuh), with finder.segment that of element k. One search for each
// vector that lies in one segment.
template <int WIDTH, int VECTORS, typename A, typename Visit>
__device__ __forceinline__ void visit_segments(SegmentFinder<A>& finder, Place<WIDTH, VECTORS> place, Visit visit) {
    bool straddles = false;
    #pragma unroll
    for (int k = 0; k < WIDTH * VECTORS; ++k) {
        const long long i = place.index(k);
        if (k % WIDTH == 0) {
            finder.seek(i);
            straddles = i + WIDTH > finder.stop;
        } else if (straddles) {
            finder.seek(i);
        }
        visit(k);
    }
}

// ---- gradients ----------------------------------------------------------------------------------------------------

// g + 2λ₂w + λ₁ sign(w): the gradient of data loss and penalty together
template <typename A> __device__ __forceinline__ A penalized(A g, A w, const Segment<A>& segment) {
    if (segment.twice_l2 != 0) g = multiply_add(segment.twice_l2, w, g);
    if (segment.l1 != 0) g = multiply_add(segment.l1, w > 0 ? A(1) : w < 0 ? A(-1) : w, g);
    return g;
}

// 1/loss_scale, exact because the scale is a power of two. Gradients are multiplied by it before anything else.
template <typename A> __device__ __forceinline__ A inverse_scale(const double* loss_scale) {
    return loss_scale != nullptr ? static_cast<A>(1 / *loss_scale) : A(1);
}

// Whether an update does nothing: a step has failed, or this one is skipped.
__device__ __forceinline__ bool is_idle(const long long* failed_step, const long long* skip) {
    const long long failed = *failed_step, skipped = skip != nullptr ? *skip : -1;
    return failed >= 0 || skipped >= 0;
}

template <typename A, typename B> struct Same { static constexpr bool value = false; };
template <typename A> struct Same<A, A> { static constexpr bool value = true; };

// ---- updates ------------------------------------------------------------------------------------------------------

// How an update makes its gradient of the one in the flat buffer: unscaled, penalized, scaled by the clipping of the
// norm, then limited to ±max_value (which is infinite where there is no limit). NaN goes through.
template <typename A> struct Clipping {
    A inverse_scale, clip_scale, max_value;

    __device__ __forceinline__ Clipping(const double* loss_scale, const double* clip, A limit)
        : inverse_scale(::inverse_scale<A>(loss_scale)),
          clip_scale(clip != nullptr ? static_cast<A>(*clip) : A(1)),
          max_value(limit) {}

    __device__ __forceinline__ A operator()(A g, A w, const Segment<A>& segment) const {
        g = multiply_rounded(penalized(multiply_rounded(g, inverse_scale), w, segment), clip_scale);
        return g > max_value ? max_value : g < -max_value ? -max_value : g;
    }
};

// θ ← θ(1 − pull), pull = ηλ with the factors of the segment; nothing where it does not decay.
template <typename A> __device__ __forceinline__ void decay_parameter(A& theta, A pull, const Segment<A>& segment) {
    if (segment.decay != 0) theta = multiply_rounded(theta, multiply_add(-pull * segment.rate, segment.decay, A(1)));
}

// Calls body(place) so that the places of the whole grid make up 0 ... n − 1: like for_each_place, one vector at a time,
// because the registers are full with the vectors of four arrays.
template <int WIDTH, typename Body>
__device__ __forceinline__ void for_each_vector(long long n, bool aligned, Body body) {
    const long long n_vectors = aligned ? n / WIDTH : 0;
    #pragma unroll 1
    for (long long v = first_index(); v < n_vectors; v += index_stride()) body(Place<WIDTH, 1>{v * WIDTH, 0});
    #pragma unroll 1
    for (long long i = n_vectors * WIDTH + first_index(); i < n; i += index_stride()) body(Place<1, 1>{i, 0});
}

// rule(g, θ, first, second, third, segment) changes one parameter and its state, for every parameter. `first` to `third` are
// the optimizer's state, null where it has less. low_i ← θ_i, rounded to nearest, for i < n_low, unless Low is T.
template <typename T, typename Low, typename Rule>
__device__ __forceinline__ void update_with_state(long long n, long long n_low, long long n_segments,
                                                  const double* __restrict__ segments, const Clipping<T>& clipping,
                                                  const T* __restrict__ gradients, T* __restrict__ values,
                                                  T* __restrict__ first, T* __restrict__ second, T* __restrict__ third,
                                                  Low* __restrict__ low, Rule rule) {
    constexpr int width = vector_width<T>;
    SegmentFinder<T> finder(segments, n_segments);
    for_each_vector<width>(n, is_aligned<width>(gradients, values, first, second, third, low), [&](auto place) {
        constexpr int size = place.size;
        const auto g = place.load(gradients);
        auto theta = place.load(values);
        Vector<T, size> a = {}, b = {}, c = {};
        if (first != nullptr) a = place.load(first);
        if (second != nullptr) b = place.load(second);
        if (third != nullptr) c = place.load(third);
        visit_segments(finder, place, [&](int k) {
            rule(clipping(g[k], theta[k], finder.segment), theta[k], a[k], b[k], c[k], finder.segment);
        });
        place.store(values, theta);
        if (first != nullptr) place.store(first, a);
        if (second != nullptr) place.store(second, b);
        if (third != nullptr) place.store(third, c);
        if constexpr (!Same<Low, T>::value) {
            Vector<Low, size> rounded;
            #pragma unroll
            for (int k = 0; k < size; ++k) rounded[k] = from_accumulator<Low>(theta[k]);
            if (place.index(size - 1) < n_low) {
                place.store(low, rounded);
            } else {
                #pragma unroll
                for (int k = 0; k < size; ++k)
                    if (place.index(k) < n_low) low[place.index(k)] = rounded[k];
            }
        }
    });
}

// The same of a rule(g, θ, first, second, segment) with at most two arrays of state.
template <typename T, typename Low, typename Rule>
__device__ __forceinline__ void update_parameters(long long n, long long n_low, long long n_segments,
                                                  const double* __restrict__ segments, const Clipping<T>& clipping,
                                                  const T* __restrict__ gradients, T* __restrict__ values,
                                                  T* __restrict__ first, T* __restrict__ second, Low* __restrict__ low,
                                                  Rule rule) {
    update_with_state(n, n_low, n_segments, segments, clipping, gradients, values, first, second, static_cast<T*>(nullptr),
                      low, [=](T g, T& theta, T& a, T& b, T&, const Segment<T>& segment) { rule(g, theta, a, b, segment); });
}

// ---- sums over the buffer -----------------------------------------------------------------------------------------
// In parts whose size does not depend on the grid or the device, so that a sum has the same bits everywhere.

// Elements i ... i + N − 1 of an array, one by one; 0 from `end` on.
template <int N, typename T> __device__ __forceinline__ Vector<T, N> load_each(const T* x, long long i, long long end) {
    Vector<T, N> loaded;
    #pragma unroll
    for (int k = 0; k < N; ++k) loaded[k] = i + k < end ? x[i + k] : T(0);
    return loaded;
}

// Calls visit(i, x, y) for the vectors of a part of 0 ... n − 1 that this thread takes, in rising order: x holds X's
// elements from i on, y those of Y, and 0 beyond the part's end. y is 0 where Y is null. AT_ONCE vectors are loaded
// before the first of them is visited.
template <int AT_ONCE, typename T, typename Visit>
__device__ __forceinline__ void visit_part(long long part, long long part_size, long long n, const T* __restrict__ X,
                                           const T* __restrict__ Y, Visit visit) {
    constexpr int width = vector_width<T>;
    const long long begin = part * part_size, end = begin + part_size < n ? begin + part_size : n;
    const long long stride = static_cast<long long>(blockDim.x) * width;
    long long i = begin + threadIdx.x * width;
    if (is_aligned<width>(X + begin) && (Y == nullptr || is_aligned<width>(Y + begin))) {
        #pragma unroll 1
        for (; i + (AT_ONCE - 1) * stride + width <= end; i += AT_ONCE * stride) {
            Vector<T, width> x[AT_ONCE], y[AT_ONCE] = {};
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) {
                x[k] = load_vector<width>(X + (i + k * stride));
                if (Y != nullptr) y[k] = load_vector<width>(Y + (i + k * stride));
            }
            #pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) visit(i + k * stride, x[k], y[k]);
        }
        #pragma unroll 1
        for (; AT_ONCE > 1 && i + width <= end; i += stride)
            visit(i, load_vector<width>(X + i), Y != nullptr ? load_vector<width>(Y + i) : Vector<T, width>{});
    }
    #pragma unroll 1
    for (; i < end; i += stride)
        visit(i, load_each<width>(X, i, end), Y != nullptr ? load_each<width>(Y, i, end) : Vector<T, width>{});
}

// Σ x, in double, over what this thread takes where one block adds up all; block_sum then gives the whole.
template <typename T> __device__ __forceinline__ double thread_sum(long long n, const T* __restrict__ x) {
    double sum = 0;
    const T* none = nullptr;
    visit_part<4>(0, n, n, x, none, [&](long long, const auto& some, const auto&) {
        #pragma unroll
        for (int k = 0; k < vector_width<T>; ++k) sum += static_cast<double>(some[k]);
    });
    return sum;
}

// The same over what other blocks have just written: past the first cache, which does not hold that.
template <typename T> __device__ __forceinline__ double thread_sum_of_parts(long long n_parts, const T* partial) {
    double sum = 0;
    for (long long p = threadIdx.x; p < n_parts; p += blockDim.x) sum += static_cast<double>(__ldcg(partial + p));
    return sum;
}
