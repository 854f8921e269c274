// Softmax, cross-entropy and their gradient with respect to the logits, in one kernel.
//
// With m = max z, s = Σ e^(z_c − m), p = e^(z − m)/s and T_c = v_c ỹ_c (v: class weights, ỹ: smoothed targets):
//     losses_j = w_j (log s Σ_c T_c + Σ_c T_c (m − z_c)),    dZ_c = (L w_j/batch) (p_c Σ_k T_k − T_c),
// L the loss scale (1 where its pointer is null), multiplied in before dZ is rounded. No term of the loss is negative,
// so nothing cancels.
//
// With `relative`, of dense targets: losses_j = w_j (log s Σ_c T_c + Σ_c T_c (m − z_c + log T_c)), 0 log 0 = 0, and the same dZ.
// With γ, of labels without smoothing, for which L = log s + m − z_y, p = e^−L, q = 1 − p: losses_j = w_j v_y q^γ L, and dZ is multiplied
// by q^γ + γ p q^(γ−1) L. Source: Lin et al. (2017), "Focal loss for dense object detection".
//
// Targets are labels or a dense matrix: exactly one of the two pointers is null. Samples of at most CAPACITY classes are
// held in registers from the one read of Z to the one write of dZ; with CAPACITY 0 a block reads a wider one twice: the
// maximum and the sum are found together (online_softmax.cuh). A label outside 0 ... n_classes − 1 reads nothing out of bounds; the host refuses it beforehand.
#include "common.cuh"
#include "loss_scale.cuh"
#include "online_softmax.cuh"
#include "sample_group.cuh"

// The targets T_c of one sample.
template <typename A> struct WeightedTarget {
    long long label;        // −1 where `dense` holds the targets
    const A* class_weight;  // null: 1
    A keep, spread;         // 1 − s and s/n_classes, s the label smoothing

    __device__ __forceinline__ A at(long long c, A dense) const {
        const A y = multiply_add(keep, label < 0 ? dense : A(c == label), spread);
        return class_weight != nullptr ? multiply_rounded(y, class_weight[c]) : y;
    }
};

// What focal loss multiplies a label's loss by, and its gradient: q^γ and q^γ (1 + γ p L/q), both 0 where q is 0. p L is 0 at an
// infinite L.
template <typename A> struct Focus {
    A power, slope;

    __device__ __forceinline__ Focus(A loss, A gamma) {
        const A p = exp(-loss), q = -expm1(-loss);
        power = exp(gamma * log(q));
        slope = multiply_add(p > 0 && q > 0 ? gamma * (loss * (p / q)) : A(0), power, power);
    }
};

// v of a label, 1 where there is none.
template <typename A>
__device__ __forceinline__ A weight_of_label(const A* class_weight, long long label, long long n_classes) {
    return class_weight != nullptr && label >= 0 && label < n_classes ? class_weight[label] : A(1);
}

