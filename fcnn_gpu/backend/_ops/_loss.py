"""Losses of a batch, fused with their gradient with respect to the logits.

All share one contract. `losses` (batch,) receives w_j ℓ_j, the weighted loss of each sample; dZ receives the gradient
of L = (1/batch) Σ_j w_j ℓ_j, so the 1/batch is the loss's own. The caller sums `losses`, on the device. With a
`loss_scale`, a float64 array (1,) of the device, dZ is multiplied by its value before it is rounded; `losses` are not.
It keeps small gradients from vanishing in float16 (Micikevicius et al. 2018, "Mixed precision training", section 3.2).

Z and dZ have the dtype of the activations; losses, weights and target matrices have that of sums, which is
float32 where activations are float16 or bfloat16 (which the reference does not know).
"""

from __future__ import annotations

import math

from ..._types import Array, DType
from . import _numpy as np
from ._array import FEW_CLASSES, ArrayOps, constant_tile

ELEMENTWISE_LOSSES = (
    "mse",
    "mae",
    "huber",
    "binary_cross_entropy",
    "quantile",
    "poisson",
    "log_cosh",
    "hinge",
    "squared_hinge",
)
"""The kinds of `elementwise_loss`; the order is that of the enumeration in kernels/elementwise_loss.cu."""

_CERTAINLY_WRONG = 1000.0
"""A loss whose probability e^−L is 0 in every dtype: there p·L is 0, at an infinite L as well."""


