// Softmax, cross-entropy and their gradient with respect to the logits, in one kernel.
//
// With m = max z, s = Σ e^(z_c − m), p = e^(z − m)/s and T_c = v_c ỹ_c (v: class weights, ỹ: smoothed targets):
//     losses_j = w_j Σ_c T_c (log s − (z_c − m)),    dZ_c = (L w_j/batch) (p_c Σ_k T_k − T_c),
// L the loss scale (1 where its pointer is null), multiplied in before dZ is rounded.
// Targets are labels or a dense matrix: exactly one of the two pointers is null. A warp or a block per sample
// (sample_group.cuh). A label outside 0 ... n_classes − 1 reads nothing out of bounds; the host refuses it beforehand.
#include "common.cuh"
#include "loss_scale.cuh"
#include "sample_group.cuh"

// The target T_c of class c.
template <typename A>
__device__ inline A weighted_target(long long c, long long n_classes, long long label, const A* target,
                                    const A* class_weight, A smoothing) {
    A y = target != nullptr ? target[c] : A(c == label);
    if (smoothing != 0) y = (1 - smoothing) * y + smoothing / A(n_classes);
    return class_weight != nullptr ? y * class_weight[c] : y;
}

// instances: T in float, double, __half, __nv_bfloat16; GROUP in enum SampleGroup
// block: at most 512
template <typename T, SampleGroup GROUP>
__global__ void softmax_cross_entropy(long long n_classes, long long batch, Accumulator<T> label_smoothing,
                                      const T* __restrict__ Z /* F (n_classes, batch) */,
                                      const long long* __restrict__ labels /* any (batch), may be null */,
                                      const Accumulator<T>* __restrict__ targets /* F (n_classes, batch), may be null */,
                                      const Accumulator<T>* __restrict__ class_weight /* any (n_classes), may be null */,
                                      const Accumulator<T>* __restrict__ sample_weight /* any (batch), may be null */,
                                      const double* __restrict__ loss_scale /* any (1), may be null */,
                                      Accumulator<T>* __restrict__ losses /* any (batch) */,
                                      T* __restrict__ dZ /* F (n_classes, batch) */) {
    using A = Accumulator<T>;
    for (long long j = first_sample<GROUP>(); j < batch; j += sample_stride<GROUP>()) {
        const T* z = Z + j * n_classes;
        const A* target = targets != nullptr ? targets + j * n_classes : nullptr;
        long long label = labels != nullptr ? labels[j] : -1;

        A largest = -infinity<A>();
        for (long long c = first_unit<GROUP>(); c < n_classes; c += unit_stride<GROUP>()) {
            largest = to_accumulator(z[c]) > largest ? to_accumulator(z[c]) : largest;
        }
        largest = group_max<GROUP>(largest);
        A sum = 0;
        for (long long c = first_unit<GROUP>(); c < n_classes; c += unit_stride<GROUP>()) {
            sum += exp(to_accumulator(z[c]) - largest);
        }
        sum = group_sum<GROUP>(sum);
        A log_sum = log(sum);

        A loss = 0, total = 0;
        for (long long c = first_unit<GROUP>(); c < n_classes; c += unit_stride<GROUP>()) {
            A t = weighted_target(c, n_classes, label, target, class_weight, label_smoothing);
            if (t != 0) loss += t * (log_sum - (to_accumulator(z[c]) - largest));  // 0·∞ is no loss
            total += t;
        }
        loss = group_sum<GROUP>(loss);
        total = group_sum<GROUP>(total);

        A weight = sample_weight != nullptr ? sample_weight[j] : A(1);
        A scale = weight / static_cast<A>(batch) * read_loss_scale<A>(loss_scale);
        for (long long c = first_unit<GROUP>(); c < n_classes; c += unit_stride<GROUP>()) {
            A t = weighted_target(c, n_classes, label, target, class_weight, label_smoothing);
            A p = exp(to_accumulator(z[c]) - largest) / sum;
            dZ[j * n_classes + c] = from_accumulator<T>((p * total - t) * scale);
        }
        if (first_unit<GROUP>() == 0) losses[j] = loss * weight;
    }
}