// instances: T in float, double, __half, __nv_bfloat16; CAPACITY in 0, 32, 128, 512, 1024
// block: at most 256
template <typename T, int CAPACITY>
__global__ void softmax_cross_entropy(long long n_classes, long long batch, Accumulator<T> label_smoothing,
                                      bool relative, Accumulator<T> gamma,
                                      const T* __restrict__ Z /* F (n_classes, batch) */,
                                      const long long* __restrict__ labels /* any (batch), may be null */,
                                      const Accumulator<T>* __restrict__ targets /* F (n_classes, batch), may be null */,
                                      const Accumulator<T>* __restrict__ class_weight /* any (n_classes), may be null */,
                                      const Accumulator<T>* __restrict__ sample_weight /* any (batch), may be null */,
                                      const double* __restrict__ loss_scale /* any (1), may be null */,
                                      Accumulator<T>* __restrict__ losses /* any (batch) */,
                                      T* __restrict__ dZ /* F (n_classes, batch) */) {
    using A = Accumulator<T>;
    const A per_sample = read_loss_scale<A>(loss_scale) / static_cast<A>(batch);
    const A* of_class = gamma != 0 ? nullptr : class_weight;  // with γ, the label's weight is one of its sample
    const A keep = 1 - label_smoothing, spread = label_smoothing / static_cast<A>(n_classes);

    if constexpr (CAPACITY > 0) {
        const bool aligned = samples_are_aligned<held_width<T, CAPACITY>>(n_classes, Z, targets, dZ);
        for_each_held_sample<T, CAPACITY>(n_classes, batch, aligned, [&](long long j, auto held) {
            constexpr int slots = held.slots;
            const bool is_sample = held.n > 0;
            const WeightedTarget<A> target{labels != nullptr && is_sample ? labels[j] : -1, of_class, keep, spread};
            auto e = held.load(Z + j * n_classes);
            Vector<A, slots> t{};
            if (targets != nullptr) t = held.load(targets + j * n_classes);

            A largest = -infinity<A>();
            #pragma unroll
            for (int k = 0; k < slots; ++k)
                if (held.has(k)) largest = Maximum::combine(e[k], largest);
            largest = held.group.max(largest);

            A sum = 0, total = 0, distance = 0;
            #pragma unroll
            for (int k = 0; k < slots; ++k)
                if (held.has(k)) {
                    t[k] = target.at(held.unit(k), t[k]);
                    const A below = largest - e[k];
                    e[k] = exp(-below);
                    sum = add_rounded(sum, e[k]);
                    total += t[k];
                    if (t[k] != 0)  // 0·∞ is no loss
                        distance = multiply_add(t[k], relative ? below + log(t[k]) : below, distance);
                }
            sum = held.group.sum(sum);
            total = held.group.sum(total);
            distance = held.group.sum(distance);

            A weight = sample_weight != nullptr && is_sample ? sample_weight[j] : A(1);
            const A factor = total / sum;
            A scale = weight * per_sample;
            if (gamma != 0) {
                const A of_label = weight_of_label(class_weight, target.label, n_classes);
                const Focus<A> focus(multiply_add(log(sum), total, distance), gamma);
                scale *= focus.slope * of_label;
                weight *= focus.power * of_label;
            }
            #pragma unroll
            for (int k = 0; k < slots; ++k) e[k] = multiply_add(e[k], factor, -t[k]) * scale;
            held.store(dZ + j * n_classes, e);
            if (held.leads()) losses[j] = multiply_add(log(sum), total, distance) * weight;
        });
    } else {
        constexpr int width = vector_width<T, A>;
        const bool aligned = samples_are_aligned<width>(n_classes, Z, targets, dZ);
        for_each_sample<width>(whole_block, n_classes, batch, aligned, [&](long long j, auto sample) {
            const T* z = Z + j * n_classes;
            const A* dense = targets != nullptr ? targets + j * n_classes : nullptr;
            const WeightedTarget<A> target{labels != nullptr ? labels[j] : -1, of_class, keep, spread};

            OnlineSoftmax<A> softmax;
            A total = 0;
            sample.for_each_place([&](auto place) {
                softmax.add(place.load(z));
                Vector<A, place.size> t{};
                if (dense != nullptr) t = place.load(dense);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) total += target.at(place.index(k), t[k]);
            });
            softmax.combine_over_block();
            total = block_sum(total);

            A weight = sample_weight != nullptr ? sample_weight[j] : A(1);
            const A factor = total / softmax.sum;
            A scale = weight * per_sample, distance = 0;
            if (gamma != 0) {
                const bool is_class = target.label >= 0 && target.label < n_classes;
                const A below = is_class ? softmax.largest - to_accumulator(z[target.label]) : A(0);
                const A of_label = weight_of_label(class_weight, target.label, n_classes);
                const Focus<A> focus(multiply_add(log(softmax.sum), total, below), gamma);
                scale *= focus.slope * of_label;
                weight *= focus.power * of_label;
            }
            sample.for_each_place([&](auto place) {
                auto d = place.load(z);
                Vector<A, place.size> t{};
                if (dense != nullptr) t = place.load(dense);
                #pragma unroll
                for (int k = 0; k < place.size; ++k) {
                    t[k] = target.at(place.index(k), t[k]);
                    const A below = softmax.largest - to_accumulator(d[k]);
                    if (t[k] != 0) distance = multiply_add(t[k], relative ? below + log(t[k]) : below, distance);
                    d[k] = from_accumulator<T>(multiply_add(exp(-below), factor, -t[k]) * scale);
                }
                place.store(dZ + j * n_classes, d);
            });
            distance = block_sum(distance);
            if (sample.leads()) losses[j] = multiply_add(log(softmax.sum), total, distance) * weight;
        });
    }
}