class LossOps(ArrayOps):
    def softmax_cross_entropy(
        self,
        Z: Array,
        targets: Array,
        class_weight: Array | None,
        sample_weight: Array | None,
        label_smoothing: float,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
        relative: bool = False,
        gamma: float = 0.0,
    ) -> None:
        """ℓ_j = −Σ_c v_c ỹ_cj log p_cj with p = softmax(z); dZ_cj = (w_j/batch)(p_cj Σ_k v_k ỹ_kj − v_c ỹ_cj).

        Z and dZ (n_classes, batch) F-ordered. `targets` is int64 labels (batch,) or a float matrix (n_classes, batch)
        F-ordered whose columns sum to 1; ỹ = (1 − s)·y + s/n_classes with s = `label_smoothing`. `class_weight` v
        (n_classes,) and `sample_weight` w (batch,) are 1 where None. dZ is not Z. `loss_scale`: see the module.

        `relative`, for a matrix: ℓ_j = Σ_c T_cj (log T_cj − log p_cj), T_cj = v_c ỹ_cj, 0 log 0 = 0; dZ is the same.
        `gamma` γ, for labels without smoothing: with L = −log p_y and q = 1 − p_y, ℓ_j = v_y q^γ L, and dZ is that of
        cross-entropy times q^γ + γ p_y q^(γ−1) L, which is 0 where q and so L is 0. Not both.
        """
        batch = Z.shape[1]
        shifted = self._class_scratch("logits", Z)
        E = self._class_scratch("exponentials", Z)
        top = self.scratch("row", batch, Z.dtype).reshape(1, -1)
        log_sum = self.scratch("row2", batch, Z.dtype).reshape(1, -1)
        np.copyto(shifted, Z)
        np.maximum_reduce(shifted, axis=0, keepdims=True, out=top)
        np.subtract(shifted, top, out=shifted)
        np.exp(shifted, out=E)
        total = top
        np.dot(self.ones(Z.shape[0], Z.dtype), E, out=total)
        np.log(total, out=log_sum)
        np.multiply(total, batch, out=total)
        np.divide(E, total, out=E)  # p/batch

        if targets.ndim == 1 and label_smoothing == 0.0:
            self._from_labels(shifted, log_sum[0], targets, class_weight, losses, E, gamma)
        else:
            T = self._target_matrix(targets, class_weight, label_smoothing, Z)
            self._from_target_matrix(shifted, log_sum, T, losses, E, relative)

        if sample_weight is not None:
            np.multiply(losses, sample_weight, out=losses)
            np.multiply(E, sample_weight, out=E)
        if loss_scale is not None:
            np.multiply(E, self._read_loss_scale(loss_scale, E.dtype), out=E)
        np.copyto(dZ, E)

    def _read_loss_scale(self, loss_scale: Array, dtype: DType) -> Array:
        """The loss scale as an array without dimensions, of the gradients' dtype."""
        scale = self.scratch("loss scale", 1, dtype).reshape(())
        np.copyto(scale, loss_scale.reshape(()), casting="same_kind")
        return scale

    def _label_positions(self, labels: Array, Z: Array) -> Array:
        """Where each sample's label lies in the memory of a `_class_scratch`."""
        n_classes, batch = Z.shape
        index = self.scratch("index", batch, np.intp)
        if n_classes <= FEW_CLASSES:
            np.multiply(labels, batch, out=index)
            np.add(index, self._range(batch, 1), out=index)
        else:
            np.add(labels, self._range(batch, n_classes), out=index)
        return index

    def _from_labels(
        self,
        shifted: Array,
        log_sum: Array,
        labels: Array,
        class_weight: Array | None,
        losses: Array,
        P: Array,
        gamma: float,
    ) -> None:
        """ℓ = v_y (log Σ e^z − z_y), gradient v_y (p − e_y)/batch; P holds p/batch and becomes the gradient."""
        batch = P.shape[1]
        index = self._label_positions(labels, P)
        at_label = self.scratch("at label", batch, P.dtype)
        np.take(_in_memory_order(shifted), index, out=at_label, mode="clip")
        np.subtract(log_sum, at_label, out=losses)
        flat = _in_memory_order(P)
        np.take(flat, index, out=at_label, mode="clip")
        np.subtract(at_label, 1.0 / batch, out=at_label)
        np.put(flat, index, at_label)
        if gamma:
            self._focus(losses, gamma, P)
        if class_weight is not None:
            np.take(class_weight, labels, out=at_label, mode="clip")
            np.multiply(losses, at_label, out=losses)
            np.multiply(P, at_label, out=P)

    def _focus(self, losses: Array, gamma: float, P: Array) -> None:
        """Multiply L = −log p_y by q^γ, and its gradient P by q^γ (1 + γ p_y L/q), q = 1 − p_y."""
        p, q, power, is_there = (
            self.scratch(f"focus {tag}", losses.size, P.dtype) for tag in ("p", "q", "power", "q > 0")
        )
        np.negative(losses, out=p)
        np.expm1(p, out=q)
        np.negative(q, out=q)
        np.exp(p, out=p)
        np.sign(q, out=is_there)
        np.subtract(is_there, 1, out=power)
        np.subtract(q, power, out=q)  # 1 in the place of 0
        np.log(q, out=power)
        np.multiply(power, gamma, out=power)
        np.exp(power, out=power)
        np.multiply(power, is_there, out=power)
        slope = is_there
        np.minimum(losses, _CERTAINLY_WRONG, out=slope)
        np.multiply(slope, p, out=slope)
        np.divide(slope, q, out=slope)
        np.multiply(slope, gamma, out=slope)
        np.add(slope, 1, out=slope)
        np.multiply(slope, power, out=slope)
        np.multiply(losses, power, out=losses)
        np.multiply(P, slope, out=P)

    def _target_matrix(self, targets: Array, class_weight: Array | None, label_smoothing: float, Z: Array) -> Array:
        """T_cj = v_c ỹ_cj as an (n_classes, batch) matrix in scratch."""
        T = self._class_scratch("targets", Z)
        if targets.ndim == 1:
            np.copyto(T, 0)
            np.put(_in_memory_order(T), self._label_positions(targets, T), 1)
        else:
            np.copyto(T, targets)
        if label_smoothing:
            np.multiply(T, 1.0 - label_smoothing, out=T)
            np.add(T, label_smoothing / Z.shape[0], out=T)
        if class_weight is not None:
            np.multiply(T, class_weight.reshape(-1, 1), out=T)
        return T

    def _from_target_matrix(
        self, shifted: Array, log_sum: Array, T: Array, losses: Array, P: Array, relative: bool
    ) -> None:
        """ℓ = Σ_c T_c (log Σ e^z − z_c), gradient (p Σ_c T_c − T)/batch; P holds p/batch and becomes the gradient.

        With `relative`, ℓ is Σ_c T_c log T_c more, in each term, so that terms of T near p are small.
        """
        batch = P.shape[1]
        total = self.scratch("at label", batch, T.dtype)
        np.add_reduce(T, axis=0, out=total)
        np.multiply(P, total, out=P)
        np.subtract(log_sum, shifted, out=shifted)
        if relative:
            log_T = self._class_scratch("log targets", P)
            np.sign(T, out=log_T)
            np.subtract(1, log_T, out=log_T)
            np.add(log_T, T, out=log_T)  # 1 in the place of 0
            np.log(log_T, out=log_T)
            np.add(shifted, log_T, out=shifted)
        np.multiply(shifted, T, out=shifted)
        np.add_reduce(shifted, axis=0, out=losses)
        np.multiply(T, 1.0 / batch, out=T)
        np.subtract(P, T, out=P)

    def elementwise_loss(
        self,
        Z: Array,
        Y: Array,
        kind: str,
        delta: float,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
        output_weight: Array | None = None,
        of_output: Array | None = None,
    ) -> None:
        """ℓ_j = (1/n) Σ_i u_i ρ(z_ij, y_ij); dZ_ij = u_i w_j/(n·batch) · ∂ρ/∂z, with e = z − y and

        mse: ρ = e²; mae: ρ = |e|; huber: ρ = ½e² for |e| ≤ δ, else δ(|e| − ½δ); log_cosh: ρ = log cosh e;
        binary_cross_entropy: ρ = −v_i ỹ log σ(z) − (1 − ỹ) log(1 − σ(z)), ỹ = (1 − δ)y + ½δ;
        quantile: ρ = (1 − v_i)e for e > 0, else −v_i e; poisson: ρ = e^z − y·z;
        hinge: ρ = max(0, m), m = 1 − (2y − 1)z; squared_hinge: ρ = max(0, m)².

        Z, Y, dZ (n, batch) F-ordered; dZ is not Z. u `output_weight` (n,), `sample_weight` (batch,) and v `of_output`
        (n,) are 1 where None (of a quantile it is given). `loss_scale`: see the module.
        """
        Zt, Yt, dZt = Z.T, Y.T, dZ.T
        batch, n = Zt.shape
        np.copyto(losses, 0)
        for rows, columns in self._tiles(Zt.shape):
            z, y, d = Zt[rows, columns], Yt[rows, columns], dZt[rows, columns]
            rho, work = self._tile_scratch("t", z), [self._tile_scratch(tag, z) for tag in ("u", "v", "w")]
            v = None if of_output is None else of_output[columns]
            _ELEMENTWISE_RULES[kind](z, y, rho, d, work, delta, v)
            if output_weight is not None:
                np.multiply(rho, output_weight[columns], out=rho)
                np.multiply(d, output_weight[columns], out=d)
            partial = self.scratch("row", rho.shape[0], Z.dtype)
            np.matmul(rho, self.ones(rho.shape[1], Z.dtype)[0], out=partial)
            np.add(losses[rows], partial, out=losses[rows])
        np.multiply(losses, 1.0 / n, out=losses)
        np.multiply(dZt, 1.0 / (n * batch), out=dZt)
        if sample_weight is not None:
            np.multiply(losses, sample_weight, out=losses)
            np.multiply(dZt, sample_weight.reshape(-1, 1), out=dZt)
        if loss_scale is not None:
            np.multiply(dZt, self._read_loss_scale(loss_scale, dZt.dtype), out=dZt)

    def accumulate_sum(self, x: Array, total: Array) -> None:
        """total[0] += Σ x: x flat, total a float64 array of one element."""
        part = self.scratch("sum", 1, x.dtype)
        np.add_reduce(x, keepdims=True, out=part)
        np.add(total, part, out=total)

    def _range(self, size: int, step: int) -> Array:
        """0, step, 2·step, ... as indices, cached per thread."""
        known: dict[int, Array] = self._per_thread.__dict__.setdefault("ranges", {})
        if step not in known or known[step].size < size:
            known[step] = self.xp.arange(0, size * step, step, dtype=np.intp)
        return known[step][:size]


