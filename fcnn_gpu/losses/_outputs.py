"""Losses that are a mean over a sample's outputs, each with a target of its own."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._checks import RowError, check_bool, check_in_dtype, check_real, check_settings
from .._registry import OMITTED_IF_DEFAULT
from .._types import Array, HostArray
from ..backend import Ops
from ._base import LOSSES, Loss
from ._targets import check_target_matrix, sum_dtype, target_array


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
