// Inverted dropout and alpha dropout, with a mask that NumPy can reproduce bit for bit.
//
//   forward:   out[i] = A[i] · mask[i] · scale,   mask[i] = (draw[i] >= 65536 p),   scale = 1 / (1 − p)
//   backward:  dA[i] = dOut[i] · mask[i] · scale
//
// Alpha dropout (ALPHA) gives a dropped unit the value α′ = −λα, which SELU tends to for small z, and then all units the same line, by
// which a mean of 0 and a variance of 1 stay: with q = 1 − p,
//
//   out[i] = scale · A[i] + kept, or `dropped`;    scale = (q(1 + p α′²))^(−½), kept = −scale · p α′, dropped = scale · α′ + kept
//
// draw[i] is 16 bits of word i/4 of np.random.Philox(key=[key0, key1], counter=[0, step, 0, 0]).random_raw(): bits
// 16k to 16k + 15 with k = i mod 4. i is the position in memory, so a mask depends on the array's size and on nothing
// else. A block of Philox gives 16 draws. Where the array is a part of a larger one that begins with draw
// 16·first_block + n_skipped, the draws are those that its elements have there. 65536 p is a whole number, and p a number
// or the table's for this step.
//
// Of several members of an ensemble, each has its p: those of the members' kernels, of whose n_units units in a sample
// n_units/n_members neighbours belong to a member.
//
// Grid: forward one thread per 16 elements, backward one per one or two vectors (vector.cuh). Forward, a thread draws for
// 16 neighbouring elements, but in each access the warp's threads move neighbouring vectors: they pass each other the
// draws' outcomes, 16 bits each. The loads are in flight while the draws are computed.
//
// Sources: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014),
// section 4, in its inverted form (scaling while training); Klambauer et al. (2017), "Self-normalizing neural networks",
// "New dropout technique".
#include "common.cuh"
#include "unit_index.cuh"
#include "vector.cuh"

constexpr int DRAWS = 16;  // of one block of Philox

// What is made of a unit. A product and not a selection: a dropped NaN or infinity stays a NaN, so that divergence shows.
template <typename T> struct Inverted {
    Accumulator<T> scale;

    __device__ __forceinline__ explicit Inverted(double p) : scale(static_cast<Accumulator<T>>(1 / (1 - p))) {}
    __device__ __forceinline__ T operator()(T a, bool kept) const {
        return from_accumulator<T>(to_accumulator(a) * (kept ? scale : Accumulator<T>(0)));
    }
    __device__ __forceinline__ T gradient(T d, bool kept) const { return (*this)(d, kept); }
};

template <typename T> struct Alpha {
    Accumulator<T> scale, kept_shift, dropped;

    __device__ __forceinline__ explicit Alpha(double p) {
        const double value = -1.7580993408473766;  // −λα
        const double factor = 1 / sqrt((1 - p) * multiply_add(p, value * value, 1.0));
        const double shift = multiply_rounded(multiply_rounded(-factor, p), value);
        scale = static_cast<Accumulator<T>>(factor);
        kept_shift = static_cast<Accumulator<T>>(shift);
        dropped = static_cast<Accumulator<T>>(multiply_add(factor, value, shift));
    }
    __device__ __forceinline__ T operator()(T a, bool kept) const {
        const Accumulator<T> x = to_accumulator(a);
        return from_accumulator<T>(multiply_add(x, kept ? scale : Accumulator<T>(0), kept ? kept_shift : dropped));
    }
    __device__ __forceinline__ T gradient(T d, bool kept) const {
        return from_accumulator<T>(to_accumulator(d) * (kept ? scale : Accumulator<T>(0)));
    }
};

template <typename T, bool ALPHA> struct Chosen {
    using Rule = Inverted<T>;
};
template <typename T> struct Chosen<T, true> {
    using Rule = Alpha<T>;
};

// The 512 elements that begin at `begin`, by the warp that draws for them, in vectors. `draw` gives the outcomes of this
// thread's 16 draws, lowest bit first; all lanes must call.
template <typename T, typename Rule, typename Draw>
__device__ __forceinline__ void drop_vectors(long long begin, Rule rule, const T* A, T* out, unsigned char* mask,
                                             Draw draw) {
    constexpr int width = vector_width<T>, accesses = DRAWS / width;
    const int first = threadIdx.x % 32 * width;
    Vector<T, width> a[accesses];
    #pragma unroll
    for (int s = 0; s < accesses; ++s) a[s] = load_vector<width>(A + begin + first + s * 32 * width);
    const unsigned outcomes = draw();
    #pragma unroll
    for (int s = 0; s < accesses; ++s) {
        const int i = first + s * 32 * width;
        const unsigned bits = __shfl_sync(full_warp, outcomes, i / DRAWS) >> (i % DRAWS);
        Vector<unsigned char, width> kept;
        #pragma unroll
        for (int k = 0; k < width; ++k) {
            kept[k] = bits >> k & 1;
            a[s][k] = rule(a[s][k], kept[k]);
        }
        store_vector(out + begin + i, a[s]);
        store_vector(mask + begin + i, kept);
    }
}

// The same, one element at a time and only those from 0 to n − 1; `rule_of` gives an element's rule.
template <typename T, typename RuleOf, typename Draw>
__device__ __forceinline__ void drop_elements(long long begin, long long n, RuleOf rule_of, const T* A, T* out,
                                              unsigned char* mask, Draw draw) {
    const unsigned outcomes = draw();
    #pragma unroll 1
    for (int i = threadIdx.x % 32; i < 32 * DRAWS; i += 32) {
        const bool kept = __shfl_sync(full_warp, outcomes, i / DRAWS) >> (i % DRAWS) & 1;
        if (begin + i >= 0 && begin + i < n) {
            mask[begin + i] = kept;
            out[begin + i] = rule_of(begin + i)(A[begin + i], kept);
        }
    }
}

