"""Prepared samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._types import HostArray
from ..losses import check_sample_weight


class Samples(NamedTuple):
    """What a network is fed with: inputs (n, n_in), targets (n,) or (n, n_out) and weights (n,), None for all equal."""

    inputs: HostArray
    targets: HostArray
    weights: HostArray | None

    def that_count(self) -> Samples:
        """Those that have a weight: one of weight 0 has no part in anything."""
        if self.weights is None or self.weights.all():
            return self
        return self.take(np.flatnonzero(self.weights))

    def take(self, rows: HostArray) -> Samples:
        """Some of them."""
        return Samples(*(None if array is None else array[rows] for array in self))  # type: ignore[arg-type]


def to_mean_one(weights: HostArray, dtype: Any) -> HostArray:
    """Weights (n,) over the mean of those greater than 0, as a run takes them.

    They say how samples compare, and leave the loss its scale.
    """
    scale = weights[weights > 0].mean() if weights.any() else 1.0
    return check_sample_weight(weights / scale, len(weights), np.dtype(dtype), "sample_weight")
