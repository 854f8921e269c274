"""Metrics of a data set of which only a stretch is at hand at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._types import HostArray
from .metrics import Metric, add_up


class Scores:
    """The metrics of one pass over n samples, stretch by stretch: the same numbers as of all of them at once.

    Where metrics are shares, the samples of which they are true are counted. Otherwise targets and predictions of all
    samples are kept.
    """

    def __init__(self, metrics: Sequence[Metric], n: int) -> None:
        self._metrics, self._n = metrics, n
        self._counts: dict[str, int] | None = None
        self._kept: tuple[HostArray, HostArray] | None = None

    def add(self, first: int, targets: HostArray, predictions: HostArray) -> None:
        """What came of the samples from position `first` of the pass on."""
        if first == 0:
            self._counts = {metric.label: 0 for metric in self._metrics} if add_up(self._metrics, targets) else None
        if self._counts is not None:
            for metric in self._metrics:
                self._counts[metric.label] += round(metric(targets, predictions) * len(targets))
            return
        if self._kept is None:
            whole = (np.empty((self._n, *array.shape[1:]), array.dtype) for array in (targets, predictions))
            self._kept = next(whole), next(whole)
        for array, kept in zip((targets, predictions), self._kept, strict=True):
            kept[first : first + len(array)] = array

    def values(self) -> dict[str, float]:
        """Each metric by its label."""
        if self._counts is not None:
            return {label: count / self._n for label, count in self._counts.items()}
        assert self._kept is not None
        return {metric.label: metric(*self._kept) for metric in self._metrics}
