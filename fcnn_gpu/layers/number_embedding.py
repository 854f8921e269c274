"""Numbers embedded one by one: each unit becomes several, by functions of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from .._checks import check_integer, check_real
from .._types import Array
from ..backend import NumberMap
from ._base import LAYERS, Binding, Parameter, Plan, live
from ._columns import EmbeddingLayer, check_columns, on_device

MOST_TERMS = 512
"""Values that a unit may be mapped to, and outputs that it may have: what a thread computes with lies in its cache."""


@dataclass(eq=False, repr=False)
class NumberEmbedding(EmbeddingLayer):
    """What layers that embed numbers have in common: A = W_f·φ_f(x) + b_f for each embedded unit x.

    φ of a unit has its terms; W (n_each, values of all units), b (n_each, units). See NumberMap.
    """

    kind: ClassVar[str]
    relu: ClassVar[bool] = False
    appends: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    columns: Any = None
    _w: Parameter | None = field(init=False, default=None, repr=False)
    _phase: Parameter | None = field(init=False, default=None, repr=False)
    _W: Parameter | None = field(init=False, default=None, repr=False)
    _b: Parameter | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(f"{type(self).__name__}(columns)", self.columns)

    @property
    def W(self) -> Array:
        """The weights of all units, side by side: a live view."""
        return live(self._W, "value", self)

    @property
    def b(self) -> Array:
        """The biases, a column for each unit: a live view."""
        return live(self._b, "value", self)

    @property
    def dW(self) -> Array:
        """∂L/∂W of the last backward pass."""
        return live(self._W, "gradient", self)

    @property
    def db(self) -> Array:
        """∂L/∂b of the last backward pass."""
        return live(self._b, "gradient", self)

    def parameters(self) -> list[Parameter]:
        return [p for p in (self._w, self._phase, self._W, self._b) if p is not None]

    def term_starts(self, n_in: int) -> list[int]:
        """Where the terms of each embedded unit begin, and where the last one's end."""
        raise NotImplementedError(f"{type(self).__name__} must define term_starts(n_in).")

    @property
    def n_linear(self) -> int:
        """Outputs of a unit's linear map."""
        raise NotImplementedError(f"{type(self).__name__} must define n_linear.")

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        starts = self.term_starts(self.n_in)
        self._map = NumberMap(
            self.columns_on(binding.ops),
            self.kind,
            on_device(binding.ops, starts),
            tuple(starts),
            self.n_linear,
            self.relu,
            self.appends,
            self.shared,
        )

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        return SimpleNamespace(A0=None, A=plan.matrix(self.n_out), dA0=None)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA0 = plan.scratch(1 - slot, self.n_in)
        return 1 - slot

    def _arguments(self) -> tuple[Array, Array | None]:
        """w and phase of all terms."""
        return live(self._w, "value", self), None if self._phase is None else live(self._phase, "value", self)

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        self.ops.embed_numbers(self._map, A0, *self._arguments(), self.W, self.b, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        w, phase = self._arguments()
        dw = None if self._w is None else live(self._w, "gradient", self)
        dphase = None if self._phase is None else live(self._phase, "gradient", self)
        dA0 = cache.dA0 if needs_input_gradient else None
        self.ops.embed_numbers_backward(
            self._map, dA, cache.A, cache.A0, w, phase, self.W, dw, dphase, self.dW, self.db, dA0
        )
        return dA0


@LAYERS.register("pbld")
@dataclass(eq=False, repr=False)
class PBLD(NumberEmbedding):
    """Each unit x becomes W_f·h + b_f and x itself: h_k = cos(2π w_fk x + φ_fk), k = 1 ... frequencies.

    "Periodic bias linear DenseNet": w (frequencies, units) from N(0, sigma²), phase φ (frequencies, units) from
    U(−π, π), W (outputs − 1, units·frequencies) with the columns of W_f side by side and b (outputs − 1, units) from
    U(−1, 1)/√frequencies; all are learned. Output: `outputs` numbers of each unit of `columns` (None: of every unit) in
    their order, then the other units unchanged. Gradients: docs/backprop.md, section 17.

    ValueError for a unit that the input does not have, for `outputs` below 2 and more than 512 of anything.
    Source: Holzmüller, Grinsztajn & Steinwart (2024), "Better by default", section 3 and appendix A.
    """

    kind: ClassVar[str] = "cosine"
    appends: ClassVar[bool] = True
    frequencies: int = 16
    outputs: int = 4
    sigma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.frequencies = check_count("PBLD(frequencies)", self.frequencies, 1)
        self.outputs = check_count("PBLD(outputs)", self.outputs, 2)
        self.sigma = check_real("PBLD(sigma)", self.sigma, low=0.0)

    def __repr__(self) -> str:
        return f"PBLD({self.n_in or '?'} → {self.n_out or '?'}, frequencies={self.frequencies})"

    @property
    def n_linear(self) -> int:
        return self.outputs - 1

    def term_starts(self, n_in: int) -> list[int]:
        return [self.frequencies * f for f in range(len(self.embedded(n_in)) + 1)]

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out, shapes = self.shapes(n_in)
        rng, scale = np.random.default_rng(seed), 1.0 / math.sqrt(self.frequencies)
        self._w = Parameter("w", self.sigma * rng.standard_normal(shapes["w"]))
        self._phase = Parameter("phase", rng.uniform(-math.pi, math.pi, shapes["phase"]))
        self._W = Parameter("W", scale * rng.uniform(-1.0, 1.0, shapes["W"]))
        self._b = Parameter("b", scale * rng.uniform(-1.0, 1.0, shapes["b"]))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n = len(self.embedded(n_in))
        of_terms = self.frequencies, n
        arrays = {"w": of_terms, "phase": of_terms, "W": (self.n_linear, self.frequencies * n), "b": (self.n_linear, n)}
        return n * self.outputs + n_in - n, arrays

    @property
    def w(self) -> Array:
        """The frequencies, a column for each unit: a live view."""
        return live(self._w, "value", self)

    @property
    def phase(self) -> Array:
        """The phases in radians, a column for each unit: a live view."""
        return live(self._phase, "value", self)


def check_count(who: str, value: Any, low: int) -> int:
    """An integer from `low` to `MOST_TERMS`."""
    number = check_integer(who, value, low=low)
    if number > MOST_TERMS:
        raise ValueError(f"{who} expects an integer of at most {MOST_TERMS}, got {number}.")
    return number
