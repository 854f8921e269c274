"""The probability beyond which a sample counts as positive, chosen by a metric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._types import HostArray

_Counts = HostArray
"""Weights of true positives, false positives, false negatives and true negatives, at each threshold."""


def _ratio(a: HostArray, b: HostArray) -> HostArray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _accuracy(tp: _Counts, fp: _Counts, fn: _Counts, tn: _Counts) -> HostArray:
    return (tp + tn) / (tp + fp + fn + tn)


def _balanced_accuracy(tp: _Counts, fp: _Counts, fn: _Counts, tn: _Counts) -> HostArray:
    return 0.5 * (_ratio(tp, tp + fn) + _ratio(tn, tn + fp))


def _f1(tp: _Counts, fp: _Counts, fn: _Counts, tn: _Counts) -> HostArray:
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _mcc(tp: _Counts, fp: _Counts, fn: _Counts, tn: _Counts) -> HostArray:
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


THRESHOLD_METRICS: dict[str, Callable[[_Counts, _Counts, _Counts, _Counts], HostArray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "mcc": _mcc,
}
"""By name: accuracy, mean recall of both classes, F1 of the second, Matthews' correlation coefficient."""


def best_threshold(p: HostArray, labels: HostArray, weights: HostArray | None, metric: str) -> float:
    """t in (0, 1) for which the labels p > t are best by a metric, halfway between the two samples that it parts.

    `p` (n_samples,) are probabilities of class 1, `labels` are 0 and 1. Of equally good ones, that nearest to ½.

    >>> best_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]), None, "f1")
    0.25
    """
    w = np.ones(len(p)) if weights is None else weights.astype(np.float64)
    values, place = np.unique(p.astype(np.float64), return_inverse=True)
    positive = np.bincount(place, w * (labels == 1), len(values))
    negative = np.bincount(place, w * (labels == 0), len(values))
    fn = np.concatenate([[0.0], np.cumsum(positive)])
    tn = np.concatenate([[0.0], np.cumsum(negative)])
    edges = np.concatenate([[0.0], values, [1.0]])
    thresholds = (edges[:-1] + edges[1:]) / 2
    scores = THRESHOLD_METRICS[metric](fn[-1] - fn, tn[-1] - tn, fn, tn)
    inside = (thresholds > 0) & (thresholds < 1)
    if not inside.any():  # all samples have probability 0, or all 1
        return 0.5
    best = inside & (scores >= scores[inside].max() - 1e-12)
    return float(thresholds[best][np.abs(thresholds[best] - 0.5).argmin()])
