"""Losses: L = (1/batch) Σ_j w_j ℓ_j, their gradients, and the link from a network's raw outputs to predictions.

A loss takes logits (raw outputs) and owns the 1/batch. w_j are the per-sample weights, 1 unless given: the mean is over
the batch, not over the weights. Everything is computed in one fused pass per batch (backend/_ops/_loss.py).

In the explicit training loop::

    outputs = model.forward(X, training=True)
    value = loss.forward(outputs, y)        # L, an array of the device without dimensions
    model.backward(loss.backward())         # ∂L/∂outputs, (batch, n_outputs)
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ._arrays import quietly
from ._checks import RowError, check_bool, check_in_dtype, check_integer, check_real, check_settings
from ._registry import OMITTED_IF_DEFAULT, Registry
from ._types import Array, DType, HostArray
from .backend import Ops, as_array, on_host, ops_for
from .metrics import Task

VALUE_LINKS = ("identity", "exp")
"""The links of losses whose predictions are values."""


@dataclass
class Loss:
    """One loss; subclasses define ℓ, `prepare_targets` and `compute`."""

    name: ClassVar[str]
    link: ClassVar[str]
    """What turns raw outputs into predictions: "softmax", "sigmoid", "identity" or "exp"."""

    members = 1
    """How many networks side by side give the outputs: see `EnsembleLoss`."""

    _gradient: Array = field(init=False, default=None, repr=False, compare=False)
    _n_changes: int = field(init=False, default=0, repr=False, compare=False)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_"):
            super().__setattr__("_n_changes", self._n_changes + 1)

    @property
    def n_changes(self) -> int:
        """How often a setting has changed: what was captured before holds the old one."""
        return self._n_changes

    def task(self, n_outputs: int) -> Task:
        """What targets beside `n_outputs` outputs mean: one class per sample, several labels per sample, or values.

        Metrics are told (`Metric.for_task`). A sigmoid on each of several outputs means labels that do not exclude each
        other; on a single one, two classes.
        """
        if self.predicts_values:
            return "regression"
        return "multilabel" if self.link == "sigmoid" and n_outputs > 1 else "classification"

    @property
    def predicts_values(self) -> bool:
        """Whether predictions are values, and not classes or their probabilities."""
        return self.link in VALUE_LINKS

    @property
    def predicts_probabilities(self) -> bool:
        """Whether predictions are probabilities of classes."""
        return not self.predicts_values

    @property
    def outputs_per_target(self) -> int:
        """How many outputs a network needs for each column of targets."""
        return 1

    def check_outputs(self, n_outputs: int) -> None:
        """ValueError if a network with `n_outputs` outputs cannot have this loss."""

    def weights_of(self, targets: HostArray) -> HostArray | None:
        """The weight (n_samples,) that the loss itself gives samples by their prepared targets; None: 1 each."""
        return None

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        """`y` checked, as `compute` takes it: labels (n,) int64 or a matrix (n, n_outputs) of `dtype`."""
        raise NotImplementedError(f"{type(self).__name__} must define prepare_targets(y, n_outputs, dtype).")

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
        """losses_j = w_j ℓ_j and dZ = s ∂L/∂Z, Z and dZ (n_outputs, batch); targets as `prepare_targets` made them.

        s is the value of `loss_scale`, a float64 array (1,) of the device, and 1 where that is None. In training in
        float16 it keeps small gradients from rounding to 0; it does not scale `losses`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compute(...).")

    @property
    def takes_loss_scale(self) -> bool:
        """Whether `compute` has a parameter `loss_scale`."""
        parameters = inspect.signature(self.compute).parameters.values()
        return any(p.name == "loss_scale" or p.kind is p.VAR_KEYWORD for p in parameters)

    def check_loss_scale(self) -> None:
        """TypeError if `compute` takes no `loss_scale`, without which no loss can be trained in float16."""
        if not self.takes_loss_scale:
            raise TypeError(
                f"precision='float16' needs a loss whose gradient can be scaled: {type(self).__name__}.compute has no "
                "parameter loss_scale. Add loss_scale=None behind dZ and multiply dZ by its value where it is given, "
                "or train with precision='bfloat16', which needs no scaling."
            )

    @quietly
    def forward(self, outputs: Array, y: Any, sample_weight: Any = None) -> Array:
        """L for outputs (batch, n_outputs), as an array without dimensions on the outputs' device; ∂L is kept."""
        if outputs.ndim != 2:
            raise ValueError(f"{self.name} expects outputs of shape (batch, n_outputs), got {outputs.shape}.")
        batch, n_outputs = outputs.shape
        ops = ops_for(outputs)
        self.check_outputs(n_outputs)
        dtype = sum_dtype(outputs.dtype)
        prepared = self.prepare_targets(on_host(ops, y, f"{self.name}: y"), n_outputs, dtype)
        if len(prepared) != batch:
            raise ValueError(f"{self.name} got {batch} rows of outputs but {len(prepared)} targets.")
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(on_host(ops, sample_weight, "sample_weight"), batch, dtype)
        targets = ops.asarray(prepared)
        losses = ops.empty(batch, dtype)
        dZ = ops.matrix(n_outputs, batch, outputs.dtype)
        Z = ops.asarray(outputs).T
        self.compute(ops, Z, targets, None if weights is None else ops.asarray(weights), losses, dZ)
        total = ops.zeros(1, "float64")
        ops.accumulate_sum(losses, total)
        ops.scale(total, 1.0 / batch, total)
        self._gradient = dZ.T
        return total.reshape(())

    def _on_device_of(self, ops: Ops, setting: str, values: Sequence[float] | None, n: int, dtype: Any) -> Array | None:
        """The n numbers of a setting, repeated where there are fewer, on the device of `ops`, put there once."""
        if values is None:
            return None
        cache = self.__dict__.setdefault("_on_device", {})
        key = (ops, setting, np.dtype(dtype), tuple(values), n)
        if key not in cache:
            cache[key] = ops.asarray(np.resize(np.asarray(values, dtype), n))
        return cache[key]

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: the fields, without a gradient or what lies on a device."""
        return {name: value for name, value in vars(self).items() if name != "_on_device"} | {"_gradient": None}

    def backward(self) -> Array:
        """∂L/∂outputs (batch, n_outputs) of the last `forward`."""
        if self._gradient is None:
            raise RuntimeError(f"{self.name}: backward() needs forward(outputs, y) before it.")
        return self._gradient


LOSSES: Registry[Loss] = Registry("loss", Loss)


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


@dataclass
class _ElementwiseLoss(Loss):
    """ℓ_j = (1/n) Σ_i u_i ρ(z_ij, y_ij): the mean over the n outputs of a sample.

    `output_weight`: u, one number per output, 1 unless given. As with the weights of samples and classes, the mean is
    over the outputs and not over the weights: an output of weight 2 counts as two. (scikit-learn's `multioutput=u`
    divides by Σu instead; u·n/Σu gives its mean.)
    """

    output_weight: Sequence[float] | None = field(default=None, kw_only=True, repr=False, metadata=OMITTED_IF_DEFAULT)

    def __post_init__(self) -> None:
        if self.output_weight is not None:
            self.output_weight = _numbers(f"{type(self).__name__}(output_weight)", self.output_weight, "per output")
            if not any(self.output_weight):
                raise ValueError(f"{type(self).__name__}(output_weight) is 0 for every output: nothing is learned.")

    @property
    def _kind(self) -> str:
        """The rule, as `Ops.elementwise_loss` calls it."""
        return self.name

    @property
    def _delta(self) -> float:
        return 0.0

    @property
    def _of_output(self) -> tuple[str, Sequence[float] | None]:
        """The setting that has a number for each output, and these; where they are fewer, they come again and again."""
        return "", None

    def check_outputs(self, n_outputs: int) -> None:
        setting, numbers = self._of_output
        for name, values in (("output_weight", self.output_weight), (setting, numbers)):
            if values is not None and len(values) != n_outputs and (name == "output_weight" or len(values) > 1):
                raise ValueError(
                    f"{type(self).__name__}({name}) has {len(values)} numbers for {n_outputs} outputs; give one per "
                    "output."
                )

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        check_settings(self, dtype)
        for values in (self.output_weight, self._of_output[1]):
            for value in values or ():
                check_in_dtype(f"{type(self).__name__}: a setting", value, dtype)
        targets = target_array(y, self.name)
        if targets.ndim == 1 and n_outputs == 1:
            targets = targets.reshape(-1, 1)
        return check_target_matrix(targets, n_outputs, dtype, self.name)

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
        n, dtype = Z.shape[0], sum_dtype(Z.dtype)
        u = self._on_device_of(ops, "output_weight", self.output_weight, n, dtype)
        v = self._on_device_of(ops, *self._of_output, n, dtype)
        ops.elementwise_loss(Z, targets.T, self._kind, self._delta, sample_weight, losses, dZ, loss_scale, u, v)


@LOSSES.register("mse")
@dataclass
class MSE(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i (z_ij − y_ij)², ∂ℓ_j/∂z_ij = (2/n)(z_ij − y_ij). No factor ½: PyTorch's `MSELoss`."""

    link = "identity"


