"""Prepared samples."""

from __future__ import annotations

from typing import NamedTuple

from .._types import HostArray


class Samples(NamedTuple):
    """What a network is fed with: inputs (n, n_in), targets (n,) or (n, n_out) and weights (n,), None for all equal."""

    inputs: HostArray
    targets: HostArray
    weights: HostArray | None

    def take(self, rows: HostArray) -> Samples:
        """Some of them."""
        return Samples(*(None if array is None else array[rows] for array in self))  # type: ignore[arg-type]
