// Numbers of tables embedded: out = W_f·φ_f(x) + b_f of every embedded unit f, x itself behind it where it is appended; then the
// other units as they are. φ has, for the terms k = starts[f] ... starts[f + 1] − 1,
//     COSINE  cos(2π w_k x + phase_k)
//     WAVES   cos(2π w_k x), of all k; then sin(2π w_k x), of all k
//     PIECES  w_k x + phase_k, not below 0 but for the first k and not above 1 but for the last.
// Backward, with dz = dOut, 0 where a ReLU has cut, and g_k = φ′_k (W_fᵀ dz)_k:
//     dW_f = Σ_j dz φᵀ, db_f = Σ_j dz, dphase_k = Σ_j g_k, dw_k = Σ_j c x g_k, dx = Σ_k c w_k g_k, c = 2π (PIECES: 1).
// φ is computed where it is needed and never stored.
//
// Grid: forward and for dX a thread per embedded unit and sample, the 32 of a warp neighbouring samples of one unit, which read the
// same weights; then a thread per other unit and sample. For the gradients of parameters a warp per term, whose lanes take every
// 32nd sample.
//
// Sources: Gorishniy, Rubachev & Babenko (2022), "On embeddings for numerical features in tabular deep learning";
// Holzmüller, Grinsztajn & Steinwart (2024), "Better by default".
#include "circular.cuh"
#include "common.cuh"

enum NumberKind { COSINE = 0, WAVES = 1, PIECES = 2 };

constexpr int SUMS = 8;  // outputs of a unit that a thread has in registers at a time

// φ_k(x), what it moves by with its argument, and for WAVES the second value, which moves by the first.
template <int KIND, typename A> struct NumberTerm {
    A value, slope, second;
    __device__ __forceinline__ NumberTerm(long long k, long long n_terms, A w, A phase, A x) : second(0) {
        if constexpr (KIND == PIECES) {
            const A t = multiply_add(w, x, phase);
            value = k > 0 && t < A(0) ? A(0) : t;
            value = k + 1 < n_terms && value > A(1) ? A(1) : value;
            slope = value == t ? A(1) : A(0);
        } else {
            const A shift = multiply_rounded(phase, A(0.63661977236758134308));
            const Circular<A> at = circular_of_quarters(multiply_add(A(4) * w, x, shift));
            value = at.cosine;
            slope = -at.sine;
            second = at.sine;
        }
    }
};

// What belongs to one embedded unit.
template <int KIND, typename A> struct EmbeddedUnit {
    static constexpr int values = KIND == WAVES ? 2 : 1;
    static constexpr double per_turn = KIND == PIECES ? 1.0 : 6.28318530717958647693;
    long long first, n_terms;
    const A *W;
    __device__ __forceinline__ EmbeddedUnit(long long f, long long m, bool shared, const long long* starts, const A* all)
        : first(starts[f]), n_terms(starts[f + 1] - starts[f]), W(shared ? all : all + starts[f] * values * m) {}
};

// dz of output i: `d` and `out` are those of the unit's outputs.
template <typename T>
__device__ __forceinline__ Accumulator<T> gradient_behind_relu(bool relu, long long i, const T* d, const T* out) {
    return relu && !(to_accumulator(out[i]) > 0) ? Accumulator<T>(0) : to_accumulator(d[i]);
}

// φ′_k (W_fᵀ dz)_k of term k
template <int KIND, typename T>
__device__ __forceinline__ Accumulator<T> gradient_of_argument(const EmbeddedUnit<KIND, Accumulator<T>>& unit, long long k,
                                                               const NumberTerm<KIND, Accumulator<T>>& term, long long m,
                                                               bool relu, const T* d, const T* out) {
    using A = Accumulator<T>;
    A of_value = 0, of_second = 0;
    for (long long i = 0; i < m; ++i) {
        const A dz = gradient_behind_relu(relu, i, d, out);
        of_value = multiply_add(unit.W[k * m + i], dz, of_value);
        if constexpr (KIND == WAVES) of_second = multiply_add(unit.W[(unit.n_terms + k) * m + i], dz, of_second);
    }
    const A moved = multiply_rounded(of_value, term.slope);
    if constexpr (KIND == WAVES) return multiply_add(of_second, term.value, moved);
    return moved;
}