@LOSSES.register("mae")
@dataclass
class MAE(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i |z_ij − y_ij|, ∂ℓ_j/∂z_ij = sign(z_ij − y_ij)/n, 0 where they are equal: PyTorch's `L1Loss`."""

    link = "identity"


@LOSSES.register("huber")
@dataclass
class Huber(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i ρ(z_ij − y_ij), ρ(e) = ½e² for |e| ≤ δ, else δ(|e| − ½δ) (Huber 1964); ρ′(e) = clip(e, −δ, δ)."""

    link = "identity"
    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.delta = check_real("Huber(delta)", self.delta, low=0.0, low_open=True)

    @property
    def _delta(self) -> float:
        return self.delta


@LOSSES.register("log_cosh")
@dataclass
class LogCosh(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i log cosh(z_ij − y_ij), ρ′(e) = tanh e: ½e² near 0, |e| − log 2 far from it. Keras's `LogCosh`."""

    link = "identity"


@LOSSES.register("quantile")
@dataclass
class Quantile(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i ρ_q(y_ij − z_ij), ρ_q(e) = max(qe, (q − 1)e) (Koenker & Bassett 1978); ∂ρ_q/∂z = 0 where z = y.

    The least of it is the q-quantile of y: a share q of the targets lies below the predictions. `quantiles`: each in
    (0, 1); a network has an output for each of them and each column of targets, n = n_targets·n_quantiles, the
    quantiles of a target side by side: `predictions.reshape(n_samples, n_targets, n_quantiles)`. Targets (n_samples,)
    or (n_samples, n_targets). Nothing keeps predicted quantiles in order; where they cross, sort them.
    """

    link = "identity"
    quantiles: Sequence[float] = (0.5,)

    def __post_init__(self) -> None:
        super().__post_init__()
        who = "Quantile(quantiles)"
        given = _numbers(who, self.quantiles, "per quantile")
        self.quantiles = [
            check_real(f"{who}: each of them", q, low=0.0, high=1.0, low_open=True, high_open=True) for q in given
        ]

    @property
    def outputs_per_target(self) -> int:
        return len(self.quantiles)

    @property
    def _of_output(self) -> tuple[str, Sequence[float] | None]:
        return "quantiles", self.quantiles

    def check_outputs(self, n_outputs: int) -> None:
        if n_outputs % len(self.quantiles):
            raise ValueError(
                f"quantile with {len(self.quantiles)} quantiles needs as many outputs for each column of targets, a "
                f"multiple of {len(self.quantiles)}, got {n_outputs}."
            )
        if self.output_weight is not None and len(self.output_weight) != n_outputs:
            raise ValueError(
                f"Quantile(output_weight) has {len(self.output_weight)} numbers for {n_outputs} outputs; give one per "
                "output."
            )

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        """As a matrix (n, n_outputs), a target's column repeated for each of its quantiles."""
        targets = target_array(y, self.name)
        matrix = targets.reshape(-1, 1) if targets.ndim == 1 else targets
        n_quantiles = len(self.quantiles)
        if matrix.shape[1] == n_outputs:  # repeated already
            return super().prepare_targets(matrix, n_outputs, dtype)
        if matrix.shape[1] * n_quantiles != n_outputs:
            n_targets = n_outputs // n_quantiles
            expected = f"(n_samples, {n_targets})" + (" or (n_samples,)" if n_targets == 1 else "")
            raise ValueError(
                f"quantile with {n_outputs} outputs and {n_quantiles} quantiles expects targets of shape {expected}, "
                f"got {targets.shape}."
            )
        return super().prepare_targets(np.repeat(matrix, n_quantiles, axis=1), n_outputs, dtype)


@LOSSES.register("poisson")
@dataclass
class Poisson(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i (e^z_ij − y_ij z_ij), ∂ℓ_j/∂z_ij = (e^z_ij − y_ij)/n: counts y of at least 0 with mean e^z.

    The outputs are logarithms of what is predicted, so predictions are e^z. −log of Poisson's probability without its
    term log y!, which does not depend on z: PyTorch's `PoissonNLLLoss()`.
    """

    link = "exp"

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        matrix = super().prepare_targets(y, n_outputs, dtype)
        negative = np.flatnonzero((matrix < 0).any(axis=1))
        if negative.size:
            row = int(negative[0])
            raise RowError(
                f"poisson expects counts, targets of at least 0, got {matrix[row].min():g} in {{row}}. For values of "
                "any sign use 'mse', 'mae' or 'huber'.",
                row,
            )
        return matrix


@LOSSES.register("binary_cross_entropy")
@dataclass
class BinaryCrossEntropy(_ElementwiseLoss):
    """ℓ_j = −(1/n) Σ_i [v_i ỹ_ij log σ(z_ij) + (1 − ỹ_ij) log(1 − σ(z_ij))]; without options
    ∂ℓ_j/∂z_ij = (σ(z_ij) − y_ij)/n, else (σ(z_ij)(v_i ỹ_ij + 1 − ỹ_ij) − v_i ỹ_ij)/n.

    One output for two classes, or n outputs for n labels that do not exclude each other (multi-label). Targets in
    [0, 1], (n_samples,) for one output, else (n_samples, n). PyTorch's `BCEWithLogitsLoss`.
    `label_smoothing` s: ỹ = (1 − s)y + s/2, as in Keras. `pos_weight`: v, a number for all outputs or one for each, by
    which label 1 counts more than label 0 (n₀/n₁ makes up for rare ones); as in PyTorch, after the smoothing.
    """

    link = "sigmoid"
    label_smoothing: float = 0.0
    pos_weight: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        who = "BinaryCrossEntropy"
        self.label_smoothing = check_real(f"{who}(label_smoothing)", self.label_smoothing, low=0.0, high=1.0)
        if isinstance(self.pos_weight, numbers.Real):
            self.pos_weight = check_real(f"{who}(pos_weight)", self.pos_weight, low=0.0, low_open=True)
        elif self.pos_weight is not None:
            self.pos_weight = _numbers(f"{who}(pos_weight)", self.pos_weight, "for all outputs or one per output")
            if not all(self.pos_weight):
                raise ValueError(f"{who}(pos_weight) expects numbers greater than 0, got {self.pos_weight}.")

    @property
    def _delta(self) -> float:
        return self.label_smoothing

    @property
    def _of_output(self) -> tuple[str, Sequence[float] | None]:
        return "pos_weight", [self.pos_weight] if isinstance(self.pos_weight, float) else self.pos_weight

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        matrix = super().prepare_targets(y, n_outputs, dtype)
        if matrix.size and not (matrix.min() >= 0 and matrix.max() <= 1):
            raise ValueError(
                f"binary_cross_entropy expects targets in [0, 1], got values from {matrix.min():g} to "
                f"{matrix.max():g}. For labels of more than two classes use 'cross_entropy'."
            )
        return matrix


@LOSSES.register("hinge")
@dataclass
class Hinge(_ElementwiseLoss):
    """ℓ_j = (1/n) Σ_i max(0, 1 − t_ij z_ij), t = ±1, or the mean of their squares: support vector machines.

    One output for two classes, or n for labels that do not exclude each other. Targets 0 and 1, or −1 and 1: class 1 is
    where z > 0. ∂ρ/∂z = −t where tz < 1, else 0; with `squared` −2t·max(0, 1 − tz). For more classes that exclude each
    other use 'cross_entropy'.
    The link is the sigmoid, so that predictions lie in (0, 1) with ½ between the classes; they are no probabilities.
    Source: Cortes & Vapnik (1995), "Support-vector networks"; squared: Tang (2013), "Deep learning using linear support
    vector machines".
    """

    link = "sigmoid"
    squared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bool("Hinge(squared)", self.squared)

    @property
    def _kind(self) -> str:
        return "squared_hinge" if self.squared else "hinge"

    @property
    def predicts_probabilities(self) -> bool:
        return False

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        matrix = super().prepare_targets(y, n_outputs, dtype)
        signs = bool((matrix < 0).any())
        bad = np.flatnonzero(((matrix != 1) & (matrix != (-1 if signs else 0))).any(axis=1))
        if bad.size:
            row = int(bad[0])
            value = next(value for value in matrix[row] if value not in (1, -1 if signs else 0))
            raise RowError(f"hinge expects labels 0 and 1, or −1 and 1, got {value:g} in {{row}}.", row)
        return (matrix + 1) / 2 if signs else matrix


def _numbers(who: str, values: Any, each: str) -> list[float]:
    """A setting that is a list of numbers of at least 0."""
    if isinstance(values, str | Mapping) or not hasattr(values, "__len__") or not len(values):
        raise TypeError(f"{who} expects one number {each}, got {values!r}.")
    return [check_real(f"{who}: each of them", value, low=0.0) for value in values]


@dataclass
class EnsembleLoss(Loss):
    """ℓ_j = (1/k) Σ_g ℓ(z_gj, y_j): the mean of a loss of each member of an ensemble, never that of their mean.

    So every member learns by itself (Gorishniy et al. 2024, "TabM", section 3.2). Outputs are those of k `members` one
    behind the other, (batch, k·n_outputs), as `DenseEnsemble` gives them; targets are those of `loss`, a name or a
    `Loss`. Gradient: ∂L/∂z_g is that of `loss` over k, by one call for k·batch samples. The link is that of `loss`, and
    predictions are the mean of the members' predictions, (batch, n_outputs).
    """

    loss: Any
    members: int

    def __post_init__(self) -> None:
        self.loss = LOSSES.resolve(self.loss)
        if isinstance(self.loss, EnsembleLoss):
            raise ValueError(f"EnsembleLoss(loss) expects the loss of one member, got {self.loss!r}.")
        self.members = check_integer("EnsembleLoss(members)", self.members, low=1)

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the members' loss, for messages."""
        return f"the ensemble's {self.loss.name}"

    @property
    def link(self) -> str:  # type: ignore[override]
        """The members'."""
        return str(self.loss.link)

    @property
    def outputs_per_target(self) -> int:
        return int(self.loss.outputs_per_target)

    @property
    def predicts_values(self) -> bool:
        return bool(self.loss.predicts_values)

    @property
    def predicts_probabilities(self) -> bool:
        return bool(self.loss.predicts_probabilities)

    @property
    def n_changes(self) -> int:
        return self._n_changes + int(self.loss.n_changes)

    @property
    def takes_loss_scale(self) -> bool:
        return bool(self.loss.takes_loss_scale)

    def check_loss_scale(self) -> None:
        self.loss.check_loss_scale()

    def task(self, n_outputs: int) -> Task:
        return self.loss.task(n_outputs // self.members)

    def check_outputs(self, n_outputs: int) -> None:
        if n_outputs % self.members:
            raise ValueError(
                f"EnsembleLoss expects the outputs of {self.members} members, and a network with {n_outputs} outputs "
                f"does not have those. End it with DenseEnsemble(n_outputs, members={self.members})."
            )
        self.loss.check_outputs(n_outputs // self.members)

    def weights_of(self, targets: HostArray) -> HostArray | None:
        return self.loss.weights_of(targets)

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        return self.loss.prepare_targets(y, n_outputs // self.members, dtype)

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
        k, batch = self.members, Z.shape[1]
        n = Z.shape[0] // k
        given = [
            Z.T.reshape(batch * k, n).T,
            self._for_each(ops, "targets", targets),
            None if sample_weight is None else self._for_each(ops, "weights", sample_weight),
        ]
        of_members = ops.scratch("losses of members", batch * k, losses.dtype)
        gradient = dZ.T.reshape(batch * k, n).T  # over k·batch samples, so 1/k is in it
        if loss_scale is None:
            self.loss.compute(ops, *given, of_members, gradient)
        else:
            self.loss.compute(ops, *given, of_members, gradient, loss_scale)
        ops.sum_repeats(of_members.reshape(batch, k).T, losses.reshape(batch, 1).T)
        ops.scale(losses, 1.0 / k, losses)

    def _for_each(self, ops: Ops, what: str, x: Array) -> Array:
        """x (batch,) or (batch, n) with each row k times, one behind the other."""
        k, batch = self.members, x.shape[0]
        as_moved = x.view(np.float64) if x.dtype == np.int64 else x  # eight bytes either way
        n = x.size // batch if batch else 0
        repeated = ops.scratch(f"{what} of members", x.size * k, as_moved.dtype)
        ops.repeat_units(as_moved.reshape(batch, n).T, repeated.reshape(batch, k * n).T)
        return repeated.view(x.dtype).reshape(batch * k, *x.shape[1:])


def sum_dtype(dtype: Any) -> DType:
    """The dtype of losses, weights and target matrices beside outputs of `dtype`: theirs, or float32 for 16 bits."""
    return np.dtype(np.float32) if np.dtype(dtype).itemsize == 2 else np.dtype(dtype)


def target_array(y: Any, who: str) -> HostArray:
    """`y` as a numeric host array of one or two dimensions without NaN or infinity."""
    array = as_array(y, f"{who}: the targets")
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype} values"
        hint = "For names of classes use FCNNClassifier, which encodes them, or number them from 0."
        raise TypeError(
            f"{who} expects targets that are numbers, got {kind}.{'' if array.dtype.kind == 'c' else ' ' + hint}"
        )
    if array.ndim not in (1, 2):
        raise ValueError(f"{who} expects targets of shape (n_samples,) or (n_samples, n_outputs), got {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise RowError(f"{who}: the targets hold NaN or infinity (first in {{row}}). Remove or impute them.", row)
    return array


def check_labels(labels: HostArray, n_classes: int, who: str) -> HostArray:
    """Integer labels in 0 ... n_classes − 1 as int64, or a ValueError that names the first bad one."""
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(labels != np.floor(labels))
        if bad.size:
            raise RowError(
                f"{who} expects integer labels, got {labels[bad[0]]:g} in {{row}}. "
                "For real-valued targets use 'mse', 'mae' or 'huber'.",
                int(bad[0]),
            )
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))  # before the cast, which wraps what is too large
    if bad.size:
        raise RowError(
            f"{who} with {n_classes} outputs expects labels 0 ... {n_classes - 1}, got {labels[bad[0]]} in {{row}}. "
            "Give the last layer one output per class, and number the classes from 0.",
            int(bad[0]),
        )
    return labels.astype(np.int64)


def check_target_matrix(targets: HostArray, n_outputs: int, dtype: Any, who: str) -> HostArray:
    """A C-contiguous (n, n_outputs) matrix of `dtype`."""
    if targets.ndim != 2 or targets.shape[1] != n_outputs:
        expected = f"(n_samples, {n_outputs})" + (" or (n_samples,)" if n_outputs == 1 else "")
        outputs = f"{n_outputs} output{'s' if n_outputs != 1 else ''}"
        raise ValueError(f"{who} with {outputs} expects targets of shape {expected}, got {targets.shape}.")
    return _in_range(targets, dtype, f"{who}: the targets hold", "Scale them.")


def check_sample_weight(
    weight: Any, n_samples: int, dtype: Any, what: str = "sample_weight", purpose: str = "learn from"
) -> HostArray:
    """Per-sample weights (n_samples,) of `dtype`: finite, at least 0, not all 0. `what` they are, and what for."""
    weights = finite_weights(weight, n_samples, dtype)
    if n_samples and not weights.any():
        if not as_array(weight, "sample_weight").any():
            raise ValueError(f"{what} is 0 for every sample: there is nothing to {purpose}.")
        raise ValueError(f"{what} rounds to 0 in {np.dtype(dtype).name} for every sample. Divide it by its mean.")
    return weights


def finite_weights(weight: Any, n_samples: int, dtype: Any) -> HostArray:
    """Weights (n_samples,) of `dtype`, finite and at least 0: those of all samples, or of some."""
    array = as_array(weight, "sample_weight")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight expects numbers, got {array.dtype} values.")
    if array.shape != (n_samples,):
        raise ValueError(f"sample_weight expects shape ({n_samples},), one weight per sample, got {array.shape}.")
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise RowError(
            f"sample_weight expects finite weights of at least 0, got {array[bad[0]]:g} in {{row}}.", int(bad[0])
        )
    return _in_range(array, dtype, "sample_weight holds", "Divide the weights by their mean.")


def _in_range(array: HostArray, dtype: Any, holds: str, remedy: str) -> HostArray:
    """A finite array as a C-contiguous one of `dtype`; a ValueError names the first value outside its range."""
    with np.errstate(all="ignore"):
        converted = np.ascontiguousarray(array, dtype)
    if array.dtype.kind == "f" and not np.isfinite(converted).all():
        index = np.argwhere(~np.isfinite(converted))[0]
        raise RowError(
            f"{holds} {array[tuple(index)]:g} ({{row}}), outside the range of {np.dtype(dtype).name}. {remedy}",
            int(index[0]),
        )
    return converted
