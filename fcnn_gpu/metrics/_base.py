"""What every metric has, and the metrics by name: of the registry, or a function of ones own."""

from __future__ import annotations

import functools
import inspect
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from .._registry import Registry
from .._types import HostArray

Task = Literal["classification", "multilabel", "regression"]
"""What targets mean: one class per sample, several labels per sample that do not exclude each other, or values."""
Average = Literal["macro", "micro", "weighted", "binary"]
AVERAGES: tuple[Average, ...] = ("macro", "micro", "weighted", "binary")


class Metric:
    """One number that says how good predictions are: `metric(y_true, y_pred)`, or with weights of the samples.

    Attributes:
        name: the name in the registry.
        label: the name of this configuration, as histories and progress bars show it.
        greater_is_better: whether a monitor should maximize it.
        task: what kind of predictions it is for; None for any.
    """

    name: ClassVar[str]
    greater_is_better: ClassVar[bool]
    task: ClassVar[Literal["classification", "regression"] | None]

    @property
    def label(self) -> str:
        return self.name

    @property
    def reads_ranks_alone(self) -> bool:
        """Whether only the order of a sample's outputs counts, so that logits serve as well as probabilities."""
        return False

    @property
    def adds_up(self) -> bool:
        """Whether it is the share of the samples that are `hits`, which may be counted part by part."""
        return False

    def hits(self, y_true: HostArray, y_pred: HostArray) -> HostArray:
        """Of which samples it is true, (n_samples,) bool, where it `adds_up`."""
        raise NotImplementedError(f"{type(self).__name__} must define hits(y_true, y_pred) where it adds up.")

    def for_task(self, task: Task) -> Self:
        """This metric for what the targets of a loss mean (`Loss.task`): what it was not told yet follows from that.

        ValueError where it measures nothing of the kind.
        """
        if getattr(self, "task", None) == "regression" and task != "regression":
            what = "several labels" if task == "multilabel" else "classes"
            raise ValueError(
                f"{self.label} measures predicted values, and the loss's targets are {what}. Use a metric of these, "
                "such as 'accuracy', 'log_loss' or 'brier'."
            )
        return self

    @property
    def predictions_per_target(self) -> int | None:
        """How many predictions of each target it compares with it, as the loss `Quantile` has them; None for any."""
        return None

    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        """The metric.

        Args:
            y_true: (n_samples,) class indices or values; or (n_samples, n_outputs): one-hot, soft (rows sum to 1) or
                multi-label (zeros and ones) classes, or values.
            y_pred: (n_samples, n_outputs) probabilities or values; (n_samples,) is taken for one column. One column of
                probabilities is that of class 1.
            sample_weight: (n_samples,), of which at least one is not 0: a sample of weight 2 counts as two. A class of
                ones own may do without this argument: it is then given all samples alike.

        Raises:
            ValueError: lengths or widths that do not match, no samples, non-finite numbers, labels that are no class,
                or a matrix of classes where nobody has said what it means (`for_task`, or `multilabel`).
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(y_true, y_pred).")


class OneClass(Metric):
    """A metric of classes that exclude each other."""

    def for_task(self, task: Task) -> Self:
        if task == "multilabel":
            raise ValueError(
                f"{self.label} is for one class per sample, not several labels. Use 'accuracy', 'f1' or 'brier'."
            )
        return self


@functools.lru_cache(maxsize=256)
def _takes_weights(function: Callable[..., Any]) -> bool:
    return "sample_weight" in inspect.signature(function).parameters


def measure(metric: Metric, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None) -> float:
    """The metric of weighted samples; of all alike where it takes no weights, or where members have weights each.

    NaN where all weights are 0: nothing is measured.
    """
    if sample_weight is None or sample_weight.ndim > 1:
        return metric(y_true, y_pred)
    if not sample_weight.any():
        return float("nan")
    if isinstance(metric, FunctionMetric):
        takes = _takes_weights(metric.function)
    else:
        takes = _takes_weights(type(metric).__call__)
    return metric(y_true, y_pred, sample_weight) if takes else metric(y_true, y_pred)


@dataclass(frozen=True)
class FunctionMetric(Metric):
    """A function f(y_true, y_pred) as a metric, whose column has the function's name.

    It is given what a metric is given; weights as well, if it has an argument `sample_weight`. Monitors take a greater
    value for better unless the function has an attribute `greater_is_better` that is False, or they are told.
    """

    name: ClassVar[str] = "function"
    task: ClassVar[Literal["classification", "regression"] | None] = None
    function: Callable[..., Any]

    def __post_init__(self) -> None:
        name = getattr(self.function, "__name__", "<nameless>")
        if not name.isidentifier():
            raise TypeError(
                f"A metric's column is called after its function, and {self.function!r} has no name. Use def."
            )

    @property
    def label(self) -> str:
        name: str = self.function.__name__
        return name

    @property
    def greater_is_better(self) -> bool:  # type: ignore[override]  # of the class for all others
        return bool(getattr(self.function, "greater_is_better", True))

    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        try:
            value = self.function(y_true, y_pred, **weights)
        except Exception as error:
            error.add_note(f"(It was raised by the metric {self.label}.)")
            raise
        value = value.item() if getattr(value, "ndim", None) == 0 else value
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"The metric {self.label} gave {value!r} ({type(value).__name__}); expected a number.")
        return float(value)


_TOP_K = re.compile(r"top_(\d+)_accuracy")
_F_BETA = re.compile(r"f(\d+(?:\.\d+)?)")
_AVERAGED = re.compile(rf"(.+)_({'|'.join(AVERAGES)})")


class MetricRegistry(Registry[Metric]):
    """The metrics by name; `resolve` also understands labels ("top_5_accuracy", "f2", "f1_weighted") and functions."""

    def resolve(self, spec: Any) -> Metric:
        if isinstance(spec, str) and spec not in self and spec not in self.synonyms:
            if match := _TOP_K.fullmatch(spec):
                return self.build({"name": "top_k_accuracy", "k": int(match[1])})
            averaged = _AVERAGED.fullmatch(spec)
            name, average = (averaged[1], {"average": averaged[2]}) if averaged else (spec, {})
            if hasattr(self._members.get(name), "average"):
                return self.build({"name": name} | average)
            if match := _F_BETA.fullmatch(name):
                return self.build({"name": "f_beta", "beta": float(match[1])} | average)
        if callable(spec) and not isinstance(spec, Metric | type):
            return FunctionMetric(spec)
        return super().resolve(spec)


_SYNONYMS = {
    "acc": "accuracy",
    "accuracy_score": "accuracy",
    "auc": "roc_auc",
    "average_precision_score": "average_precision",
    "balanced_accuracy_score": "balanced_accuracy",
    "categorical_accuracy": "accuracy",
    "ece": "calibration_error",
    "matthews_corrcoef": "mcc",
    "mean_absolute_error": "mae",
    "mean_absolute_percentage_error": "mape",
    "mean_squared_error": "mse",
    "median_absolute_error": "median_ae",
    "r2_score": "r2",
    "roc_auc_ovr": "roc_auc",
    "root_mean_squared_error": "rmse",
    "sparse_categorical_accuracy": "accuracy",
    "top_k_categorical_accuracy": "top_k_accuracy",
}
_NEGATED = "not negated: a smaller one is better, which monitors know"
_BINARY = "of two classes' second alone with average='binary'; without, the mean over the classes"
_ELSEWHERE: dict[str, str | None] = {
    "binary_accuracy": "'accuracy', which asks of several labels that all of them are right",
    "brier_score_loss": "'brier'",
    "cross_entropy": "'log_loss'",
    "f1_score": f"'f1', {_BINARY}",
    "fbeta_score": f"'f_beta', {_BINARY}",
    "mean_pinball_loss": "'pinball', with its quantile: fcnn.metrics.Pinball(0.9)",
    "neg_brier_score": f"'brier', {_NEGATED}",
    "neg_log_loss": f"'log_loss', {_NEGATED}",
    "neg_mean_absolute_error": f"'mae', {_NEGATED}",
    "neg_mean_absolute_percentage_error": f"'mape', {_NEGATED}",
    "neg_mean_squared_error": f"'mse', {_NEGATED}",
    "neg_median_absolute_error": f"'median_ae', {_NEGATED}",
    "neg_root_mean_squared_error": f"'rmse', {_NEGATED}",
    "pr_auc": "'average_precision', the sum that takes no straight lines between points of the curve",
    "precision_score": f"'precision', {_BINARY}",
    "recall_score": f"'recall', {_BINARY}",
    "roc_auc_ovo": "'roc_auc', each class against all others",
    "roc_auc_score": "'roc_auc'",
}
METRICS = MetricRegistry("metric", Metric, _SYNONYMS, _ELSEWHERE)
