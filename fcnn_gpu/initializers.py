"""Initial weights. Drawn on the host, in float64, by NumPy's generators: every backend and dtype starts alike.

n_in and n_out are a layer's inputs and outputs (fan-in and fan-out); a weight matrix is (n_out, n_in).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

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


INITIALIZERS: Registry[Initializer] = Registry("initializer", Initializer)


def _uniform(rng: np.random.Generator, limit: float, n_out: int, n_in: int) -> HostArray:
    return rng.uniform(-limit, limit, (n_out, n_in))


def _normal(rng: np.random.Generator, std: float, n_out: int, n_in: int) -> HostArray:
    return rng.standard_normal((n_out, n_in)) * std


@INITIALIZERS.register("xavier_uniform")
@dataclass(frozen=True)
class XavierUniform(Initializer):
    """U(−a, a), a = √(6/(n_in + n_out)): variance 2/(n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(6.0 / (n_in + n_out)), n_out, n_in)


@INITIALIZERS.register("xavier_normal")
@dataclass(frozen=True)
class XavierNormal(Initializer):
    """N(0, σ²), σ = √(2/(n_in + n_out)) (Glorot & Bengio 2010)."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _normal(rng, math.sqrt(2.0 / (n_in + n_out)), n_out, n_in)


@INITIALIZERS.register("he_normal")
@dataclass(frozen=True)
class HeNormal(Initializer):
    """N(0, σ²), σ = √(2/n_in) (He et al. 2015, eq. 10)."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _normal(rng, math.sqrt(2.0 / n_in), n_out, n_in)


@INITIALIZERS.register("he_uniform")
@dataclass(frozen=True)
class HeUniform(Initializer):
    """U(−a, a), a = √(6/n_in): variance 2/n_in (He et al. 2015)."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(6.0 / n_in), n_out, n_in)


@INITIALIZERS.register("lecun_normal")
@dataclass(frozen=True)
class LeCunNormal(Initializer):
    """N(0, σ²), σ = √(1/n_in) (LeCun et al. 1998, "Efficient BackProp", eq. 16)."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _normal(rng, math.sqrt(1.0 / n_in), n_out, n_in)


@INITIALIZERS.register("lecun_uniform")
@dataclass(frozen=True)
class LeCunUniform(Initializer):
    """U(−a, a), a = √(3/n_in): variance 1/n_in."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _uniform(rng, math.sqrt(3.0 / n_in), n_out, n_in)


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
class Normal(Initializer):
    """N(0, std²), whatever the layer's size. With std = 0.01 a deep network's signal dies out: for comparison."""

    std: float = 0.01

    def __post_init__(self) -> None:
        check_real("Normal(std)", self.std, low=0.0)

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return _normal(rng, self.std, n_out, n_in)


@INITIALIZERS.register("constant")
@dataclass(frozen=True)
class Constant(Initializer):
    """Every weight is `value`. In a hidden layer that means `SymmetryWarning`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        check_real("Constant(value)", self.value)

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return np.full((n_out, n_in), float(self.value))


@INITIALIZERS.register("zeros")
@dataclass(frozen=True)
class Zeros(Initializer):
    """Every weight is 0. In a hidden layer that means `SymmetryWarning`."""

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return np.zeros((n_out, n_in))