// instances: T in float, double, __half, __nv_bfloat16; KIND in enum NumberKind
// block: at most 512
template <typename T, int KIND>
__global__ void embed_numbers(long long n_in, long long n_out, long long batch, long long n_embedded, long long m,
                              long long n_terms, long long n_weights, long long n_biases, bool relu, bool appends,
                              bool shared, const long long* __restrict__ order /* any (n_in) */,
                              const long long* __restrict__ starts /* any (_) */,
                              const Accumulator<T>* __restrict__ w /* any (n_terms) */,
                              const Accumulator<T>* __restrict__ phase /* any (n_terms), may be null */,
                              const Accumulator<T>* __restrict__ W /* F (m, n_weights) */,
                              const Accumulator<T>* __restrict__ b /* F (m, n_biases) */,
                              const T* __restrict__ X /* F (n_in, batch) */, T* __restrict__ out /* F (n_out, batch) */) {
    using A = Accumulator<T>;
    const long long width = m + (appends ? 1 : 0), groups = (batch + 31) / 32, n_rest = n_in - n_embedded;
    const long long n_items = groups * n_embedded * 32;
    for (long long item = first_index(); item < n_items + n_rest * batch; item += index_stride()) {
        if (item >= n_items) {
            const long long j = (item - n_items) / n_rest, i = (item - n_items) % n_rest;
            out[j * n_out + n_embedded * width + i] = X[j * n_in + order[n_embedded + i]];
            continue;
        }
        const long long f = item / 32 % n_embedded, j = item / 32 / n_embedded * 32 + item % 32;
        if (j >= batch) continue;
        const EmbeddedUnit<KIND, A> unit(f, m, shared, starts, W);
        const A x = to_accumulator(X[j * n_in + order[f]]);
        const A* biases = shared ? b : b + f * m;
        T* y = out + j * n_out + f * width;
        for (long long start = 0; start < m; start += SUMS) {
            A sum[SUMS];
            #pragma unroll
            for (int i = 0; i < SUMS; ++i) sum[i] = start + i < m ? biases[start + i] : A(0);
            for (long long k = 0; k < unit.n_terms; ++k) {
                const A c = phase == nullptr ? A(0) : phase[unit.first + k];
                const NumberTerm<KIND, A> term(k, unit.n_terms, w[unit.first + k], c, x);
                const A* weights = unit.W + k * m + start;
                #pragma unroll
                for (int i = 0; i < SUMS; ++i)
                    if (start + i < m) sum[i] = multiply_add(weights[i], term.value, sum[i]);
                if constexpr (KIND == WAVES) {
                    weights += unit.n_terms * m;
                    #pragma unroll
                    for (int i = 0; i < SUMS; ++i)
                        if (start + i < m) sum[i] = multiply_add(weights[i], term.second, sum[i]);
                }
            }
            #pragma unroll
            for (int i = 0; i < SUMS; ++i)
                if (start + i < m) y[start + i] = from_accumulator<T>(relu && sum[i] <= 0 ? A(0) : sum[i]);
        }
        if (appends) y[m] = X[j * n_in + order[f]];
    }
}

