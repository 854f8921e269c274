"""What metrics are given, checked: targets, predictions, weights, and what these mean."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np

from .._arrays import as_array
from .._checks import check_bool, check_integer, check_real
from .._types import HostArray
from ._base import Metric, Task

_AnyMetric = TypeVar("_AnyMetric", bound=Metric)


def scores_of(who: str, y_pred: HostArray) -> HostArray:
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


def targets_of(who: str, y_true: HostArray, n_samples: int) -> HostArray:
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


def values(who: str, y_true: HostArray, y_pred: HostArray) -> tuple[HostArray, HostArray]:
    """Targets and predictions as finite float64 (n_samples, n_outputs)."""
    prediction = scores_of(who, y_pred)
    truth = targets_of(who, y_true, len(prediction)).astype(np.float64).reshape(len(prediction), -1)
    if truth.shape != prediction.shape:
        raise ValueError(f"{who} got targets of width {truth.shape[1]} for predictions of {prediction.shape[1]}.")
    return truth, prediction


def truth_and_scores(
    who: str, y_true: HostArray, y_pred: HostArray, multilabel: bool | None
) -> tuple[HostArray, HostArray, int]:
    """Targets as class indices (n_samples,), or as 0/1 (n_samples, n_classes); predictions as given; and n_classes."""
    scores = scores_of(who, y_pred)
    n_outputs = scores.shape[1]
    targets = targets_of(who, y_true, len(scores))
    if multilabel and targets.ndim == 1 and n_outputs == 1:
        targets = targets[:, np.newaxis]
    if targets.ndim == 1:
        if multilabel:
            raise ValueError(f"{who} with multilabel=True expects targets (n_samples, n_classes), got one column.")
        n_classes = max(n_outputs, 2)
        return labels_of(who, targets, n_classes), scores, n_classes
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
        return targets.astype(np.int64), scores, n_outputs
    soft = bool((targets >= 0).all()) and bool(np.allclose(targets.sum(axis=1), 1, atol=1e-4))
    if not soft:
        raise ValueError(
            f"{who} expects class targets whose rows sum to 1 (one-hot or soft), got others. Several labels per sample "
            "are multilabel=True, and go with the loss 'binary_cross_entropy'."
        )
    return targets.argmax(axis=1), scores, n_outputs


def classes(
    who: str, y_true: HostArray, y_pred: HostArray, multilabel: bool | None, threshold: float | None = None
) -> tuple[HostArray, HostArray, int]:
    """Targets and predictions as class indices (n_samples,), or as 0/1 (n_samples, n_classes); and n_classes.

    `threshold` takes the place of ½: the probability beyond which a label, or the second of two classes, is predicted.
    """
    truth, scores, n_classes = truth_and_scores(who, y_true, y_pred, multilabel)
    if truth.ndim == 2:
        return truth, (scores > (0.5 if threshold is None else threshold)).astype(np.int64), n_classes
    if threshold is None:
        return truth, most_probable(scores), n_classes
    if n_classes > 2:
        raise ValueError(f"{who}: a threshold is for two classes, or for labels each; got {n_classes} classes.")
    return truth, (scores[:, -1] > threshold).astype(np.int64), n_classes


def most_probable(scores: HostArray) -> HostArray:
    """Class indices of finite scores (n_samples, n_outputs), of equal ones the first; one column is that of class 1."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0.5).astype(np.int64)
    if scores.shape[1] == 2:  # argmax takes several times as long
        return (scores[:, 1] > scores[:, 0]).astype(np.int64)
    return scores.argmax(axis=1)


def labels_of(who: str, values: HostArray, n_classes: int) -> HostArray:
    labels = values.astype(np.int64)
    if values.dtype.kind != "i" and not (labels == values).all():
        bad = values[labels != values][0]
        raise ValueError(f"{who} expects whole class indices 0 to {n_classes - 1}, got {bad}. Is this a regression?")
    outside = (labels < 0) | (labels >= n_classes)
    if outside.any():
        raise ValueError(f"{who} expects class indices 0 to {n_classes - 1}, got {labels[outside][0]}.")
    return labels


def label_pair(who: str, y_true: HostArray, y_pred: HostArray, n_classes: int) -> tuple[HostArray, HostArray]:
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
        pair.append(labels_of(who, values, n_classes))
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"{who} got {len(pair[0])} targets for {len(pair[1])} predictions; expected as many.")
    return pair[0], pair[1]


def weights_of(who: str, sample_weight: HostArray | None, n_samples: int) -> HostArray | None:
    """Weights as finite float64 (n_samples,) of at least 0, not all of them 0; or None."""
    if sample_weight is None:
        return None
    weights = as_array(sample_weight, f"{who}: sample_weight")
    if weights.dtype.kind not in "biuf" or weights.shape != (n_samples,):
        raise ValueError(
            f"{who} expects sample_weight as {n_samples} numbers, one per sample, got {weights.dtype} {weights.shape}."
        )
    weights = weights.astype(np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"{who} expects weights that are finite, at least 0, and not 0 for all samples.")
    return weights


def mean(numbers: HostArray, weights: HostArray | None) -> HostArray:
    """(1/Σw) Σᵢ wᵢ xᵢ over the samples, x (n_samples, ...)."""
    if weights is None:
        return numbers.mean(axis=0)
    return np.average(numbers, axis=0, weights=weights)


def share(who: str, hits: HostArray, sample_weight: HostArray | None) -> float:
    """Σᵢ wᵢ[hitᵢ]/Σᵢ wᵢ of hits (n_samples,)."""
    weights = weights_of(who, sample_weight, len(hits))
    if weights is None:
        return int(np.count_nonzero(hits)) / len(hits)
    return float(weights[hits].sum() / weights.sum())


def check_multilabel(who: str, value: bool | None) -> None:
    if value is not None:
        check_bool(f"{who}(multilabel)", value)


def check_threshold(who: str, value: float | None) -> None:
    if value is not None:
        check_real(f"{who}(threshold)", value, low=0.0, high=1.0)


def told(metric: _AnyMetric, task: Task) -> _AnyMetric:
    """A metric whose `multilabel` follows from the task, unless it was told already."""
    if getattr(metric, "multilabel", None) is not None:
        return metric
    told = copy.copy(metric)
    object.__setattr__(told, "multilabel", task == "multilabel")  # which a frozen copy of a subclass allows, too
    return told
