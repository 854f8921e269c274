"""Categories embedded by tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._checks import check_integer
from .._types import Array
from ..backend import Tables
from ..initializers import INITIALIZERS, Initializer
from ._base import LAYERS, Binding, Parameter, Plan, live
from ._columns import EmbeddingLayer, check_columns, on_device

_MOST_SHOWN = 3
"""Tables whose categories `repr` counts."""


@LAYERS.register("embedding")
@dataclass(eq=False, repr=False)
class Embedding(EmbeddingLayer):
    """Each unit of `columns` (None: every unit) holds the number i of a category and becomes row i of its table.

    Row i of table c is learned, E_c (n_categories, outputs), and ∂L/∂E_c,i = Σ of dA over the samples of category i, 0
    where the batch has none. The unit itself gets no gradient. Output: the rows, in the order of `columns`, then the
    other units unchanged. `n_categories` and `outputs`: one number for all tables, or a list with one for each.
    `init`: a name or an `Initializer`, which draws a table as a weight matrix (outputs, n_categories) transposed; None
    takes N(0, 1), as PyTorch's `Embedding` does.

    Categories are counted from 0. Where a network's input is one, a number that is none is a ValueError before training
    or prediction that says in which sample and column; computed by other layers, its row is NaN. ValueError for a unit
    that the input does not have, for lists of another length than the columns', and in 16-bit precision for more
    categories than its numbers tell apart.
    Source: Guo & Berkhahn (2016), "Entity embeddings of categorical variables", section 3.
    """

    columns: Any
    n_categories: Any
    outputs: Any = 8
    init: Any = None
    _E: Parameter | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns("Embedding(columns)", self.columns)
        self.n_categories = _counts("Embedding(n_categories)", self.n_categories)
        self.outputs = _counts("Embedding(outputs)", self.outputs)
        if self.init is not None:
            self.init = INITIALIZERS.resolve(self.init)
        if self.columns is not None:
            self._tables(len(self.columns))

    def __repr__(self) -> str:
        counts = self.n_categories
        many = isinstance(counts, list) and len(counts) > _MOST_SHOWN
        told = f"{len(counts)} tables" if many else f"n_categories={counts}"
        return f"Embedding({self.n_in or '?'} → {self.n_out or '?'}, {told})"

    def _tables(self, n_columns: int) -> list[tuple[int, int]]:
        """(n_categories, outputs) of each table."""
        return list(
            zip(
                _one_each("Embedding(n_categories)", self.n_categories, n_columns),
                _one_each("Embedding(outputs)", self.outputs, n_columns),
                strict=True,
            )
        )

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out, _ = self.shapes(n_in)
        rng, init = np.random.default_rng(seed), self.init
        tables = self._tables(len(self.embedded(n_in)))
        drawn = [rng.standard_normal(shape) if init is None else _drawn(init, rng, shape) for shape in tables]
        self._E = Parameter("E", np.concatenate([table.reshape(-1, 1) for table in drawn]))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        tables = self._tables(len(self.embedded(n_in)))
        n_out = sum(width for _, width in tables) + n_in - len(tables)
        return n_out, {"E": (sum(n * width for n, width in tables), 1)}

    def shape_in_file(self, name: str, shape: tuple[int, int]) -> tuple[int, ...]:
        if isinstance(self.outputs, int):  # one table below the other: torch.nn.Embedding's, with an offset for each
            return shape[0] // self.outputs, self.outputs
        return shape[:1]

    def categories(self, n_in: int) -> Iterator[tuple[int, int]]:
        embedded = self.embedded(n_in)
        return ((unit, n) for unit, (n, _) in zip(embedded, self._tables(len(embedded)), strict=True))

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        tables = self._tables(len(self.embedded(self.n_in)))
        starts = [0, *itertools.accumulate(n * width for n, width in tables)]
        places = [0, *itertools.accumulate(width for _, width in tables)]
        ops = binding.ops
        columns = self.columns_on(ops)
        self._on_device = Tables(columns, on_device(ops, starts), on_device(ops, places), tuple(starts), tuple(places))

    @property
    def E(self) -> Array:
        """All tables, one behind the other, (numbers, 1): a live view. `table` has the one of a column."""
        return live(self._E, "value", self)

    @property
    def dE(self) -> Array:
        """∂L/∂E of the last backward pass."""
        return live(self._E, "gradient", self)

    def table(self, i: int) -> Array:
        """The table of column number i, (n_categories, outputs): a live view, so `table(0)[...] = rows` sets it."""
        E = self.E
        n, width = self._on_device.shapes()[i]
        starts = self._on_device.host_starts
        return E.reshape(-1)[starts[i] : starts[i + 1]].reshape(n, width)

    def parameters(self) -> list[Parameter]:
        return [] if self._E is None else [self._E]

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        A = plan.matrix(self.n_out)
        digits = {"float16": 2**11, "bfloat16": 2**8}.get(A.dtype.name)
        most = max(n for n, _ in self._on_device.shapes())
        if digits is not None and most > digits + 1:
            raise ValueError(
                f"{self} has a table of {most} categories, but {A.dtype.name} tells the integers up to {digits} apart. "
                "Take precision='tf32' or 'float32'."
            )
        return SimpleNamespace(A0=None, A=A, dA0=None)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA0 = plan.scratch(1 - slot, self.n_in)
        return 1 - slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        self.ops.embed_categories(self._on_device, A0, self.E, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        dA0 = cache.dA0 if needs_input_gradient else None
        self.ops.embed_categories_backward(self._on_device, dA, cache.A0, self.dE, dA0)
        return dA0


def _counts(who: str, value: Any) -> int | list[int]:
    """A number of at least 1, or a list of such numbers."""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes):
        return [check_integer(f"{who}, number {i},", count, low=1) for i, count in enumerate(value)]
    return check_integer(who, value, low=1)


def _one_each(who: str, counts: int | list[int], n_columns: int) -> list[int]:
    if isinstance(counts, int):
        return [counts] * n_columns
    if len(counts) != n_columns:
        raise ValueError(f"{who} has {len(counts)} numbers for {n_columns} columns. Give one for all, or one for each.")
    return counts


def _drawn(init: Initializer, rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    return np.ascontiguousarray(init(rng, shape[1], shape[0]).T)
