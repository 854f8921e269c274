"""Layers that embed some units of their input and pass on the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._checks import check_integer
from ..backend import Columns, Ops
from ._base import Layer
from .branches import Branches


def check_columns(who: str, columns: Any) -> list[int] | None:
    """`columns` as a list of different unit numbers of at least 0, or None for all units."""
    if columns is None:
        return None
    if isinstance(columns, str | bytes) or not isinstance(columns, Sequence | np.ndarray | range):
        raise TypeError(f"{who} expects a list of unit numbers, or None for all units, got {columns!r}.")
    numbers = [check_integer(f"{who}, number {i},", column, low=0) for i, column in enumerate(columns)]
    if not numbers:
        raise ValueError(f"{who} expects at least one unit number, or None for all units; got an empty list.")
    again = next((column for i, column in enumerate(numbers) if column in numbers[:i]), None)
    if again is not None:
        raise ValueError(f"{who} names unit {again} twice. A unit is embedded once: leave one out.")
    return numbers


class EmbeddingLayer(Layer):
    """What layers that embed units have in common. `columns`: which, in their order; None for all."""

    columns: Any

    def embedded(self, n_in: int) -> list[int]:
        """The numbers of the embedded units. ValueError where the input has no such unit."""
        if self.columns is None:
            return list(range(n_in))
        beyond = [column for column in self.columns if column >= n_in]
        if beyond:
            raise ValueError(
                f"{type(self).__name__}(columns) names unit {beyond[0]}, but the input of the layer has the units 0 to "
                f"{n_in - 1}."
            )
        return list(self.columns)

    def order(self, n_in: int) -> list[int]:
        """All units of the input: the embedded ones, then the others, which follow behind them unchanged."""
        embedded = self.embedded(n_in)
        chosen = set(embedded)
        return [*embedded, *(unit for unit in range(n_in) if unit not in chosen)]

    def columns_on(self, ops: Ops) -> Columns:
        """`order` on a device."""
        order = self.order(self.n_in)
        return Columns(on_device(ops, order), tuple(order), len(self.embedded(self.n_in)))

    def passed_on(self, n_in: int) -> list[int | None]:
        """For every unit of the output which unit of the input it is, unchanged; None for what is computed."""
        rest = self.order(n_in)[len(self.embedded(n_in)) :]
        n_out = self.shapes(n_in)[0]
        return [None] * (n_out - len(rest)) + list(rest)

    def categories(self, n_in: int) -> Iterator[tuple[int, int]]:
        """(unit, number of categories) of the units whose numbers are looked up in tables."""
        return iter(())

    def shape_in_file(self, name: str, shape: tuple[int, int]) -> tuple[int, ...]:
        return shape


def on_device(ops: Ops, numbers: Sequence[int]) -> Any:
    """int64 numbers, as kernels take them."""
    return ops.asarray(np.array(numbers, np.int64))


def category_columns(layers: Sequence[Layer], n_in: int) -> dict[int, tuple[int, str]]:
    """Which inputs of a network are looked up in a table as they are: how many categories each has, and for whom."""
    found: dict[int, tuple[int, str]] = {}
    inputs: Sequence[int | None] = range(n_in)  # no list: there may be a billion
    for layer in layers:
        if isinstance(layer, Branches):
            for branch in layer.branches:
                for unit, (n, name) in category_columns(branch, len(inputs)).items():
                    column = inputs[unit]
                    if column is not None and n <= found.get(column, (n, name))[0]:  # of the smallest table
                        found[column] = n, name
            break
        if not isinstance(layer, EmbeddingLayer):
            break
        for unit, n in layer.categories(len(inputs)):
            column = inputs[unit]
            if column is not None:
                found[column] = (n, type(layer).__name__)
        inputs = [None if unit is None else inputs[unit] for unit in layer.passed_on(len(inputs))]
    return found
