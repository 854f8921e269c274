// All that a training step takes from the data set, in one launch: inputs as gather_rows_scaled (gather.cu) gives them,
// targets and weights as they are, and the counters of what is drawn or looked up once a step.
//     out[j] = X[row]·scale + shift, out_targets[j] = targets[row], out_weights[j] = weights[row], row = order[cursor + j];
//     counter ← counter + 1; rate ← rates[position], position ← position + 1.
//
// Without X, n_features is 0. The loop over the inputs is that of gather.cu. Targets and weights are moved as 32-bit
// words, whatever they are. The counters have one thread; nothing else here reads them. A step of a small network is
// some fifteen launches, and each of these five would be another.
#include "common.cuh"
#include "gathered.cuh"
#include "scaled.cuh"
#include "vector.cuh"

__device__ __forceinline__ void gather_words(long long n_samples, long long n_words, long long n_order, long long batch,
                                             const unsigned int* X, const long long* order, const long long* cursor,
                                             unsigned int* out) {
    for (long long i = first_index(); i < batch * n_words; i += index_stride())
        out[i] = X[gathered_index(i, n_samples, n_words, n_order, order, cursor)];
}

// instances: S in unsigned char, signed char, short, int, long long; T in float, double, __half, __nv_bfloat16
// instances: S in float, double, __half, __nv_bfloat16; T in float, double, __half, __nv_bfloat16
template <typename S, typename T>
__global__ void gather_batch(long long n_samples, long long n_features, long long n_target_words,
                             long long n_weight_words, long long n_order, long long n_rates, long long batch,
                             Accumulator<T> scale, Accumulator<T> shift,
                             const S* __restrict__ X /* C (n_samples, n_features), may be null */,
                             const unsigned int* __restrict__ targets /* C (n_samples, n_target_words) */,
                             const unsigned int* __restrict__ weights /* C (n_samples, n_weight_words), may be null */,
                             const long long* __restrict__ order /* any (n_order) */,
                             const long long* __restrict__ cursor /* any (1) */,
                             const double* __restrict__ rates /* any (n_rates), may be null */,
                             T* __restrict__ out /* C (batch, n_features), may be null */,
                             unsigned int* __restrict__ out_targets /* C (batch, n_target_words) */,
                             unsigned int* __restrict__ out_weights /* C (batch, n_weight_words), may be null */,
                             long long* __restrict__ counter /* any (1), may be null */,
                             long long* __restrict__ position /* any (1), may be null */,
                             double* __restrict__ rate /* any (1), may be null */) {
    if (first_index() == 0) {
        if (counter != nullptr) *counter += 1;
        if (rates != nullptr && n_rates > 0) {
            const long long i = *position;
            *rate = rates[i < 0 ? 0 : i < n_rates ? i : n_rates - 1];
            *position = i + 1;
        }
    }
    const bool as_it_is = scale == 1 && shift == 0;  // −0 + 0 would be +0
    constexpr int width = vector_width<S, T>;
    for_each_place<width>(batch * n_features, is_aligned<width>(X, out) && n_features % width == 0, [&](auto place) {
        const auto source = load_gathered(place, n_samples, n_features, n_order, order, cursor, X);
        Vector<T, place.size> result;
        #pragma unroll
        for (int k = 0; k < place.size; ++k)
            result[k] = as_it_is ? from_accumulator<T>(converted<Accumulator<T>>(source[k]))
                                 : scaled<T>(source[k], scale, shift);
        place.store(out, result);
    });
    gather_words(n_samples, n_target_words, n_order, batch, targets, order, cursor, out_targets);
    if (weights != nullptr)
        gather_words(n_samples, n_weight_words, n_order, batch, weights, order, cursor, out_weights);
}
