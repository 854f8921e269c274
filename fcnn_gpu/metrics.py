"""Metrics: what a person reads off a trained model, computed on the host with scikit-learn's definitions.

A metric compares targets with the model's predictions after the loss's link: class probabilities, or values. It
takes part in no gradient; losses do (see losses/). Accuracy and the metrics of values are a few lines of NumPy;
scikit-learn, which takes a second to import, is imported when the first of the others is computed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypedDict, TypeVar

import numpy as np

from ._arrays import as_array, quietly
from ._checks import check_bool, check_choice, check_integer
from ._registry import Registry
from ._types import HostArray

Task = Literal["classification", "multilabel", "regression"]
"""What targets mean: one class per sample, several labels per sample that do not exclude each other, or values."""
Average = Literal["macro", "micro", "weighted", "binary"]
_AnyMetric = TypeVar("_AnyMetric", bound="Metric")
AVERAGES: tuple[Average, ...] = ("macro", "micro", "weighted", "binary")


class Metric:
    """One number that says how good predictions are: `metric(y_true, y_pred)`.

    Attributes:
        name: the name in the registry.
        label: the name of this configuration, as histories and progress bars show it.
        greater_is_better: whether a monitor should maximize it.
        task: what kind of predictions it is for.
    """

    name: ClassVar[str]
    greater_is_better: ClassVar[bool]
    task: ClassVar[Literal["classification", "regression"]]

    @property
    def label(self) -> str:
        return self.name

    @property
    def reads_ranks_alone(self) -> bool:
        """Whether only the order of a sample's outputs counts, so that logits serve as well as probabilities."""
        return False

    def for_task(self, task: Task) -> Self:
        """This metric for what the targets of a loss mean (`Loss.task`): what it was not told yet follows from that.

        ValueError where it measures nothing of the kind.
        """
        return self

    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        """The metric.

        Args:
            y_true: (n_samples,) class indices or values; or (n_samples, n_outputs): one-hot, soft (rows sum to 1) or
                multi-label (zeros and ones) classes, or values.
            y_pred: (n_samples, n_outputs) probabilities or values; (n_samples,) is taken for one column. One column of
                probabilities is that of class 1.

        Raises:
            ValueError: lengths or widths that do not match, no samples, non-finite numbers, labels that are no class,
                or a matrix of classes where nobody has said what it means (`for_task`, or `multilabel`).
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(y_true, y_pred).")


class MetricRegistry(Registry[Metric]):
    """The metrics by name; `resolve` also understands "top_5_accuracy" for any k."""

    def resolve(self, spec: str | Metric | type[Metric] | dict[str, Any]) -> Metric:
        if isinstance(spec, str) and (match := re.fullmatch(r"top_(\d+)_accuracy", spec)):
            return TopKAccuracy(k=int(match[1]))
        return super().resolve(spec)


METRICS = MetricRegistry("metric", Metric)


@METRICS.register("accuracy")
@dataclass(frozen=True)
class Accuracy(Metric):
    """(1/n) Σᵢ [ŷᵢ = yᵢ], the share of samples whose predicted class is right.

    The predicted class is the column with the largest probability, or, of a single column, 1 where it exceeds ½.
    With several labels per sample every one of them must be right (subset accuracy).

    Args:
        multilabel: whether a matrix `y_true` means several labels per sample, in zeros and ones, or one class per
            sample, in rows that sum to 1. None: as the loss of a `Trainer` says (`for_task`); called by itself, such a
            metric takes no matrix, of which zeros and ones may mean either.

    >>> Accuracy()(np.array([0, 1, 2]), np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]))
    0.6666666666666666
    """

    greater_is_better: ClassVar[bool] = True
    task: ClassVar[Literal["classification", "regression"]] = "classification"
    multilabel: bool | None = None

    def __post_init__(self) -> None:
        _check_multilabel(self.name, self.multilabel)

    @property
    def reads_ranks_alone(self) -> bool:
        return type(self).__call__ is Accuracy.__call__ and not self.multilabel

    def for_task(self, task: Task) -> Self:
        return _told(self, task)

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        truth, prediction, _ = _classes(self.name, y_true, y_pred, self.multilabel)
        right = truth == prediction
        return int(np.count_nonzero(right if right.ndim == 1 else right.all(axis=1))) / len(right)


@METRICS.register("top_k_accuracy")
@dataclass(frozen=True)
class TopKAccuracy(Metric):
    """The share of samples whose class is among the k columns with the largest probabilities.

    The string "top_3_accuracy" is short for `TopKAccuracy(k=3)`. Among equal probabilities the higher class index comes
    first, as in scikit-learn.

    Args:
        k: at least 1, and at most the number of classes (where it is 1 by definition).
    """

    greater_is_better: ClassVar[bool] = True
    task: ClassVar[Literal["classification", "regression"]] = "classification"
    k: int = 5

    def __post_init__(self) -> None:
        check_integer("TopKAccuracy(k)", self.k, low=1)

    @property
    def label(self) -> str:
        return f"top_{self.k}_accuracy"

    @property
    def reads_ranks_alone(self) -> bool:
        return type(self).__call__ is TopKAccuracy.__call__

    def for_task(self, task: Task) -> Self:
        if task == "multilabel":
            raise ValueError(f"{self.label} is for one class per sample, not several labels. Use 'accuracy' or 'f1'.")
        return self

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        from sklearn.metrics import top_k_accuracy_score

        truth, prediction, n_classes = _classes(self.label, y_true, y_pred, False)
        if self.k > n_classes:
            raise ValueError(f"{self.label} needs at least {self.k} classes, the predictions have {n_classes}.")
        if self.k == n_classes:
            return 1.0
        if n_classes == 2:
            return float(np.mean(truth == prediction))
        scores = _scores(self.label, y_pred)
        return float(top_k_accuracy_score(truth, scores, k=self.k, labels=np.arange(n_classes)))


@dataclass(frozen=True)
class _Averaged(Metric):
    """What precision, recall and F1 share.

    Args:
        average: "macro", "weighted", "micro" or "binary"; see `Precision`.
        multilabel: as in `Accuracy`.
    """

    greater_is_better: ClassVar[bool] = True
    task: ClassVar[Literal["classification", "regression"]] = "classification"
    average: Average = "macro"
    multilabel: bool | None = None

    def __post_init__(self) -> None:
        check_choice(f"{type(self).__name__}(average)", self.average, AVERAGES)
        _check_multilabel(type(self).__name__, self.multilabel)

    @property
    def label(self) -> str:
        return self.name if self.average == "macro" else f"{self.name}_{self.average}"

    def for_task(self, task: Task) -> Self:
        if task == "multilabel" and self.average == "binary":
            raise ValueError(f"{self.label} is for two classes, not for several labels. Use average='macro'.")
        return _told(self, task)

    def _decisions(self, y_true: HostArray, y_pred: HostArray) -> tuple[HostArray, HostArray, Average]:
        """Targets, predictions, and the average for scikit-learn."""
        truth, prediction, n_classes = _classes(self.label, y_true, y_pred, self.multilabel)
        if self.average == "binary" and (n_classes != 2 or truth.ndim == 2):
            kind = "several labels per sample" if truth.ndim == 2 else f"{n_classes} classes"
            raise ValueError(f"{self.label} is for two classes, got {kind}. Use average='macro'.")
        if truth.ndim == 2 and truth.shape[1] == 1:  # of one label, every mean over the labels is its own number
            return truth[:, 0], prediction[:, 0], "binary"
        return truth, prediction, self.average


@METRICS.register("precision")
@dataclass(frozen=True)
class Precision(_Averaged):
    """TP / (TP + FP) per class, averaged: of the samples predicted as a class, the share that are of it.

    A class that is never predicted counts as 0.

    Args:
        average: "macro" (the plain mean over the classes that occur in targets or predictions), "weighted" (by how
            often each occurs in the targets), "micro" (all decisions counted at once) or "binary" (class 1 alone).
        multilabel: as in `Accuracy`.
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        from sklearn.metrics import precision_score

        truth, prediction, average = self._decisions(y_true, y_pred)
        return float(precision_score(truth, prediction, average=average, zero_division=0))


