// The factor L of a loss's gradient: it lifts small gradients into the range of float16, and the optimizer divides by it.
// Source: Micikevicius et al. (2018), "Mixed precision training", section 3.2.
#pragma once

#include "common.cuh"

template <typename A> __device__ __forceinline__ A read_loss_scale(const double* loss_scale) {
    return loss_scale != nullptr ? static_cast<A>(*loss_scale) : A(1);
}
