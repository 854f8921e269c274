"""Numbers embedded one by one: each unit becomes several, by functions of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from .._checks import check_bool, check_choice, check_integer, check_real
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
    appends: ClassVar[bool] = False
    _w: Parameter | None = field(init=False, default=None, repr=False)
    _phase: Parameter | None = field(init=False, default=None, repr=False)
    _W: Parameter | None = field(init=False, default=None, repr=False)
    _b: Parameter | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(f"{type(self).__name__}(columns)", self.columns)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_in or '?'} → {self.n_out or '?'}{self._told()})"

    def _told(self) -> str:
        """What else `repr` tells."""
        return ""

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

    @property
    def relu(self) -> bool:
        """Whether max(·, 0) follows."""
        return False

    @property
    def shared(self) -> bool:
        """Whether all units have one W and b."""
        return False

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
    columns: Any = None
    frequencies: int = 16
    outputs: int = 4
    sigma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.frequencies = check_count("PBLD(frequencies)", self.frequencies, 1)
        self.outputs = check_count("PBLD(outputs)", self.outputs, 2)
        self.sigma = check_real("PBLD(sigma)", self.sigma, low=0.0)

    def _told(self) -> str:
        return f", frequencies={self.frequencies}"

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


@LAYERS.register("periodic_embedding")
@dataclass(eq=False, repr=False)
class PeriodicEmbedding(NumberEmbedding):
    """Each unit x becomes f(W_f·h + b_f), h = (cos 2π w_f1 x, ..., cos 2π w_fK x, sin 2π w_f1 x, ...).

    K = `frequencies`; f is max(·, 0), or with activation=None nothing. w (frequencies, units) from N(0, sigma²), of
    which sigma decides a lot (from 0.01 to 1, say); W (outputs, units·2·frequencies) with the columns of W_f
    side by side and b (outputs, units) from U(−1, 1)/√(2·frequencies); all are learned. With `lite` all units share one
    W (outputs, 2·frequencies) and b (outputs, 1). Output: `outputs` numbers of each unit of `columns` (None: of every
    unit) in their order, then the other units unchanged. Gradients: docs/backprop.md, section 17.

    ValueError for a unit that the input does not have, another activation, and more than 256 frequencies.
    Source: Gorishniy, Rubachev & Babenko (2022), "On embeddings for numerical features in tabular deep learning", eq. 2
    ("PLR"; "PLR(lite)" in Gorishniy et al. 2023, "TabR").
    """

    kind: ClassVar[str] = "waves"
    columns: Any = None
    frequencies: int = 48
    outputs: int = 24
    sigma: float = 0.01
    activation: str | None = "relu"
    lite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.frequencies = check_count("PeriodicEmbedding(frequencies)", self.frequencies, 1, MOST_TERMS // 2)
        self.outputs = check_count("PeriodicEmbedding(outputs)", self.outputs, 1)
        self.sigma = check_real("PeriodicEmbedding(sigma)", self.sigma, low=0.0)
        check_activation("PeriodicEmbedding(activation)", self.activation)
        check_bool("PeriodicEmbedding(lite)", self.lite)

    def _told(self) -> str:
        return f", frequencies={self.frequencies}{', lite' if self.lite else ''}"

    @property
    def n_linear(self) -> int:
        return self.outputs

    @property
    def relu(self) -> bool:
        return self.activation == "relu"

    @property
    def shared(self) -> bool:
        return self.lite

    def term_starts(self, n_in: int) -> list[int]:
        return [self.frequencies * f for f in range(len(self.embedded(n_in)) + 1)]

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out, shapes = self.shapes(n_in)
        rng, scale = np.random.default_rng(seed), 1.0 / math.sqrt(2 * self.frequencies)
        self._w = Parameter("w", self.sigma * rng.standard_normal(shapes["w"]))
        self._W = Parameter("W", scale * rng.uniform(-1.0, 1.0, shapes["W"]))
        self._b = Parameter("b", scale * rng.uniform(-1.0, 1.0, shapes["b"]))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n = len(self.embedded(n_in))
        maps = 1 if self.lite else n
        arrays = {
            "w": (self.frequencies, n),
            "W": (self.outputs, 2 * self.frequencies * maps),
            "b": (self.outputs, maps),
        }
        return n * self.outputs + n_in - n, arrays

    @property
    def w(self) -> Array:
        """The frequencies, a column for each unit: a live view."""
        return live(self._w, "value", self)

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        cache = super().allocate(plan, training)
        if training and self.lite:  # the gradients of each unit, which are then added up
            of_units = plan.column(self.outputs * self._map.n_values), plan.column(self.outputs * self._n_embedded)
            cache.dW, cache.db = (x.reshape(-1, self.outputs).T for x in of_units)
        return cache

    @property
    def _n_embedded(self) -> int:
        return self._map.columns.n_embedded

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if not self.lite:
            return super().backward(dA, cache, needs_input_gradient)
        dA0 = cache.dA0 if needs_input_gradient else None
        arguments = self._map, dA, cache.A, cache.A0, self.w, None, self.W
        dw = live(self._w, "gradient", self)
        self.ops.embed_numbers_backward(*arguments, dw, None, cache.dW, cache.db, dA0)
        for of_units, of_all in ((cache.dW, self.dW), (cache.db, self.db)):  # ∂L/∂W = Σ_f ∂L/∂W_f
            self.ops.row_sum(of_units.T.reshape(self._n_embedded, -1).T, of_all.T.reshape(-1, 1))
        return dA0


@LAYERS.register("piecewise_linear_embedding")
@dataclass(eq=False, repr=False)
class PiecewiseLinearEmbedding(NumberEmbedding):
    """Each unit x becomes f(W_f·h + b_f), h_t = (x − e_t)/(e_t+1 − e_t) for the bins of edges e_0 < e_1 < ... < e_T.

    h_t is not below 0 but for the first bin and not above 1 but for the last: 1 for bins that lie below x, 0 for those
    above it. `bins`: the edges of each embedded unit, a list of lists (`piecewise_linear_bins` makes them); units may
    have different numbers. f is the identity, or max(·, 0) with activation="relu". W (outputs, bins of all units), the
    columns of W_f side by side, and b (outputs, units) from U(−1, 1)/√T are learned. Output: `outputs` numbers of each
    unit of `columns` (None: of every unit) in their order, then the other units unchanged. Gradients: docs/backprop.md,
    section 17.

    ValueError for edges that do not rise, for as many lists as there are no units, and more than 512 bins.
    Source: Gorishniy, Rubachev & Babenko (2022), eq. 1.
    """

    kind: ClassVar[str] = "pieces"
    bins: Any
    columns: Any = None
    outputs: int = 24
    activation: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bins = _checked_bins(self.bins)
        self.outputs = check_count("PiecewiseLinearEmbedding(outputs)", self.outputs, 1)
        check_activation("PiecewiseLinearEmbedding(activation)", self.activation)
        if self.columns is not None:
            self._refuse_other_number(len(self.columns))

    @property
    def n_linear(self) -> int:
        return self.outputs

    @property
    def relu(self) -> bool:
        return self.activation == "relu"

    def embedded(self, n_in: int) -> list[int]:
        units = super().embedded(n_in)
        self._refuse_other_number(len(units))
        return units

    def _refuse_other_number(self, n: int) -> None:
        if len(self.bins) != n:
            raise ValueError(
                f"PiecewiseLinearEmbedding(bins) has edges for {len(self.bins)} units, but {n} are embedded. Give a "
                "list of edges for each."
            )

    def term_starts(self, n_in: int) -> list[int]:
        return [0, *itertools.accumulate(len(edges) - 1 for edges in self.bins)]

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out, shapes = self.shapes(n_in)
        rng, n_bins = np.random.default_rng(seed), np.array([len(edges) - 1 for edges in self.bins])
        W, b = (rng.uniform(-1.0, 1.0, shapes[name]) for name in ("W", "b"))
        self._W = Parameter("W", W / np.sqrt(np.repeat(n_bins, n_bins)))
        self._b = Parameter("b", b / np.sqrt(n_bins))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n = len(self.embedded(n_in))
        return n * self.outputs + n_in - n, {"W": (self.outputs, self.term_starts(n_in)[-1]), "b": (self.outputs, n)}

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        edges = [np.array(of_unit) for of_unit in self.bins]
        factor = np.concatenate([1.0 / np.diff(e) for e in edges])
        shift = np.concatenate([-e[:-1] / np.diff(e) for e in edges])
        with np.errstate(over="ignore"):
            line = np.stack([factor, shift]).astype(binding.dtype)
        if not np.isfinite(line).all():
            raise ValueError(
                f"PiecewiseLinearEmbedding(bins) has edges that lie too close together for {binding.dtype.name}. Take "
                "fewer bins, or scale the column."
            )
        self._line = tuple(binding.ops.asarray(numbers.reshape(-1, 1)) for numbers in line)

    def _arguments(self) -> tuple[Array, Array | None]:
        factor, shift = self._line
        return factor, shift


def check_count(who: str, value: Any, low: int, most: int = MOST_TERMS) -> int:
    """An integer from `low` to `most`."""
    number = check_integer(who, value, low=low)
    if number > most:
        raise ValueError(f"{who} expects an integer of at most {most}, got {number}.")
    return number


def check_activation(who: str, activation: str | None) -> None:
    if activation is not None:
        check_choice(who, activation, ("relu",))


def _checked_bins(bins: Any) -> list[list[float]]:
    """Edges of each unit, as plain data."""
    who = "PiecewiseLinearEmbedding(bins)"
    if isinstance(bins, str | bytes) or not isinstance(bins, Sequence | np.ndarray) or not len(bins):
        raise TypeError(f"{who} expects a list with the edges of each unit, got {bins!r}.")
    checked = []
    for f, edges in enumerate(bins):
        array = np.asarray(edges, np.float64)
        if array.ndim != 1 or not 2 <= array.size <= MOST_TERMS + 1:
            raise ValueError(
                f"{who} expects 2 to {MOST_TERMS + 1} edges of each unit, got shape {array.shape} of unit {f}."
            )
        if not (np.isfinite(array).all() and (np.diff(array) > 0).all()):
            raise ValueError(f"{who} expects finite edges that rise, got {edges!r} of unit {f}.")
        checked.append(array.tolist())
    return checked
