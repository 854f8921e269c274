// The threads that work on one sample together: one, eight lanes of a warp, a warp, or a whole block, the more units a
// sample has.
//
// In the (n_units, batch) F-ordered layout a sample is n_units consecutive elements, so neighbouring threads read
// neighbouring addresses. What has to look at a sample several times holds it in registers between its passes where it
// has at most 1024 units (for_each_held_sample): memory sees one read. Wider ones are read anew (for_each_sample).
#pragma once

#include "common.cuh"
#include "vector.cuh"

// The threads of a sample: `lanes` of a warp, a power of two, or a whole block where that is 0. Where the number is a
// constant, what is written here for both is compiled for the one.
struct SampleGroup {
    int lanes;

    __device__ __forceinline__ int size() const { return lanes == 0 ? blockDim.x : lanes; }

    // The number of the calling thread in its group.
    __device__ __forceinline__ int rank() const { return threadIdx.x & (lanes - 1); }

    // The group's combination of `value`, in every thread of the group, in a fixed order; all of them must call it.
    template <typename Operation, typename A> __device__ __forceinline__ A reduce(A value, A neutral) const {
        if (lanes == 0) return block_reduce<Operation>(value, neutral);
        #pragma unroll
        for (int offset = 16; offset > 0; offset /= 2)
            if (offset < lanes) value = Operation::combine(value, __shfl_xor_sync(full_warp, value, offset));
        return value;
    }
    template <typename A> __device__ __forceinline__ A sum(A value) const { return reduce<Sum>(value, A(0)); }
    template <typename A> __device__ __forceinline__ A max(A value) const { return reduce<Maximum>(value, -infinity<A>()); }
};
constexpr SampleGroup whole_block = {0};

// Calls body(j, n_units) for each sample j of the calling thread's group. A warp's threads call it together: a group
// that has no sample left takes part with n_units 0, because sums over lanes need every lane.
template <typename Body>
__device__ __forceinline__ void for_each_column(SampleGroup group, long long n, long long batch, Body body) {
    const bool is_block = group.lanes == 0;
    const int per_warp = is_block ? 1 : 32 / group.lanes, within = is_block ? 0 : threadIdx.x % 32 / group.lanes;
    const long long step = is_block ? gridDim.x : index_stride() / 32 * per_warp;
    for (long long first = is_block ? blockIdx.x : first_index() / 32 * per_warp; first < batch; first += step) {
        const long long j = first + within;
        body(j, j < batch ? n : 0);
    }
}

// Whether every sample of n units begins where vectors of WIDTH elements may, in all of these matrices.
template <int WIDTH, typename... T> __device__ __forceinline__ bool samples_are_aligned(long long n, const T*... x) {
    return n % WIDTH == 0 && is_aligned<WIDTH>(x...);
}

// ---- samples that are read anew in each pass ------------------------------------------------------------------------

template <int WIDTH> struct Sample {
    SampleGroup group;
    long long n;  // its units, a multiple of WIDTH; 0 where the group has no sample

    __device__ __forceinline__ bool leads() const { return n > 0 && group.rank() == 0; }

    // Calls body(place) so that the places of the group make up the units 0 ... n − 1. VECTORS in flight at once.
    template <int VECTORS = 2, typename Body> __device__ __forceinline__ void for_each_place(Body body) const {
        const long long n_vectors = n / WIDTH, stride = group.size();
        long long v = group.rank();
        for (; v + (VECTORS - 1) * stride < n_vectors; v += VECTORS * stride)
            body(Place<WIDTH, VECTORS>{v * WIDTH, stride * WIDTH});
        if constexpr (VECTORS > 1)
            for (; v < n_vectors; v += stride) body(Place<WIDTH, 1>{v * WIDTH, 0});
    }
};

// Calls body(j, sample) for each sample; `aligned` says whether vectors of WIDTH elements may be used.
template <int WIDTH, typename Body>
__device__ __forceinline__ void for_each_sample(SampleGroup group, long long n, long long batch, bool aligned, Body body) {
    if (aligned)
        for_each_column(group, n, batch, [&](long long j, long long n_units) { body(j, Sample<WIDTH>{group, n_units}); });
    else
        for_each_column(group, n, batch, [&](long long j, long long n_units) { body(j, Sample<1>{group, n_units}); });
}

// ---- samples that are held in registers -----------------------------------------------------------------------------

// What one lane holds of a sample: SLOTS units in vectors of WIDTH, those of neighbouring lanes next to each other.
template <int LANES, int SLOTS, int WIDTH> struct HeldSample {
    static constexpr SampleGroup group = {LANES};
    static constexpr int slots = SLOTS;
    int n;  // the sample's units, a multiple of WIDTH; 0 where the group has no sample

    __device__ __forceinline__ int unit(int k) const {
        return (k / WIDTH * LANES + group.rank()) * WIDTH + k % WIDTH;
    }
    __device__ __forceinline__ bool has(int k) const { return unit(k) < n; }
    __device__ __forceinline__ bool leads() const { return n > 0 && group.rank() == 0; }

    // This lane's units of x, and 0 beyond the sample's end.
    template <typename T> __device__ __forceinline__ Vector<Accumulator<T>, SLOTS> load(const T* x) const {
        Vector<T, WIDTH> loaded[SLOTS / WIDTH];  // all loads before the first use, so that they overlap
        #pragma unroll
        for (int v = 0; v < SLOTS / WIDTH; ++v) {
            loaded[v] = Vector<T, WIDTH>{};
            if (has(v * WIDTH)) loaded[v] = load_vector<WIDTH>(x + unit(v * WIDTH));
        }
        Vector<Accumulator<T>, SLOTS> values;
        #pragma unroll
        for (int k = 0; k < SLOTS; ++k) values[k] = to_accumulator(loaded[k / WIDTH][k % WIDTH]);
        return values;
    }
    template <typename T>
    __device__ __forceinline__ void store(T* x, const Vector<Accumulator<T>, SLOTS>& values) const {
        #pragma unroll
        for (int v = 0; v < SLOTS / WIDTH; ++v) {
            Vector<T, WIDTH> one;
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) one[k] = from_accumulator<T>(values[v * WIDTH + k]);
            if (has(v * WIDTH)) store_vector<WIDTH>(x + unit(v * WIDTH), one);
        }
    }
};

// Eight lanes hold up to 32 units, a warp up to CAPACITY.
template <int CAPACITY> constexpr int lanes_of = CAPACITY <= 32 ? 8 : 32;

// How many elements of type T a lane of such a group loads and stores at once.
template <typename T, int CAPACITY>
constexpr int held_width = vector_width<T> < CAPACITY / lanes_of<CAPACITY> ? vector_width<T>
                                                                           : CAPACITY / lanes_of<CAPACITY>;

// Calls body(j, held) for each sample of at most CAPACITY units, `held` being the thread's HeldSample. `aligned` says
// whether vectors of held_width<T, CAPACITY> elements may be used.
template <typename T, int CAPACITY, typename Body>
__device__ __forceinline__ void for_each_held_sample(long long n, long long batch, bool aligned, Body body) {
    constexpr int lanes = lanes_of<CAPACITY>, slots = CAPACITY / lanes, width = held_width<T, CAPACITY>;
    if (aligned) {
        for_each_column(SampleGroup{lanes}, n, batch, [&](long long j, long long n_units) {
            body(j, HeldSample<lanes, slots, width>{static_cast<int>(n_units)});
        });
    } else {
        for_each_column(SampleGroup{lanes}, n, batch, [&](long long j, long long n_units) {
            body(j, HeldSample<lanes, slots, 1>{static_cast<int>(n_units)});
        });
    }
}
