// m ← μm + (1 − μ)g; out = m, or with Nesterov's momentum (1 − μ)g + μm: what Muon makes orthogonal, g unscaled, penalized and
// clipped. One thread per 16 bytes of parameters. Nothing happens once a step has failed, or in one that is skipped.
// Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks", in PyTorch's form.
#include "common.cuh"
#include "flat_parameters.cuh"

// instances: T in float, double
template <typename T>
__global__ void momentum_direction(long long n, long long n_segments, double momentum, bool nesterov, T max_value,
                                   const double* __restrict__ segments /* C (n_segments, 5), may be null */,
                                   const double* __restrict__ clip_scale /* any (1), may be null */,
                                   const double* __restrict__ loss_scale /* any (1), may be null */,
                                   const long long* __restrict__ skip /* any (1), may be null */,
                                   const long long* __restrict__ failed_step /* any (1) */,
                                   const T* __restrict__ gradients /* any (n) */, const T* __restrict__ values /* any (n) */,
                                   T* __restrict__ m /* any (n) */, T* __restrict__ out /* any (n) */) {
    constexpr int width = vector_width<T>;
    if (is_idle(failed_step, skip)) n = 0;
    const T mu = static_cast<T>(momentum), rest = static_cast<T>(1 - momentum);
    const Clipping<T> clipping(loss_scale, clip_scale, max_value);
    SegmentFinder<T> finder(segments, n_segments);
    for_each_vector<width>(n, is_aligned<width>(gradients, values, m, out), [&](auto place) {
        const auto g = place.load(gradients), w = place.load(values);
        auto mean = place.load(m), direction = mean;
        visit_segments(finder, place, [&](int k) {
            const T fresh = multiply_rounded(rest, clipping(g[k], w[k], finder.segment));
            mean[k] = multiply_add(mu, mean[k], fresh);
            direction[k] = nesterov ? multiply_add(mu, mean[k], fresh) : mean[k];
        });
        place.store(m, mean);
        place.store(out, direction);
    });
}
