"""Losses of one class per sample, or of a distribution over the classes, by softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._checks import check_in_dtype, check_real, check_settings
from .._types import Array, HostArray
from ..backend import Ops
from ._base import LOSSES, Loss
from ._targets import check_labels, check_target_matrix, sum_dtype, target_array


@dataclass
class _SoftmaxLoss(Loss):
    """A loss of one class per sample, or of a distribution over the classes, by p = softmax(z)."""

    link = "softmax"

    @property
    def _of_class(self) -> tuple[str, Sequence[float] | None]:
        """The setting that has a weight for each class, and these."""
        return "", None

    def check_outputs(self, n_outputs: int) -> None:
        if n_outputs < 2:
            raise ValueError(
                f"{self.name} needs one output per class, at least 2, got {n_outputs}. "
                "For one output and labels 0 and 1 use 'binary_cross_entropy'."
            )
        setting, weights = self._of_class
        if weights is not None and len(weights) != n_outputs:
            raise ValueError(
                f"{type(self).__name__}({setting}) has {len(weights)} weights for {n_outputs} outputs; "
                "give one per class."
            )

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        check_settings(self, dtype)
        setting, weights = self._of_class
        for weight in weights or ():
            check_in_dtype(f"{type(self).__name__}({setting}): a weight", weight, dtype)
        targets = target_array(y, self.name)
        if targets.ndim == 1:
            return check_labels(targets, n_outputs, self.name)
        if targets.shape[1] == 1:
            raise ValueError(
                f"{self.name} got targets of shape {targets.shape}: a column. Pass integer labels of shape "
                f"(n_samples,), for example y.ravel(){self._or_matrix}."
            )
        return self._prepare_matrix(targets, n_outputs, dtype)

    _or_matrix: ClassVar[str] = ", or one-hot targets (n_samples, n_classes)"

    def _prepare_matrix(self, targets: HostArray, n_outputs: int, dtype: Any) -> HostArray:
        matrix = check_target_matrix(targets, n_outputs, dtype, self.name)
        if not (np.all(matrix >= 0) and np.allclose(matrix.sum(axis=1, dtype=np.float64), 1.0, atol=1e-3)):
            raise ValueError(
                f"{self.name} expects each row of a target matrix to be a distribution: entries of at least 0 that "
                "sum to 1. For several labels per sample use 'binary_cross_entropy'."
            )
        return matrix


@LOSSES.register("cross_entropy")
@dataclass
class CrossEntropy(_SoftmaxLoss):
    """ℓ_j = −Σ_c v_c ỹ_cj log p_cj, p = softmax(z); with integer labels and no options ℓ_j = −log p_{y_j}.

    `label_smoothing` s: ỹ = (1 − s)y + s/n_classes (Szegedy et al. 2016). `class_weight`: v, one number per class.
    Gradient: ∂L/∂z_cj = (w_j/batch)(p_cj Σ_k v_k ỹ_kj − v_c ỹ_cj); without weights (P − Y)/batch.
    Targets: integer labels (n,), or one-hot or soft targets (n, n_classes) whose rows sum to 1.
    PyTorch's `CrossEntropyLoss(weight=v)` divides by Σ_j v_{y_j} instead of by the batch; `reduction="sum"` is batch·L.
    """

    label_smoothing: float = 0.0
    class_weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        self.label_smoothing = check_real("CrossEntropy(label_smoothing)", self.label_smoothing, low=0.0, high=1.0)
        self.class_weight = _class_weights("CrossEntropy(class_weight)", self.class_weight)

    @property
    def _of_class(self) -> tuple[str, Sequence[float] | None]:
        return "class_weight", self.class_weight

    def weights_of(self, targets: HostArray) -> HostArray | None:
        if self.class_weight is None:
            return None
        v, s = np.asarray(self.class_weight, np.float64), self.label_smoothing
        of_targets: HostArray = v[targets] if targets.ndim == 1 else targets @ v
        return (1.0 - s) * of_targets + s * v.mean()

    def compute(
        self,
        ops: Ops,
        Z: Array,
        targets: Array,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
    ) -> None:
        ops.softmax_cross_entropy(
            Z,
            targets if targets.ndim == 1 else targets.T,
            self._on_device_of(ops, "class_weight", self.class_weight, Z.shape[0], sum_dtype(Z.dtype)),
            sample_weight,
            self.label_smoothing,
            losses,
            dZ,
            loss_scale,
        )


@LOSSES.register("kl_divergence")
@dataclass
class KLDivergence(_SoftmaxLoss):
    """ℓ_j = Σ_c y_cj (log y_cj − log p_cj), p = softmax(z), 0 log 0 = 0 (Kullback & Leibler 1951): 0 where p = y.

    Gradient: ∂L/∂z_cj = (w_j/batch)(p_cj Σ_k y_kj − y_cj), that of cross-entropy, from which ℓ_j differs by what does
    not depend on z: how far y is from sure. What is left is what a network has to learn of another's predictions.
    Targets: distributions (n, n_classes), rows of at least 0 that sum to 1; integer labels (n,) are one-hot ones.
    PyTorch's `KLDivLoss(reduction="batchmean")` of log_softmax(z).
    """

    def compute(
        self,
        ops: Ops,
        Z: Array,
        targets: Array,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
    ) -> None:
        y = targets if targets.ndim == 1 else targets.T
        ops.softmax_cross_entropy(Z, y, None, sample_weight, 0.0, losses, dZ, loss_scale, relative=True)


@LOSSES.register("focal")
@dataclass
class Focal(_SoftmaxLoss):
    """ℓ_j = −α_y (1 − p_y)^γ log p_y, p = softmax(z), y = y_j: cross-entropy that samples count less in that are right.

    `gamma` γ, at least 0: how much less; 0 is cross-entropy. `alpha` α: one number per class, 1 where None.
    Gradient: with q = 1 − p_y, ∂L/∂z_cj = (w_j/batch) α_y (p_cj − [c = y])(q^γ − γ p_y q^(γ−1) log p_y), 0 at p_y = 1.
    Targets: integer labels (n,). As everywhere here, the mean is over the batch and not over the weights α.
    Source: Lin et al. (2017), "Focal loss for dense object detection", there with a sigmoid of two classes.
    """

    gamma: float = 2.0
    alpha: Sequence[float] | None = None

    def __post_init__(self) -> None:
        self.gamma = check_real("Focal(gamma)", self.gamma, low=0.0)
        self.alpha = _class_weights("Focal(alpha)", self.alpha)

    @property
    def _of_class(self) -> tuple[str, Sequence[float] | None]:
        return "alpha", self.alpha

    _or_matrix = ""

    def _prepare_matrix(self, targets: HostArray, n_outputs: int, dtype: Any) -> HostArray:
        raise ValueError(
            f"focal expects integer labels of shape (n_samples,), got targets of shape {targets.shape}. For one-hot "
            "targets pass y.argmax(axis=1); for distributions use 'cross_entropy' or 'kl_divergence'."
        )

    def weights_of(self, targets: HostArray) -> HostArray | None:
        return None if self.alpha is None else np.asarray(self.alpha, np.float64)[targets]

    def compute(
        self,
        ops: Ops,
        Z: Array,
        targets: Array,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
    ) -> None:
        alpha = self._on_device_of(ops, "alpha", self.alpha, Z.shape[0], sum_dtype(Z.dtype))
        ops.softmax_cross_entropy(Z, targets, alpha, sample_weight, 0.0, losses, dZ, loss_scale, gamma=self.gamma)


def _class_weights(who: str, weights: Any) -> list[float] | None:
    """A setting that is a weight of at least 0 for each class, or None."""
    if weights is None:
        return None
    if isinstance(weights, str | Mapping) or not hasattr(weights, "__len__"):
        raise TypeError(
            f"{who} expects one number per class, got {weights!r}. "
            "A dict of labels, or 'balanced', goes to trainer.fit(class_weight=...)."
        )
    checked = [check_real(f"{who}: each weight", value, low=0.0) for value in weights]
    if not any(checked):
        raise ValueError(f"{who} is 0 for every class: there is nothing to learn from.")
    return checked