// instances: T in float, double, __half, __nv_bfloat16; ALPHA in false, true
// block: at most 512
template <typename T, bool ALPHA>
__global__ void dropout_forward(long long n, long long first_block, int n_skipped, unsigned long long key0,
                                unsigned long long key1, long long n_table, double p,
                                const double* __restrict__ table /* any (n_table), may be null */,
                                const long long* __restrict__ position /* any (1), may be null */,
                                const long long* __restrict__ step /* any (1) */,
                                const T* A /* any (n) */, T* out /* any (n) */,
                                unsigned char* __restrict__ mask /* any (n) */) {
    constexpr int width = vector_width<T>;
    const bool aligned = is_aligned<width>(A, out, mask);
    const unsigned long long stream = static_cast<unsigned long long>(*step);
    const double rate = scheduled_value(p, n_table, table, position);
    const unsigned threshold = static_cast<unsigned>(rate * 65536);
    const typename Chosen<T, ALPHA>::Rule rule(rate);
    const int lane = threadIdx.x % 32;
    // The warp's first block of Philox: the same for all its lanes, so that none leaves the loop before the others.
    for (long long first = first_index() - lane; first * DRAWS < n_skipped + n; first += index_stride()) {
        const long long begin = first * DRAWS - n_skipped;
        const auto draw = [&] {
            const auto block = static_cast<unsigned long long>(first_block + first + lane);
            const Philox4x64 words = numpy_philox(key0, key1, stream, block);
            unsigned outcomes = 0;
            #pragma unroll
            for (int j = 0; j < DRAWS; ++j)
                outcomes |= static_cast<unsigned>((words.word[j / 4] >> (16 * (j % 4)) & 0xFFFFu) >= threshold) << j;
            return outcomes;
        };
        if (aligned && begin >= 0 && begin % width == 0 && begin + 32 * DRAWS <= n)
            drop_vectors(begin, rule, A, out, mask, draw);
        else
            drop_elements(begin, n, [rule](long long) { return rule; }, A, out, mask, draw);
    }
}

// instances: T in float, double, __half, __nv_bfloat16; ALPHA in false, true
template <typename T, bool ALPHA>
__global__ void dropout_backward(long long n, long long n_table, double p,
                                 const double* __restrict__ table /* any (n_table), may be null */,
                                 const long long* __restrict__ position /* any (1), may be null */,
                                 const T* dOut /* any (n) */,
                                 const unsigned char* __restrict__ mask /* any (n) */, T* dA /* any (n) */) {
    constexpr int width = vector_width<T>;
    const typename Chosen<T, ALPHA>::Rule rule(scheduled_value(p, n_table, table, position));
    for_each_place<width>(n, is_aligned<width>(dOut, mask, dA), [&](auto place) {
        auto gradient = place.load(dOut);
        const auto kept = place.load(mask);
        #pragma unroll
        for (int k = 0; k < place.size; ++k)
            gradient[k] = rule.gradient(gradient[k], kept[k]);
        place.store(dA, gradient);
    });
}

// The rate of the member whose unit element i is.
__device__ __forceinline__ double rate_of_member(long long i, long long n_units, long long n_members, const double* rates) {
    return rates[quotient_of(remainder_of(i, n_units), n_units / n_members)];
}

template <typename T>
__device__ __forceinline__ Inverted<T> rule_of_member(long long i, long long n_units, long long n_members,
                                                      const double* rates) {
    return Inverted<T>(rate_of_member(i, n_units, n_members, rates));
}

// instances: T in float, double, __half, __nv_bfloat16
// block: at most 512
template <typename T>
__global__ void dropout_members_forward(long long n, long long n_units, long long n_members, long long first_block,
                                        int n_skipped, unsigned long long key0, unsigned long long key1,
                                        const double* __restrict__ rates /* any (n_members) */,
                                        const long long* __restrict__ step /* any (1) */, const T* A /* any (n) */,
                                        T* out /* any (n) */, unsigned char* __restrict__ mask /* any (n) */) {
    const unsigned long long stream = static_cast<unsigned long long>(*step);
    const int lane = threadIdx.x % 32;
    const auto rule = [&](long long i) { return rule_of_member<T>(i, n_units, n_members, rates); };
    for (long long first = first_index() - lane; first * DRAWS < n_skipped + n; first += index_stride()) {
        const long long begin = first * DRAWS - n_skipped;
        drop_elements(begin, n, rule, A, out, mask, [&] {
            const auto block = static_cast<unsigned long long>(first_block + first + lane);
            const Philox4x64 words = numpy_philox(key0, key1, stream, block);
            unsigned outcomes = 0;
            #pragma unroll
            for (int j = 0; j < DRAWS; ++j) {
                const long long i = begin + lane * DRAWS + j;
                if (i < 0 || i >= n) continue;
                const auto threshold = static_cast<unsigned>(rate_of_member(i, n_units, n_members, rates) * 65536);
                outcomes |= static_cast<unsigned>((words.word[j / 4] >> (16 * (j % 4)) & 0xFFFFu) >= threshold) << j;
            }
            return outcomes;
        });
    }
}

// instances: T in float, double, __half, __nv_bfloat16
template <typename T>
__global__ void dropout_members_backward(long long n, long long n_units, long long n_members,
                                         const double* __restrict__ rates /* any (n_members) */,
                                         const T* dOut /* any (n) */, const unsigned char* __restrict__ mask /* any (n) */,
                                         T* dA /* any (n) */) {
    for (long long i = first_index(); i < n; i += index_stride())
        dA[i] = rule_of_member<T>(i, n_units, n_members, rates)(dOut[i], mask[i]);
}
