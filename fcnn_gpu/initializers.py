"""Initial weights and biases. Drawn on the host, in float64, by NumPy's generators: alike in every backend and dtype.

n_in and n_out are a layer's inputs and outputs (fan-in and fan-out); a weight matrix is (n_out, n_in), a layer's biases
are (n_out, 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ._arrays import as_array
from ._checks import check_real
from ._registry import Registry
from ._types import HostArray


class SymmetryWarning(UserWarning):
    """Neurons of a hidden layer start equal, so they get equal gradients and stay equal: they learn one feature."""


@dataclass(frozen=True)
class Initializer:
    """Draws a (n_out, n_in) float64 matrix: `initializer(rng, n_out, n_in)`."""

    name: ClassVar[str]

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(rng, n_out, n_in).")

    def blocks(self, rng: np.random.Generator, n_out: int, n_in: int, rows: int) -> Iterator[HostArray] | None:
        """The same matrix, bit for bit, `rows` rows at a time; None where it can only be made as a whole."""
        return None

    def biases(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        """The biases (n_out, 1) of a layer with these fans. TypeError where only a whole matrix can be made."""
        raise TypeError(no_biases(self))

    @property
    def makes_biases(self) -> bool:
        """Whether `biases` can be had: the numbers are drawn one by one, by a rule that knows the fans alone."""
        return False


class ElementwiseInitializer(Initializer):
    """Draws each weight by itself, one after another: row by row it draws the same numbers as all at once."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return self._draw(rng, (n_out, n_in), n_out, n_in)

    def biases(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return self._draw(rng, (n_out, 1), n_out, n_in) if self.makes_biases else super().biases(rng, n_out, n_in)

    @property
    def makes_biases(self) -> bool:
        return type(self).__call__ is ElementwiseInitializer.__call__  # or a subclass of the user's draws otherwise

    def blocks(self, rng: np.random.Generator, n_out: int, n_in: int, rows: int) -> Iterator[HostArray] | None:
        if not self.makes_biases:
            return None
        starts = range(0, n_out, rows)
        return (self._draw(rng, (min(rows, n_out - start), n_in), n_out, n_in) for start in starts)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        """The next rows, `shape`, of a matrix (n_out, n_in), or of its layer's biases."""
        raise NotImplementedError(f"{type(self).__name__} must define _draw(rng, shape, n_out, n_in).")


def no_biases(initializer: Initializer) -> str:
    """Why an initializer cannot be a `bias_init`."""
    return (
        f"bias_init={initializer!r} makes whole weight matrices and no biases. Use one that draws number by number, "
        "such as 'fan_in_uniform' or 'xavier_uniform', or derive yours from ElementwiseInitializer."
    )


INITIALIZERS: Registry[Initializer] = Registry("initializer", Initializer)


def _uniform(rng: np.random.Generator, limit: float, shape: tuple[int, int]) -> HostArray:
    return rng.uniform(-limit, limit, shape)


def _normal(rng: np.random.Generator, std: float, shape: tuple[int, int]) -> HostArray:
    return rng.standard_normal(shape) * std


@INITIALIZERS.register("xavier_uniform")
@dataclass(frozen=True)
class XavierUniform(ElementwiseInitializer):
    """U(−a, a), a = √(6/(n_in + n_out)): variance 2/(n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(6.0 / (n_in + n_out)), shape)


@INITIALIZERS.register("xavier_normal")
@dataclass(frozen=True)
class XavierNormal(ElementwiseInitializer):
    """N(0, σ²), σ = √(2/(n_in + n_out)) (Glorot & Bengio 2010)."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _normal(rng, math.sqrt(2.0 / (n_in + n_out)), shape)


@INITIALIZERS.register("he_normal")
@dataclass(frozen=True)
class HeNormal(ElementwiseInitializer):
    """N(0, σ²), σ = √(2/n_in) (He et al. 2015, eq. 10)."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _normal(rng, math.sqrt(2.0 / n_in), shape)


@INITIALIZERS.register("he_uniform")
@dataclass(frozen=True)
class HeUniform(ElementwiseInitializer):
    """U(−a, a), a = √(6/n_in): variance 2/n_in (He et al. 2015)."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(6.0 / n_in), shape)


@INITIALIZERS.register("lecun_normal")
@dataclass(frozen=True)
class LeCunNormal(ElementwiseInitializer):
    """N(0, σ²), σ = √(1/n_in) (LeCun et al. 1998, "Efficient BackProp", eq. 16)."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _normal(rng, math.sqrt(1.0 / n_in), shape)


@INITIALIZERS.register("lecun_uniform")
@dataclass(frozen=True)
class LeCunUniform(ElementwiseInitializer):
    """U(−a, a), a = √(3/n_in): variance 1/n_in."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(3.0 / n_in), shape)


@INITIALIZERS.register("fan_in_uniform")
@dataclass(frozen=True)
class FanInUniform(ElementwiseInitializer):
    """U(−a, a), a = 1/√n_in: variance 1/(3n_in) (LeCun et al. 1998), what PyTorch's `Linear` draws W and b from.

    In Keras and JAX `VarianceScaling(1/3, "fan_in", "uniform")`.
    """

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(1.0 / n_in), shape)


