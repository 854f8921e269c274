"""Numbers that no network may have: weights and outputs that are NaN or infinite, and negative variances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from .._arrays import surely_finite
from .._types import Array, HostArray
from ..backend import Ops
from ..files import BlockMatrix
from ..placement import is_finite


class Named(Protocol):
    """A network, as far as its numbers matter."""

    @property
    def ops(self) -> Ops: ...
    @property
    def precision(self) -> str: ...
    def named_arrays(self) -> dict[str, Array]: ...


class NonFiniteOutputError(ArithmeticError):
    """A network gave NaN or infinity for samples that are finite.

    Attributes: `sample`, the number of the first such sample, or None where only their sum is known.
    """

    def __init__(self, text: str, sample: int | None = None) -> None:
        super().__init__(text)
        self.sample = sample


def check_outputs(model: Named, outputs: HostArray, who: str) -> None:
    """NonFiniteOutputError for outputs (n_samples, n_outputs) that are not finite; says what the network lacks."""
    if surely_finite(outputs) or np.isfinite(outputs).all():
        return
    row, column = (int(i) for i in np.argwhere(~np.isfinite(outputs))[0])
    unsound = next((name for name, array in model.named_arrays().items() if not is_finite(model.ops, array)), None)
    reason = (
        f"{unsound} holds NaN or infinity. Was it kept from training that diverged?"
        if unsound is not None
        else f"a sum has left the range of {model.precision}. Scale X as the network was trained on it."
    )
    raise NonFiniteOutputError(
        f"{who}: output {column} of sample {row} is {outputs[row, column]}, though X is finite: in the network "
        f"{reason}",
        row,
    )


def sound(name: str, values: Any, refuse: Callable[[str], Exception]) -> Any:
    """Weights or statistics if they are finite, and no variance is negative; otherwise `refuse` makes the error.

    A matrix that is not in memory is checked as its blocks are read.
    """
    if isinstance(values, BlockMatrix):
        return _Checked(name, values, refuse)
    _check(name, values, refuse)
    return values


class _Checked(BlockMatrix):
    """A matrix whose blocks are checked when they are read."""

    def __init__(self, name: str, matrix: BlockMatrix, refuse: Callable[[str], Exception]) -> None:
        self.shape, self.dtype = matrix.shape, matrix.dtype
        self._name, self._matrix, self._refuse = name, matrix, refuse

    def blocks(self) -> Iterator[tuple[slice, HostArray]]:
        for rows, block in self._matrix.blocks():
            _check(self._name, block, self._refuse)
            yield rows, block


def _check(name: str, values: HostArray, refuse: Callable[[str], Exception]) -> None:
    if not values.size:
        return
    low, high = values.min(), values.max()  # either is NaN where one of the values is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise refuse(f"{name} holds NaN or infinity")
    if name.endswith("running_var") and low < 0:
        raise refuse(f"{name} holds {low:g}, and no variance is negative")
