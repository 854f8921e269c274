"""Losses of a batch, fused with their gradient with respect to the logits.

All share one contract. `losses` (batch,) receives w_j ℓ_j, the weighted loss of each sample; dZ receives the gradient
of L = (1/batch) Σ_j w_j ℓ_j, so the 1/batch is the loss's own. The caller sums `losses`, on the device.
"""

from __future__ import annotations

import numpy as np

from ..._types import Array
from ._array import ArrayOps

ELEMENTWISE_LOSSES = ("mse", "mae", "huber", "binary_cross_entropy")
"""The kinds of `elementwise_loss`; the order is that of the enumeration in kernels/elementwise_loss.cu."""


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
    ) -> None:
        """ℓ_j = −Σ_c v_c ỹ_cj log p_cj with p = softmax(z); dZ_cj = (w_j/batch)(p_cj Σ_k v_k ỹ_kj − v_c ỹ_cj).

        Z and dZ (n_classes, batch) F-ordered. `targets` is int64 labels (batch,) or a float matrix (n_classes, batch)
        F-ordered whose columns sum to 1; ỹ = (1 − s)·y + s/n_classes with s = `label_smoothing`. `class_weight` v
        (n_classes,) and `sample_weight` w (batch,) are 1 where None. dZ is not Z.
        """
        Zt, P = Z.T, dZ.T
        batch, n_classes = Zt.shape
        log_sum = self.scratch("row", batch, Z.dtype)
        column = log_sum.reshape(-1, 1)
        self._row_maxima(Zt, column)
        shifted = self.scratch("logits", Z.size, Z.dtype).reshape(Zt.shape)
        np.subtract(Zt, column, out=shifted)
        np.exp(shifted, out=P)
        np.matmul(P, self.ones(n_classes, Z.dtype).T, out=column)
        np.divide(P, column, out=P)
        np.log(log_sum, out=log_sum)

        if targets.ndim == 1 and label_smoothing == 0.0:
            self._from_labels(shifted, log_sum, targets, class_weight, losses, P)
        else:
            T = self._target_matrix(targets, class_weight, label_smoothing, Zt.shape, Z.dtype)
            self._from_target_matrix(shifted, log_sum, T, losses, P)

        if sample_weight is not None:
            np.multiply(losses, sample_weight, out=losses)
            np.multiply(P, sample_weight.reshape(-1, 1), out=P)
        np.multiply(P, 1.0 / batch, out=P)

    def _from_labels(
        self,
        shifted: Array,
        log_sum: Array,
        labels: Array,
        class_weight: Array | None,
        losses: Array,
        P: Array,
    ) -> None:
        """ℓ = v_y (log Σ e^z − z_y), gradient v_y (p − e_y), through the flat index of each sample's label."""
        batch, n_classes = P.shape
        index = self.scratch("index", batch, np.intp)
        np.multiply(self._range(batch), n_classes, out=index)
        np.add(index, labels, out=index)
        at_label = self.scratch("row2", batch, P.dtype)
        np.take(shifted.reshape(-1), index, out=at_label, mode="clip")
        np.subtract(log_sum, at_label, out=losses)
        flat = P.reshape(-1)
        np.take(flat, index, out=at_label, mode="clip")
        np.subtract(at_label, 1, out=at_label)
        flat[index] = at_label
        if class_weight is not None:
            np.take(class_weight, labels, out=at_label, mode="clip")
            np.multiply(losses, at_label, out=losses)
            np.multiply(P, at_label.reshape(-1, 1), out=P)

    def _target_matrix(
        self,
        targets: Array,
        class_weight: Array | None,
        label_smoothing: float,
        shape: tuple[int, int],
        dtype: np.dtype,
    ) -> Array:
        """T_jc = v_c ỹ_cj as a (batch, n_classes) matrix in scratch."""
        batch, n_classes = shape
        T = self.scratch("targets", batch * n_classes, dtype).reshape(shape)
        if targets.ndim == 1:
            T.fill(0)
            index = self.scratch("index", batch, np.intp)
            np.multiply(self._range(batch), n_classes, out=index)
            np.add(index, targets, out=index)
            T.reshape(-1)[index] = 1
        else:
            np.copyto(T, targets.T)
        if label_smoothing:
            np.multiply(T, 1.0 - label_smoothing, out=T)
            np.add(T, label_smoothing / n_classes, out=T)
        if class_weight is not None:
            np.multiply(T, class_weight.reshape(1, -1), out=T)
        return T

    def _from_target_matrix(self, shifted: Array, log_sum: Array, T: Array, losses: Array, P: Array) -> None:
        """ℓ = Σ_c T_c (log Σ e^z − z_c), gradient p Σ_c T_c − T."""
        total = self.scratch("row2", T.shape[0], T.dtype)
        np.matmul(T, self.ones(T.shape[1], T.dtype)[0], out=total)
        np.subtract(log_sum.reshape(-1, 1), shifted, out=shifted)
        np.vecdot(T, shifted, out=losses)
        np.multiply(P, total.reshape(-1, 1), out=P)
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
    ) -> None:
        """ℓ_j = (1/n) Σ_i ρ(z_ij, y_ij); dZ_ij = w_j/(n·batch) · ∂ρ/∂z, with e = z − y and

        mse: ρ = e²; mae: ρ = |e|; huber: ρ = ½e² for |e| ≤ δ, else δ(|e| − ½δ);
        binary_cross_entropy: ρ = max(z, 0) − z·y + log(1 + e^−|z|), which is −y log σ(z) − (1 − y) log(1 − σ(z)).

        Z, Y, dZ (n, batch) F-ordered; dZ is not Z. `sample_weight` (batch,) is 1 where None.
        """
        Zt, Yt, dZt = Z.T, Y.T, dZ.T
        batch, n = Zt.shape
        losses.fill(0)
        for rows, columns in self._tiles(Zt.shape):
            z, y, d = Zt[rows, columns], Yt[rows, columns], dZt[rows, columns]
            rho = self._tile_scratch("t", z)
            _ELEMENTWISE_RULES[kind](z, y, rho, d, self._tile_scratch("u", z), delta)
            partial = self.scratch("row", rho.shape[0], Z.dtype)
            np.matmul(rho, self.ones(rho.shape[1], Z.dtype)[0], out=partial)
            np.add(losses[rows], partial, out=losses[rows])
        np.multiply(losses, 1.0 / n, out=losses)
        np.multiply(dZt, 1.0 / (n * batch), out=dZt)
        if sample_weight is not None:
            np.multiply(losses, sample_weight, out=losses)
            np.multiply(dZt, sample_weight.reshape(-1, 1), out=dZt)

    def accumulate_sum(self, x: Array, total: Array) -> None:
        """total[0] += Σ x: x flat, total a float64 array of one element."""
        total[0] += float(np.add.reduce(x))

    def _range(self, size: int) -> Array:
        """0, 1, ..., size − 1 as indices, cached per thread."""
        known = self._per_thread.__dict__.get("range")
        if known is None or known.size < size:
            known = self._per_thread.__dict__["range"] = np.arange(size, dtype=np.intp)
        return known[:size]