@INITIALIZERS.register("orthogonal")
@dataclass(frozen=True)
class Orthogonal(Initializer):
    """gain·Q, Q with orthonormal rows or columns, whichever are fewer, uniform over all such (Saxe et al. 2013).

    Q comes from the QR decomposition of a normal matrix, with the signs of R's diagonal moved into Q.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        check_real("Orthogonal(gain)", self.gain, low=0.0)

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        tall = rng.standard_normal((max(n_out, n_in), min(n_out, n_in)))
        q, r = np.linalg.qr(tall)
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * np.ascontiguousarray(q if n_out >= n_in else q.T)


@INITIALIZERS.register("normal")
@dataclass(frozen=True)
class Normal(ElementwiseInitializer):
    """N(0, std²), whatever the layer's size. With std = 0.01 a deep network's signal dies out: for comparison."""

    std: float = 0.01

    def __post_init__(self) -> None:
        check_real("Normal(std)", self.std, low=0.0)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _normal(rng, self.std, shape)


@INITIALIZERS.register("constant")
@dataclass(frozen=True)
class Constant(ElementwiseInitializer):
    """Every weight is `value`. In a hidden layer that means `SymmetryWarning`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        check_real("Constant(value)", self.value)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return np.full(shape, float(self.value))


@INITIALIZERS.register("random_signs")
@dataclass(frozen=True)
class RandomSigns(ElementwiseInitializer):
    """1 or −1, each with probability ½: for the scales that tell the members of an ensemble apart (Wen et al. 2020)."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return rng.integers(0, 2, shape) * 2.0 - 1.0


@INITIALIZERS.register("zeros")
@dataclass(frozen=True)
class Zeros(ElementwiseInitializer):
    """Every weight is 0. In a hidden layer that means `SymmetryWarning`."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return np.zeros(shape)


_LEFT_OUT: ContextVar[bool] = ContextVar("fcnn_gpu drawing of initial weights is left out", default=False)


@contextmanager
def without_drawing() -> Iterator[None]:
    """Layers that are built inside start from zeros: their weights are about to be replaced.

    To draw some of them takes longer than to read them, 'orthogonal' ones by far.
    """
    token = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(token)


def initial_values(weights: HostArray, dtype: Any) -> HostArray:
    """Drawn weights in a network's dtype, C-ordered. ValueError where one is outside its range."""
    with np.errstate(over="ignore", under="ignore"):
        values = np.ascontiguousarray(weights, dtype)
    if values.size and not (math.isfinite(values.min()) and math.isfinite(values.max())):
        raise ValueError(
            f"An initializer gave {np.abs(weights).max():.3g}, which is outside the range of {np.dtype(dtype).name}. "
            "Use one of smaller numbers, or dtype='float64'."
        )
    return values


@dataclass(frozen=True)
class Draw:
    """A layer's initial weights (n_out, n_in) yet to be drawn: the same numbers whole or in blocks of rows."""

    who: object
    """Whose weights they are, for messages."""
    initializer: Initializer
    seed: np.random.SeedSequence
    n_out: int
    n_in: int

    def __post_init__(self) -> None:
        if _LEFT_OUT.get():
            object.__setattr__(self, "initializer", Zeros())

    def whole(self) -> HostArray:
        """All of them, float64. ValueError where the initializer gives another shape, NaN or infinity."""
        weights = self.initializer(np.random.default_rng(self.seed), self.n_out, self.n_in)
        return self._check(weights, self.n_out, self.n_in).astype(np.float64, copy=False)

    def biases(self) -> HostArray:
        """The biases (n_out, 1) of the same layer instead, float64."""
        biases = self.initializer.biases(np.random.default_rng(self.seed), self.n_out, self.n_in)
        return self._check(biases, self.n_out, 1).astype(np.float64, copy=False)

    def blocks(self, rows: int) -> Iterator[HostArray] | None:
        """`rows` rows at a time, in order; None where the initializer cannot."""
        drawn = self.initializer.blocks(np.random.default_rng(self.seed), self.n_out, self.n_in, rows)
        return None if drawn is None else self._checked(drawn, rows)

    def _checked(self, drawn: Iterator[HostArray], rows: int) -> Iterator[HostArray]:
        for start, block in zip(range(0, self.n_out, rows), drawn, strict=True):
            yield self._check(block, min(rows, self.n_out - start), self.n_in)

    def _check(self, drawn: Any, n_rows: int, n_columns: int) -> HostArray:
        weights = as_array(drawn, f"The initializer of {self.who}: what it gave")
        if weights.dtype.kind not in "fiu":
            raise TypeError(f"The initializer of {self.who} must give real numbers, got {weights.dtype}.")
        if weights.shape != (n_rows, n_columns) or not np.isfinite(weights).all():
            what = "weights" if n_columns == self.n_in else "biases"
            raise ValueError(
                f"The initializer of {self.who} must give finite {what} of shape ({n_rows}, {n_columns}), "
                f"got shape {weights.shape}."
            )
        return weights
