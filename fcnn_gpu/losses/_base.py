"""What every loss has: its value and gradient for outputs, and what its outputs mean."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .._arrays import as_array, quietly
from .._registry import Registry, nowhere
from .._types import Array, HostArray
from ..backend import Ops, on_host, ops_for
from ..metrics import Task
from ._targets import check_sample_weight, finite_weights, sum_dtype

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
            given = as_array(on_host(ops, sample_weight, "sample_weight"), "sample_weight")
            if given.ndim == 2:  # a member may have none of a batch's samples
                weights = finite_weights(given, batch, dtype, self.members)
            else:
                weights = check_sample_weight(given, batch, dtype)
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


_SYNONYMS = {
    "absolute_error": "mae",
    "bce_with_logits": "binary_cross_entropy",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "huber_loss": "huber",
    "l1_loss": "mae",
    "logcosh": "log_cosh",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "mse_loss": "mse",
    "pinball": "quantile",
    "poisson_nll_loss": "poisson",
    "sigmoid_binary_cross_entropy": "binary_cross_entropy",
    "smooth_l1_loss": "huber",
    "softmax_cross_entropy": "cross_entropy",
    "softmax_cross_entropy_with_integer_labels": "cross_entropy",
}
_LABELS = "'cross_entropy', which takes logits and class numbers or one-hot rows: the network ends without softmax"
_SIGMOID = "'binary_cross_entropy', which takes logits: the network ends without sigmoid"
_ELSEWHERE: dict[str, str | None] = {
    "bce": _SIGMOID,
    "BCELoss": _SIGMOID,
    "BCEWithLogitsLoss": "'binary_cross_entropy'",
    "binary_crossentropy": _SIGMOID,
    "binary_focal_crossentropy": "'focal', of two outputs and of logits",
    "categorical_crossentropy": _LABELS,
    "categorical_focal_crossentropy": "'focal', which takes logits: the network ends without softmax",
    "categorical_hinge": "'hinge', of 0/1 rows, each output by itself",
    "CrossEntropyLoss": "'cross_entropy'",
    "focal_loss": "'focal'",
    "KLDivLoss": "'kl_divergence', which takes logits and target probabilities: the network ends without log-softmax",
    "kl_div": "'kl_divergence', which takes logits and target probabilities: the network ends without log-softmax",
    "kullback_leibler_divergence": "'kl_divergence', which takes logits: the network ends without softmax",
    "l2_loss": "'mse', without the factor ½",
    "LinearCrossEntropyLoss": "'cross_entropy', behind a Dense layer",
    "log_loss": "'cross_entropy', or 'binary_cross_entropy' for a single output",
    "MultiLabelSoftMarginLoss": "'binary_cross_entropy'",
    "NLLLoss": "'cross_entropy', which takes logits: the network ends without log-softmax",
    "smooth_l1": "'huber'",
    "SoftMarginLoss": "'binary_cross_entropy', with targets 0 and 1 in place of −1 and 1",
    "sparse_categorical_crossentropy": _LABELS,
    "squared_error": "'mse', without scikit-learn's factor ½",
    "squared_hinge": "'hinge', with squared=True: fcnn.Hinge(squared=True)",
} | nowhere("""
    AdaptiveLogSoftmaxWithLoss CosineEmbeddingLoss CTCLoss GaussianNLLLoss HingeEmbeddingLoss MarginRankingLoss
    MultiLabelMarginLoss MultiMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss cosine_similarity ctc
    NLLLoss2d dice tversky mean_absolute_percentage_error mape mean_squared_logarithmic_error msle
""")
LOSSES: Registry[Loss] = Registry("loss", Loss, _SYNONYMS, _ELSEWHERE)