def _mse(z: Array, y: Array, rho: Array, d: Array, t: Array, delta: float) -> None:
    np.subtract(z, y, out=d)
    np.multiply(d, d, out=rho)
    np.multiply(d, 2, out=d)


def _mae(z: Array, y: Array, rho: Array, d: Array, t: Array, delta: float) -> None:
    np.subtract(z, y, out=d)
    np.abs(d, out=rho)
    np.sign(d, out=d)


def _huber(z: Array, y: Array, rho: Array, d: Array, t: Array, delta: float) -> None:
    # with a = min(|e|, δ): ρ = a(|e| − ½a), ρ′ = clip(e, −δ, δ)
    np.subtract(z, y, out=d)
    np.abs(d, out=rho)
    np.minimum(rho, delta, out=t)
    np.multiply(t, -0.5, out=d)
    np.add(rho, d, out=rho)
    np.multiply(rho, t, out=rho)
    np.subtract(z, y, out=d)
    np.maximum(d, -delta, out=d)
    np.minimum(d, delta, out=d)


def _binary_cross_entropy(z: Array, y: Array, rho: Array, d: Array, t: Array, delta: float) -> None:
    # with e = e^−|z|: σ(z) = max(e, sign z)/(1 + e), as in the sigmoid
    np.abs(z, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.log1p(t, out=rho)
    np.sign(z, out=d)
    np.maximum(d, t, out=d)
    np.add(t, 1, out=t)
    np.divide(d, t, out=d)
    np.subtract(d, y, out=d)
    np.maximum(z, 0, out=t)
    np.add(rho, t, out=rho)
    np.multiply(z, y, out=t)
    np.subtract(rho, t, out=rho)


_ELEMENTWISE_RULES = {
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "binary_cross_entropy": _binary_cross_entropy,
}