@METRICS.register("recall")
@dataclass(frozen=True)
class Recall(_Averaged):
    """TP / (TP + FN) per class, averaged: of the samples of a class, the share predicted as it.

    A class that never occurs among the targets counts as 0. The arguments are those of `Precision`.
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        from sklearn.metrics import recall_score

        truth, prediction, average = self._decisions(y_true, y_pred)
        return float(recall_score(truth, prediction, average=average, zero_division=0))


@METRICS.register("f1")
@dataclass(frozen=True)
class F1(_Averaged):
    """2·TP / (2·TP + FP + FN) per class, averaged: the harmonic mean of precision and recall.

    The arguments are those of `Precision`.
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        from sklearn.metrics import f1_score

        truth, prediction, average = self._decisions(y_true, y_pred)
        return float(f1_score(truth, prediction, average=average, zero_division=0))


@METRICS.register("r2")
@dataclass(frozen=True)
class R2(Metric):
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)², the share of the targets' variance that is explained.

    Several outputs are averaged. Constant targets give 1 if every prediction is right and 0 otherwise.
    """

    greater_is_better: ClassVar[bool] = True
    task: ClassVar[Literal["classification", "regression"]] = "regression"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        truth, prediction = _values(self.name, y_true, y_pred)
        if len(truth) < 2:
            raise ValueError("r2 needs at least 2 samples: one has no variance.")
        unexplained = np.square(truth - prediction).sum(axis=0)
        variance = np.square(truth - truth.mean(axis=0)).sum(axis=0)
        scores, varied = np.where(unexplained == 0, 1.0, 0.0), variance != 0
        scores[varied] = 1.0 - unexplained[varied] / variance[varied]
        return float(scores.mean())


@METRICS.register("mae")
@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    """(1/n) Σ|y − ŷ|, averaged over the outputs."""

    greater_is_better: ClassVar[bool] = False
    task: ClassVar[Literal["classification", "regression"]] = "regression"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        truth, prediction = _values(self.name, y_true, y_pred)
        return float(np.abs(truth - prediction).mean(axis=0).mean())


@METRICS.register("mse")
@dataclass(frozen=True)
class MeanSquaredError(Metric):
    """(1/n) Σ(y − ŷ)², averaged over the outputs; without the factor ½."""

    greater_is_better: ClassVar[bool] = False
    task: ClassVar[Literal["classification", "regression"]] = "regression"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        truth, prediction = _values(self.name, y_true, y_pred)
        return float(np.square(truth - prediction).mean(axis=0).mean())


@METRICS.register("rmse")
@dataclass(frozen=True)
class RootMeanSquaredError(Metric):
    """√((1/n) Σ(y − ŷ)²) of each output, averaged over the outputs."""

    greater_is_better: ClassVar[bool] = False
    task: ClassVar[Literal["classification", "regression"]] = "regression"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
        truth, prediction = _values(self.name, y_true, y_pred)
        return float(np.sqrt(np.square(truth - prediction).mean(axis=0)).mean())


class ClassScores(TypedDict):
    """Precision, recall and F1 of one class, and how many samples of it there are."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class Report(TypedDict):
    """What `classification_report` returns: plain data, ready for a table or JSON."""

    accuracy: float
    classes: list[ClassScores]
    macro: ClassScores
    weighted: ClassScores