def _in_memory_order(matrix: Array) -> Array:
    """A contiguous matrix, C- or F-ordered, as the flat view of its memory."""
    return (matrix if matrix.flags.c_contiguous else matrix.T).reshape(-1)


_Work = list[Array]
"""Tiles to compute in, of the size of z."""


def _mse(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    np.subtract(z, y, out=d)
    np.multiply(d, d, out=rho)
    np.multiply(d, 2, out=d)


def _mae(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    np.subtract(z, y, out=d)
    np.abs(d, out=rho)
    np.sign(d, out=d)


def _huber(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    # with a = min(|e|, δ): ρ = a(|e| − ½a), ρ′ = clip(e, −δ, δ)
    t = work[0]
    np.subtract(z, y, out=d)
    np.abs(d, out=rho)
    np.minimum(rho, constant_tile(delta, rho.shape, rho.dtype), out=t)
    np.multiply(t, -0.5, out=d)
    np.add(rho, d, out=rho)
    np.multiply(rho, t, out=rho)
    np.subtract(z, y, out=d)
    np.maximum(d, constant_tile(-delta, d.shape, d.dtype), out=d)
    np.minimum(d, constant_tile(delta, d.shape, d.dtype), out=d)


def _binary_cross_entropy(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    # with e = e^−|z|: σ(z) = max(e, sign z)/(1 + e), as in the sigmoid
    t = work[0]
    np.abs(z, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.log1p(t, out=rho)
    np.sign(z, out=d)
    np.maximum(d, t, out=d)
    np.add(t, 1, out=t)
    np.divide(d, t, out=d)
    if delta or v is not None:
        _smooth_or_weigh(z, y, rho, d, work, delta, v)
        return
    np.subtract(d, y, out=d)
    np.maximum(z, constant_tile(0.0, z.shape, z.dtype), out=t)
    np.add(rho, t, out=rho)
    np.multiply(z, y, out=t)
    np.subtract(rho, t, out=rho)


def _smooth_or_weigh(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    # With L = log(1 + e^−|z|), which is in ρ, and σ in d: ρ = vỹ(max(−z, 0) + L) + (1 − ỹ)(max(z, 0) + L), no term of
    # which is negative, and ρ′ = σ(vỹ + 1 − ỹ) − vỹ.
    negative, positive, t = work
    np.multiply(y, 1.0 - delta, out=positive)
    np.add(positive, 0.5 * delta, out=positive)
    np.subtract(1, positive, out=negative)
    if v is not None:
        np.multiply(positive, v, out=positive)
    np.add(positive, negative, out=t)
    np.multiply(rho, t, out=rho)
    np.multiply(d, t, out=d)
    np.subtract(d, positive, out=d)
    np.maximum(z, constant_tile(0.0, z.shape, z.dtype), out=t)
    np.multiply(t, negative, out=negative)
    np.add(rho, negative, out=rho)
    np.subtract(t, z, out=t)  # max(−z, 0)
    np.multiply(t, positive, out=positive)
    np.add(rho, positive, out=rho)


def _quantile(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    # ρ′ = ½ sign(e) + (½ − v) sign² e, and ρ = eρ′
    t = work[0]
    assert v is not None, "a quantile for each output"
    np.subtract(z, y, out=rho)
    np.sign(rho, out=d)
    np.multiply(d, d, out=t)
    np.multiply(d, 0.5, out=d)
    of_output = work[1][0]
    np.subtract(0.5, v, out=of_output)
    np.multiply(t, of_output, out=t)
    np.add(d, t, out=d)
    np.multiply(rho, d, out=rho)


def _poisson(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    t = work[0]
    np.exp(z, out=d)
    np.multiply(z, y, out=t)
    np.subtract(d, t, out=rho)
    np.subtract(d, y, out=d)


def _log_cosh(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    # With t = tanh e: −½ log(1 − t²) for |e| < 1, where |e| + log(1 + e^−2|e|) − log 2 would cancel.
    t, is_far, far = work
    np.subtract(z, y, out=rho)
    np.tanh(rho, out=d)
    np.abs(rho, out=rho)
    mask = t.reshape(-1).view(np.bool_)[: z.size].reshape(z.shape)
    np.greater(rho, 1, out=mask)
    np.copyto(is_far, mask)
    np.multiply(rho, -2, out=far)
    np.exp(far, out=far)
    np.log1p(far, out=far)
    np.add(far, rho, out=far)
    np.subtract(far, math.log(2.0), out=far)
    np.minimum(rho, constant_tile(1.0, z.shape, z.dtype), out=rho)
    np.tanh(rho, out=rho)
    np.multiply(rho, rho, out=rho)
    np.negative(rho, out=rho)
    np.log1p(rho, out=rho)
    np.multiply(rho, -0.5, out=rho)
    np.subtract(far, rho, out=far)
    np.multiply(far, is_far, out=far)
    np.add(rho, far, out=rho)


def _margin(z: Array, y: Array, margin: Array, label: Array) -> None:
    # label = 1 − 2y, margin = max(1 + label·z, 0)
    np.multiply(y, -2, out=label)
    np.add(label, 1, out=label)
    np.multiply(label, z, out=margin)
    np.add(margin, 1, out=margin)
    np.maximum(margin, constant_tile(0.0, z.shape, z.dtype), out=margin)


def _hinge(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    t = work[0]
    _margin(z, y, rho, t)
    np.sign(rho, out=d)
    np.multiply(d, t, out=d)


def _squared_hinge(z: Array, y: Array, rho: Array, d: Array, work: _Work, delta: float, v: Array | None) -> None:
    t = work[0]
    _margin(z, y, rho, t)
    np.multiply(rho, t, out=d)
    np.multiply(d, 2, out=d)
    np.multiply(rho, rho, out=rho)


_ELEMENTWISE_RULES = {
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "binary_cross_entropy": _binary_cross_entropy,
    "quantile": _quantile,
    "poisson": _poisson,
    "log_cosh": _log_cosh,
    "hinge": _hinge,
    "squared_hinge": _squared_hinge,
}