// The gradients of w, phase, W and b. The warp of a unit's first term has its biases as well.
// instances: T in float, double, __half, __nv_bfloat16; KIND in enum NumberKind
// block: at most 512
template <typename T, int KIND>
__global__ void embed_numbers_parameters(long long n_in, long long n_out, long long batch, long long n_embedded, long long m,
                                         long long n_terms, long long n_weights, long long n_values, bool relu,
                                         bool appends, bool shared,
                                         const long long* __restrict__ order /* any (n_in) */,
                                         const long long* __restrict__ starts /* any (_) */,
                                         const Accumulator<T>* __restrict__ w /* any (n_terms) */,
                                         const Accumulator<T>* __restrict__ phase /* any (n_terms), may be null */,
                                         const Accumulator<T>* __restrict__ W /* F (m, n_weights) */,
                                         const T* __restrict__ dOut /* F (n_out, batch) */,
                                         const T* __restrict__ out /* F (n_out, batch) */,
                                         const T* __restrict__ X /* F (n_in, batch) */,
                                         Accumulator<T>* __restrict__ dw /* any (n_terms), may be null */,
                                         Accumulator<T>* __restrict__ dphase /* any (n_terms), may be null */,
                                         Accumulator<T>* __restrict__ dW /* F (m, n_values) */,
                                         Accumulator<T>* __restrict__ db /* F (m, n_embedded) */) {
    using A = Accumulator<T>;
    const long long width = m + (appends ? 1 : 0), lane = threadIdx.x % 32;
    for (long long number = first_index() / 32; number < n_terms; number += index_stride() / 32) {
        long long f = 0, behind = n_embedded;  // starts[f] ≤ number < starts[behind]
        while (behind - f > 1) {
            const long long middle = (f + behind) / 2;
            if (starts[middle] <= number) f = middle;
            else behind = middle;
        }
        const EmbeddedUnit<KIND, A> unit(f, m, shared, starts, W);
        const long long k = number - unit.first;
        const A w_k = w[number], c = phase == nullptr ? A(0) : phase[number];
        for (long long start = 0; start < m; start += SUMS) {
            A of_weights[SUMS] = {}, of_second[SUMS] = {}, of_biases[SUMS] = {}, of_phase = 0, of_factor = 0;
            for (long long j = lane; j < batch; j += 32) {
                const A x = to_accumulator(X[j * n_in + order[f]]);
                const NumberTerm<KIND, A> term(k, unit.n_terms, w_k, c, x);
                const T *d = dOut + j * n_out + f * width, *y = out + j * n_out + f * width;
                #pragma unroll
                for (int i = 0; i < SUMS; ++i)
                    if (start + i < m) {
                        const A dz = gradient_behind_relu(relu, start + i, d, y);
                        of_weights[i] = multiply_add(dz, term.value, of_weights[i]);
                        if constexpr (KIND == WAVES) of_second[i] = multiply_add(dz, term.second, of_second[i]);
                        if (k == 0) of_biases[i] += dz;
                    }
                if (KIND != PIECES && start == 0) {
                    const A g = gradient_of_argument<KIND, T>(unit, k, term, m, relu, d, y);
                    of_phase = add_rounded(of_phase, g);
                    of_factor = multiply_add(x, g, of_factor);
                }
            }
            #pragma unroll
            for (int i = 0; i < SUMS; ++i)
                if (start + i < m) {
                    A* of_unit = dW + unit.first * unit.values * m + start + i;
                    const A weights = warp_sum(of_weights[i]);
                    if (lane == 0) of_unit[k * m] = weights;
                    if constexpr (KIND == WAVES) {
                        const A second = warp_sum(of_second[i]);
                        if (lane == 0) of_unit[(unit.n_terms + k) * m] = second;
                    }
                    if (k == 0) {
                        const A biases = warp_sum(of_biases[i]);
                        if (lane == 0) db[f * m + start + i] = biases;
                    }
                }
            if (KIND != PIECES && start == 0) {
                const A sum = warp_sum(of_phase), factor_sum = warp_sum(of_factor);
                if (lane == 0 && dphase != nullptr) dphase[number] = sum;
                if (lane == 0 && dw != nullptr) dw[number] = A(unit.per_turn) * factor_sum;
            }
        }
    }
}

// dX
// instances: T in float, double, __half, __nv_bfloat16; KIND in enum NumberKind
// block: at most 512
template <typename T, int KIND>
__global__ void embed_numbers_inputs(long long n_in, long long n_out, long long batch, long long n_embedded, long long m,
                                     long long n_terms, long long n_weights, bool relu, bool appends,
                                     bool shared, const long long* __restrict__ order /* any (n_in) */,
                                     const long long* __restrict__ starts /* any (_) */,
                                     const Accumulator<T>* __restrict__ w /* any (n_terms) */,
                                     const Accumulator<T>* __restrict__ phase /* any (n_terms), may be null */,
                                     const Accumulator<T>* __restrict__ W /* F (m, n_weights) */,
                                     const T* __restrict__ dOut /* F (n_out, batch) */,
                                     const T* __restrict__ out /* F (n_out, batch) */,
                                     const T* __restrict__ X /* F (n_in, batch) */,
                                     T* __restrict__ dX /* F (n_in, batch) */) {
    using A = Accumulator<T>;
    const long long width = m + (appends ? 1 : 0), groups = (batch + 31) / 32, n_rest = n_in - n_embedded;
    const long long n_items = groups * n_embedded * 32;
    for (long long item = first_index(); item < n_items + n_rest * batch; item += index_stride()) {
        if (item >= n_items) {
            const long long j = (item - n_items) / n_rest, i = (item - n_items) % n_rest;
            dX[j * n_in + order[n_embedded + i]] = dOut[j * n_out + n_embedded * width + i];
            continue;
        }
        const long long f = item / 32 % n_embedded, j = item / 32 / n_embedded * 32 + item % 32;
        if (j >= batch) continue;
        const EmbeddedUnit<KIND, A> unit(f, m, shared, starts, W);
        const A x = to_accumulator(X[j * n_in + order[f]]);
        const T *d = dOut + j * n_out + f * width, *y = out + j * n_out + f * width;
        A sum = 0;
        for (long long k = 0; k < unit.n_terms; ++k) {
            const A c = phase == nullptr ? A(0) : phase[unit.first + k], w_k = w[unit.first + k];
            const NumberTerm<KIND, A> term(k, unit.n_terms, w_k, c, x);
            sum = multiply_add(w_k, gradient_of_argument<KIND, T>(unit, k, term, m, relu, d, y), sum);
        }
        const A direct = appends ? to_accumulator(d[m]) : A(0);
        dX[j * n_in + order[f]] = from_accumulator<T>(multiply_add(A(unit.per_turn), sum, direct));
    }
}