@quietly
def predicted_classes(y_pred: HostArray, threshold: float | None = None) -> HostArray:
    """Class indices (n_samples,) from probabilities (n_samples, n_outputs); one column is that of class 1.

    The most probable class, of equal ones the first; with a `threshold`, of two classes the second where its
    probability is larger.

    >>> predicted_classes(np.array([[0.2, 0.8], [0.9, 0.1]]))
    array([1, 0])
    >>> predicted_classes(np.array([0.7, 0.5]))
    array([1, 0])
    >>> predicted_classes(np.array([[0.7, 0.3], [0.9, 0.1]]), threshold=0.2)
    array([1, 0])
    """
    scores = _scores("predicted_classes", y_pred)
    if threshold is None:
        return _most_probable(scores)
    if scores.shape[1] > 2:
        raise ValueError(f"predicted_classes(threshold) is of two classes, got predictions of {scores.shape[1]}.")
    return (scores[:, -1] > threshold).astype(np.int64)


@quietly
def confusion_matrix(y_true: HostArray, y_pred: HostArray, n_classes: int) -> HostArray:
    """C (n_classes, n_classes) int64: C[i, j] samples of class i were predicted as class j.

    Args:
        y_true: (n_samples,) class indices.
        y_pred: (n_samples,) predicted class indices (`predicted_classes` makes them from probabilities).
        n_classes: how many classes there are.

    Raises:
        ValueError: different lengths, no samples, or labels that are not 0 to n_classes − 1.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), n_classes=2)
    array([[1, 0],
           [1, 1]])
    """
    from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

    truth, prediction = _label_pair("confusion_matrix", y_true, y_pred, n_classes)
    return sklearn_confusion_matrix(truth, prediction, labels=np.arange(n_classes)).astype(np.int64)


