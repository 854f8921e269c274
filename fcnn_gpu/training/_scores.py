"""Metrics of a data set of which only a stretch is at hand at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .._console import counted
from .._types import HostArray
from ..data import add_up, restored
from ..losses import Loss
from ..metrics import Metric, measure


class Scores:
    """The metrics of one pass over n samples, stretch by stretch: the same numbers as of all of them at once.

    Where metrics are shares, the samples of which they are true are counted, or their weights added up. Otherwise
    targets, predictions and weights of all samples are kept.
    """

    def __init__(self, metrics: Sequence[Metric], n: int, output_center: HostArray | None = None) -> None:
        self._metrics, self._n, self._center = metrics, n, output_center
        self._counts: dict[str, float] | None = None
        self._weight = 0.0
        self._kept: tuple[HostArray, HostArray, HostArray | None] | None = None

    def add(
        self, first: int, targets: HostArray, predictions: HostArray, sample_weight: HostArray | None = None
    ) -> None:
        """What came of samples from position `first` of the pass on: the loss's targets, predictions, and weights."""
        targets = restored(targets, self._center)
        if sample_weight is not None and sample_weight.ndim > 1:
            sample_weight = None
        if first == 0:
            self._counts = {metric.label: 0 for metric in self._metrics} if add_up(self._metrics) else None
            self._weight = 0.0
        if self._counts is not None:
            self._count(self._counts, targets, predictions, sample_weight)
            return
        parts = targets, predictions, sample_weight
        if self._kept is None:
            weights = None if sample_weight is None else np.empty(self._n, sample_weight.dtype)
            whole = (np.empty((self._n, *array.shape[1:]), array.dtype) for array in (targets, predictions))
            self._kept = next(whole), next(whole), weights
        for array, kept in zip(parts, self._kept, strict=True):
            if array is not None and kept is not None:
                kept[first : first + len(array)] = array

    def _count(
        self, counts: dict[str, float], targets: HostArray, predictions: HostArray, sample_weight: HostArray | None
    ) -> None:
        weights = np.ones(len(targets)) if sample_weight is None else sample_weight.astype(np.float64)
        self._weight += float(weights.sum())
        for metric in self._metrics:
            counts[metric.label] += float(weights[metric.hits(targets, predictions)].sum())

    def values(self) -> dict[str, float]:
        """Each metric by its label."""
        if self._counts is not None:
            weight = self._weight
            return {label: count / weight if weight else math.nan for label, count in self._counts.items()}
        assert self._kept is not None
        return {metric.label: measure(metric, *self._kept) for metric in self._metrics}


def check_predictions_per_target(metric: Metric, loss: Loss) -> None:
    """A ValueError for a metric of several predictions of a target where the loss has another number of them."""
    expected, found = metric.predictions_per_target, loss.outputs_per_target
    if expected is not None and expected != found:
        raise ValueError(
            f"{metric.label} compares each target with {counted(expected, 'predicted quantile')}, and the loss "
            f"{loss.name} has {counted(found, 'output')} of it. Train with as many: Quantile([0.05, 0.95]) has 2."
        )


_TRIAL_SAMPLES = 1000
"""Metrics are tried on at most so many samples before a run: enough to see whether they fit."""


def try_metrics(metrics: Sequence[Metric], targets: HostArray, n_out: int, link: str) -> None:
    """Compute each metric once on made-up predictions: one that does not fit raises now, not after an epoch."""
    labels = [metric.label for metric in metrics]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"Two metrics are called {label!r}, and the history has one column for it. Leave one out.")
    targets = targets[:: -(-len(targets) // _TRIAL_SAMPLES)]  # spread out: sorted labels begin with one class
    predictions = np.random.default_rng(0).random((len(targets), n_out))
    if link == "softmax":
        predictions /= predictions.sum(axis=1, keepdims=True)
    for metric in metrics:
        metric(targets, predictions)
