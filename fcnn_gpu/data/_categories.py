"""Inputs that are numbers of categories: which columns of X they are, and their check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._checks import RowError
from .._types import Array, HostArray
from ..backend import Ops


@dataclass(frozen=True)
class Categories:
    """Columns of X that a network looks up in tables: integers from 0 to counts − 1. `layers`: whose tables."""

    columns: tuple[int, ...]
    counts: tuple[int, ...]
    layers: tuple[str, ...]

    def wrong(self, X: HostArray) -> HostArray:
        """Which numbers of the columns (n_samples, n_columns) are no categories."""
        x = X[:, self.columns]
        with np.errstate(invalid="ignore"):
            return ~((x >= 0) & (x < np.array(self.counts)) & (x == np.floor(x)))

    def check(self, X: HostArray, who: str, first: int = 0, index: HostArray | None = None) -> None:
        """RowError for a number that is no category in samples from number `first` on (of `index`)."""
        wrong = self.wrong(X)
        if not wrong.any():
            return
        row, i = (int(at) for at in np.argwhere(wrong)[0])
        sample = first + row if index is None else int(index[first + row])
        raise RowError(self._fault(who, float(X[row, self.columns[i]]), i), sample)

    def check_on_device(self, ops: Ops, X: Array, who: str) -> None:
        """The same of samples that lie on the device: the columns are copied to the host."""
        for i, column in enumerate(self.columns):
            x = ops.to_numpy(X[:, column]).astype(np.float64).reshape(-1, 1)
            wrong = Categories((0,), self.counts[i : i + 1], self.layers[i : i + 1]).wrong(x)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise RowError(self._fault(who, float(x[row, 0]), i), row)

    def check_center(self, center: HostArray | None) -> None:
        """ValueError for a center that is subtracted from numbers of categories."""
        moved = [] if center is None else [column for column in self.columns if center[column] != 0.0]
        if center is not None and moved:
            raise ValueError(
                f"Sequential(input_center) moves column {moved[0]} by {center[moved[0]]:g}, whose numbers "
                f"{self.layers[self.columns.index(moved[0])]} looks up. Let its center be 0."
            )

    def _fault(self, who: str, value: float, i: int) -> str:
        return (
            f"{who}: X holds {value:g} ({{row}}, column {self.columns[i]}), where {self.layers[i]} expects the number "
            f"of a category, an integer from 0 to {self.counts[i] - 1}. Number the categories so, and give those that "
            "were not there in training a number of their own."
        )