@quietly
def classification_report(
    y_true: HostArray, y_pred: HostArray, n_classes: int, class_names: Sequence[str] | None = None
) -> Report:
    """Accuracy, and precision, recall, F1 and support of every class, with their plain and weighted means.

    Args:
        y_true: (n_samples,) class indices.
        y_pred: (n_samples,) predicted class indices.
        n_classes: how many classes there are; those without samples are listed too, and count in the means.
        class_names: what to call them; default "0", "1", ...

    Raises:
        ValueError: as `confusion_matrix`; or class_names of another length.

    >>> report = classification_report(np.array([0, 1, 1]), np.array([0, 1, 0]), 2, ["cat", "dog"])
    >>> report["classes"][1]
    {'name': 'dog', 'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666, 'support': 2}
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, prediction = _label_pair("classification_report", y_true, y_pred, n_classes)
    names = [str(i) for i in range(n_classes)] if class_names is None else [str(name) for name in class_names]
    if len(names) != n_classes:
        raise ValueError(f"classification_report expects {n_classes} class_names, got {len(names)}.")
    labels = np.arange(n_classes)

    def scores_of(average: str | None) -> Any:
        return precision_recall_fscore_support(truth, prediction, labels=labels, average=average, zero_division=0)

    def mean(average: str) -> ClassScores:
        precision, recall, f1, _ = scores_of(average)
        return _class_scores(f"{average} mean", precision, recall, f1, len(truth))

    rows = zip(names, *scores_of(None), strict=True)
    return {
        "accuracy": float(np.mean(truth == prediction)),
        "classes": [_class_scores(*row) for row in rows],
        "macro": mean("macro"),
        "weighted": mean("weighted"),
    }


def _class_scores(name: str, precision: float, recall: float, f1: float, support: int) -> ClassScores:
    return {
        "name": name,
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "support": int(support),
    }


def _check_multilabel(who: str, value: bool | None) -> None:
    if value is not None:
        check_bool(f"{who}(multilabel)", value)


def _told(metric: _AnyMetric, task: Task) -> _AnyMetric:
    """A metric whose `multilabel` follows from the task, unless it was told already."""
    if getattr(metric, "multilabel", None) is not None:
        return metric
    told = copy.copy(metric)
    object.__setattr__(told, "multilabel", task == "multilabel")  # which a frozen copy of a subclass allows, too
    return told


def _scores(who: str, y_pred: HostArray) -> HostArray:
    """Predictions as finite float64 (n_samples, n_outputs)."""
    scores = as_array(y_pred, f"{who}: the predictions")
    if scores.dtype.kind not in "biuf":
        raise TypeError(f"{who} expects predictions of real numbers, got {scores.dtype}.")
    if scores.ndim == 1:
        scores = scores[:, np.newaxis]
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"{who} expects predictions of shape (n_samples, n_outputs), got {scores.shape}.")
    scores = scores.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        row = int(np.argwhere(~np.isfinite(scores))[0, 0])
        raise ValueError(f"{who} got a prediction that is not finite, first in sample {row}. Did training diverge?")
    return scores


def _targets(who: str, y_true: HostArray, n_samples: int) -> HostArray:
    """Targets as finite numbers, (n_samples,) or (n_samples, at least 2)."""
    targets = as_array(y_true, f"{who}: the targets")
    if targets.dtype.kind not in "biuf":
        raise TypeError(f"{who} expects targets of real numbers, got {targets.dtype}.")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim not in (1, 2):
        raise ValueError(f"{who} expects targets of shape (n_samples,) or (n_samples, n), got {targets.shape}.")
    if len(targets) != n_samples:
        raise ValueError(f"{who} got {len(targets)} targets for {n_samples} predictions; expected as many.")
    if not np.isfinite(targets).all():
        raise ValueError(f"{who} got a target that is not finite.")
    return targets


def _values(who: str, y_true: HostArray, y_pred: HostArray) -> tuple[HostArray, HostArray]:
    prediction = _scores(who, y_pred)
    truth = _targets(who, y_true, len(prediction)).astype(np.float64).reshape(len(prediction), -1)
    if truth.shape != prediction.shape:
        raise ValueError(f"{who} got targets of width {truth.shape[1]} for predictions of {prediction.shape[1]}.")
    return truth, prediction


def _classes(
    who: str, y_true: HostArray, y_pred: HostArray, multilabel: bool | None
) -> tuple[HostArray, HostArray, int]:
    """Targets and predictions as class indices (n_samples,), or as 0/1 (n_samples, n_classes); and n_classes."""
    scores = _scores(who, y_pred)
    n_outputs = scores.shape[1]
    targets = _targets(who, y_true, len(scores))
    if multilabel and targets.ndim == 1 and n_outputs == 1:
        targets = targets[:, np.newaxis]
    if targets.ndim == 1:
        if multilabel:
            raise ValueError(f"{who} with multilabel=True expects targets (n_samples, n_classes), got one column.")
        n_classes = max(n_outputs, 2)
        return _labels(who, targets, n_classes), _most_probable(scores), n_classes
    if targets.shape[1] != n_outputs:
        raise ValueError(f"{who} got targets of width {targets.shape[1]} for predictions of {n_outputs} columns.")
    if multilabel is None:
        raise ValueError(
            f"{who} cannot know what a matrix of targets means, {targets.shape}: say multilabel=False where each row "
            "is one class (one-hot or soft), or multilabel=True where a sample may have several labels. Class numbers "
            "(n_samples,) need neither."
        )
    if multilabel:
        if not np.isin(targets, (0, 1)).all():
            raise ValueError(f"{who} with multilabel=True expects targets of zeros and ones.")
        return targets.astype(np.int64), (scores > 0.5).astype(np.int64), n_outputs
    soft = bool((targets >= 0).all()) and bool(np.allclose(targets.sum(axis=1), 1, atol=1e-4))
    if not soft:
        raise ValueError(
            f"{who} expects class targets whose rows sum to 1 (one-hot or soft), got others. Several labels per sample "
            "are multilabel=True, and go with the loss 'binary_cross_entropy'."
        )
    return targets.argmax(axis=1), scores.argmax(axis=1), n_outputs


def _most_probable(scores: HostArray) -> HostArray:
    """Class indices of finite scores (n_samples, n_outputs), of equal ones the first; one column is that of class 1."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0.5).astype(np.int64)
    if scores.shape[1] == 2:  # argmax takes several times as long
        return (scores[:, 1] > scores[:, 0]).astype(np.int64)
    return scores.argmax(axis=1)


def _labels(who: str, values: HostArray, n_classes: int) -> HostArray:
    labels = values.astype(np.int64)
    if values.dtype.kind != "i" and not (labels == values).all():
        bad = values[labels != values][0]
        raise ValueError(f"{who} expects whole class indices 0 to {n_classes - 1}, got {bad}. Is this a regression?")
    outside = (labels < 0) | (labels >= n_classes)
    if outside.any():
        raise ValueError(f"{who} expects class indices 0 to {n_classes - 1}, got {labels[outside][0]}.")
    return labels


def _label_pair(who: str, y_true: HostArray, y_pred: HostArray, n_classes: int) -> tuple[HostArray, HostArray]:
    n_classes = check_integer(f"{who}(n_classes)", n_classes, low=2)
    pair = []
    for what, given in (("y_true", y_true), ("y_pred", y_pred)):
        values = as_array(given, f"{who}: {what}")
        if values.dtype.kind not in "biuf" or values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"{who} expects {what} as class indices of shape (n_samples,), got {values.dtype} {values.shape}."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{who} got a {what} that is not finite.")
        pair.append(_labels(who, values, n_classes))
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"{who} got {len(pair[0])} targets for {len(pair[1])} predictions; expected as many.")
    return pair[0], pair[1]
