"""Initial weights and biases. Drawn on the host, in float64, by NumPy's generators: alike in every backend and dtype.

n_in and n_out are a layer's inputs and outputs (fan-in and fan-out); a weight matrix is (n_out, n_in), a layer's biases
are (n_out, 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ._arrays import as_array
from ._checks import check_choice, check_integer, check_real
from ._on_demand import own_names
from ._registry import NOT_KEPT, Registry
from ._types import HostArray

__dir__ = own_names(__name__)


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

    looks_at_data: ClassVar[bool] = False
    """Whether what is drawn at first waits for samples: `of_data` makes the initial values then."""

    def of_data(self, rng: np.random.Generator, weights: HostArray, Z: HostArray) -> HostArray:
        """Weights (n_out, n_in), or biases (n_out, 1), for a layer whose products with some samples are Z.

        `weights` are W as it was drawn, Z (n_out, n_samples) its products, without biases.
        """
        raise NotImplementedError(f"{type(self).__name__} must define of_data(rng, weights, Z).")

    @property
    def makes_weights(self) -> bool:
        """Whether it can be the initializer of weights."""
        return True


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


_SYNONYMS = {
    "glorot_normal": "xavier_normal",
    "glorot_uniform": "xavier_uniform",
    "kaiming_normal": "he_normal",
    "kaiming_uniform": "he_uniform",
    "random_uniform": "uniform",
}
_ELSEWHERE: dict[str, str | None] = {
    "eye": "It is given as an array: init=numpy.eye(n_out, n_in)",
    "glorot": "'xavier_uniform' or 'xavier_normal'",
    "he": "'he_normal' or 'he_uniform'",
    "identity": "It is given as an array: init=numpy.eye(n_out, n_in)",
    "kaiming": "'he_normal' or 'he_uniform'",
    "lecun": "'lecun_normal' or 'lecun_uniform'",
    "ones": "'constant', with its value: fcnn.initializers.Constant(1.0)",
    "one": "'constant', with its value: fcnn.initializers.Constant(1.0)",
    "random_normal": "'normal', with std 0.01 unless given: fcnn.initializers.Normal(std=0.05) is Keras's",
    "trunc_normal": "'truncated_normal', whose bounds are in standard deviations",
    "xavier": "'xavier_uniform' or 'xavier_normal'",
    "zero": "'zeros'",
    "dirac": None,
    "sparse": None,
}
INITIALIZERS: Registry[Initializer] = Registry("initializer", Initializer, _SYNONYMS, _ELSEWHERE)


def resolve_initializer(spec: Any, option: str) -> Initializer:
    """What `option` of a layer names: as `INITIALIZERS.resolve`, and an array of numbers is `Array` of it."""
    if isinstance(spec, str) and spec == Array.name:
        raise ValueError(f"{option}={spec!r} names no values: pass the array itself, {option}=values.")
    if isinstance(spec, list | tuple) or (hasattr(spec, "__array__") and not isinstance(spec, type)):
        return Array(spec)
    return INITIALIZERS.resolve(spec)


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


@INITIALIZERS.register("truncated_normal")
@dataclass(frozen=True)
class TruncatedNormal(ElementwiseInitializer):
    """std·x, x of the standard normal distribution inside [low, high]: bounds in units of std, as in JAX.

    `std` is that of the distribution before it is cut off; between −2 and 2 the numbers have 0.8796 of it. The same as
    JAX's `truncated_normal`, and as Keras's `TruncatedNormal`, which always cuts off at ±2. PyTorch's `trunc_normal_`
    takes bounds of the numbers themselves: low·std, high·std. ValueError for bounds between which nothing is drawn.
    x = Φ⁻¹(u), u uniform between Φ(low) and Φ(high) (Devroye 1986, section II.2).
    """

    std: float = 0.01
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        check_real("TruncatedNormal(std)", self.std, low=0.0)
        low, high = check_real("TruncatedNormal(low)", self.low), check_real("TruncatedNormal(high)", self.high)
        if low >= high or low > _LAST_OF_NORMAL or high < -_LAST_OF_NORMAL:
            raise ValueError(
                f"TruncatedNormal(low={low:g}, high={high:g}) leaves nothing to draw: low is less than high, and one "
                f"of them within ±{_LAST_OF_NORMAL:g} standard deviations."
            )

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return self.std * _truncated_normal(rng, self.low, self.high, shape)


@INITIALIZERS.register("uniform")
@dataclass(frozen=True)
class Uniform(ElementwiseInitializer):
    """U(low, high), whatever the layer's size: Keras's `RandomUniform`, PyTorch's `uniform_`."""

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        low, high = check_real("Uniform(low)", self.low), check_real("Uniform(high)", self.high)
        if low >= high or math.isinf(high - low):
            raise ValueError(f"Uniform(low={low:g}, high={high:g}): low is less than high, and high − low is finite.")

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return rng.uniform(self.low, self.high, shape)


@INITIALIZERS.register("variance_scaling")
@dataclass(frozen=True)
class VarianceScaling(ElementwiseInitializer):
    """Variance scale/n, n by `mode`: "fan_in" n_in, "fan_out" n_out, "fan_avg" (n_in + n_out)/2. As in Keras and JAX.

    `distribution`: "truncated_normal", cut off at two standard deviations and widened by 1/0.8796, so that the variance
    holds for what is left; "normal" (Keras: "untruncated_normal"); or "uniform", U(−a, a), a = √(3·scale/n).
    Most others are such: "he_normal" is `VarianceScaling(2.0, "fan_in", "normal")` (He et al. 2015).
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        check_real("VarianceScaling(scale)", self.scale, low=0.0, low_open=True)
        check_choice("VarianceScaling(mode)", self.mode, ("fan_in", "fan_out", "fan_avg"))
        known = ("truncated_normal", "normal", "uniform")
        check_choice("VarianceScaling(distribution)", self.distribution, known)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        n = {"fan_in": n_in, "fan_out": n_out, "fan_avg": (n_in + n_out) / 2}[self.mode]
        if self.distribution == "uniform":
            return _uniform(rng, math.sqrt(3.0 * self.scale / n), shape)
        if self.distribution == "normal":
            return _normal(rng, math.sqrt(self.scale / n), shape)
        return math.sqrt(self.scale / n) / _STD_WITHIN_TWO * _truncated_normal(rng, -2.0, 2.0, shape)


_LAST_OF_NORMAL = 37.0
"""So many standard deviations from the mean the normal distribution function is not 0 in float64."""
_STD_WITHIN_TWO = 0.87962566103423978
"""The standard deviation of a standard normal variable between −2 and 2."""


def _truncated_normal(rng: np.random.Generator, low: float, high: float, shape: tuple[int, int]) -> HostArray:
    """Standard normal numbers in [low, high], one uniform number for each."""
    from scipy.special import ndtr, ndtri  # imported on first use: SciPy would double the time that importing takes

    if low > 0:  # Φ has no digits left near 1
        return -_truncated_normal(rng, -high, -low, shape)
    drawn = ndtri(rng.uniform(ndtr(low), ndtr(high), shape))
    return np.clip(drawn, low, high, out=drawn)


@INITIALIZERS.register("array")
@dataclass(frozen=True, eq=False)
class Array(ElementwiseInitializer):
    """The values given: weights (n_out, n_in), biases (n_out, 1) or (n_out,). `Dense(init=values)` is short for it.

    They are copied. ValueError where they are not finite, and where a layer of another shape is built of them. What a
    layer's `config` and a model file hold says that values were given, but not which: `values` is None there. A model
    that is loaded, copied or pickled has its weights anyway; to build a new one of such a configuration is a
    ValueError, which says so.
    """

    values: Any = field(metadata=NOT_KEPT)

    def __post_init__(self) -> None:
        if self.values is None:
            return
        values = np.array(as_array(self.values, "Array(values)"))
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
            raise TypeError(
                "Array(values) expects real numbers, (n_out, n_in) of weights, or (n_out, 1) or (n_out,) of biases; "
                f"got shape {values.shape} and {values.dtype}."
            )
        if not np.isfinite(values).all():
            raise ValueError("Array(values) expects finite numbers, got NaN or infinity.")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    def __repr__(self) -> str:
        return "Array(None)" if self.values is None else f"Array(<{_by(self.values.shape)} values>)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(None if self.values is None else self.values.shape)

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return self._given("weights", (n_out, n_in), "(n_out, n_in)").astype(np.float64)

    def biases(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        one = self.values is not None and self.values.ndim == 1
        given = self._given("biases", (n_out,) if one else (n_out, 1), "(n_out,) or (n_out, 1)")
        return given.reshape(n_out, 1).astype(np.float64)

    @property
    def makes_biases(self) -> bool:
        return True

    def blocks(self, rng: np.random.Generator, n_out: int, n_in: int, rows: int) -> Iterator[HostArray] | None:
        given = self._given("weights", (n_out, n_in), "(n_out, n_in)")
        return (given[start : start + rows].astype(np.float64) for start in range(0, n_out, rows))

    def _given(self, what: str, shape: tuple[int, ...], names: str) -> HostArray:
        if self.values is None:
            raise ValueError(
                f"The {what} of this layer were given as an array, which its configuration does not keep. Load the "
                f"network from its file, or make the layer anew with its own values."
            )
        values: HostArray = self.values
        if values.shape != shape:
            transposed = values.shape == shape[::-1] and what == "weights"
            hint = " Transpose them: values.T; Keras has them (n_in, n_out)." if transposed else ""
            raise ValueError(
                f"Array: the {what} of this layer are {names}, here {_by(shape)}; got {_by(values.shape)}.{hint}"
            )
        return values


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


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
    """1 or −1, each with probability ½: for the scales that tell the members of an ensemble apart (Wen et al. 2020).

    `chunks`: of how many rows each share their signs, so that inputs which say one thing together have one, as in TabM
    (Gorishniy et al. 2024); together they are n_out. None: each has its own.
    """

    chunks: Any = None

    def __post_init__(self) -> None:
        if self.chunks is not None:
            who = "RandomSigns(chunks)"
            if not isinstance(self.chunks, list | tuple):
                raise TypeError(f"{who} expects a list of numbers of rows, got {self.chunks!r}.")
            chunks = tuple(check_integer(f"{who}, number {i},", n, low=1) for i, n in enumerate(self.chunks))
            object.__setattr__(self, "chunks", chunks)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        if self.chunks is None:
            return rng.integers(0, 2, shape) * 2.0 - 1.0
        if sum(self.chunks) != n_out:
            raise ValueError(f"RandomSigns(chunks) has {sum(self.chunks)} rows in all, and here are {n_out}.")
        return np.repeat(rng.integers(0, 2, (len(self.chunks), shape[1])) * 2.0 - 1.0, self.chunks, axis=0)

    def blocks(self, rng: np.random.Generator, n_out: int, n_in: int, rows: int) -> Iterator[HostArray] | None:
        return super().blocks(rng, n_out, n_in, rows) if self.chunks is None else None


@INITIALIZERS.register("zeros")
@dataclass(frozen=True)
class Zeros(ElementwiseInitializer):
    """Every weight is 0. In a hidden layer that means `SymmetryWarning`."""

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return np.zeros(shape)


@INITIALIZERS.register("std")
@dataclass(frozen=True)
class UnitStd(ElementwiseInitializer):
    """W_i/s_i with W ~ N(0, 1), s_i the standard deviation of unit i's products over the first batch: each then has 1.

    Units whose products do not vary, as over inputs that are constant, keep what was drawn. Source: Holzmüller et al.
    (2024), "Better by default", appendix; for whole networks LeCun et al. (1998), Mishkin & Matas (2016, LSUV).
    """

    looks_at_data = True

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int], n_out: int, n_in: int) -> HostArray:
        return _normal(rng, 1.0, shape)

    @property
    def makes_biases(self) -> bool:
        return False

    def of_data(self, rng: np.random.Generator, weights: HostArray, Z: HostArray) -> HostArray:
        std = Z.std(axis=1, keepdims=True)
        least = np.finfo(np.float32).eps * np.abs(Z).max(axis=1, keepdims=True)
        return weights / np.where(std > least, std, 1.0)


@INITIALIZERS.register("he+5")
@dataclass(frozen=True)
class HePlus(Initializer):
    """b_i = −Σ_k t_k z_ik: each unit bends at a random place among its products with the first batch.

    z_i1, ..., z_in are products of n random samples with the unit's weights, t a random convex combination of them,
    uniform over all such. Until there are samples b = 0. For `bias_init` alone. Source: Steinwart (2019), "A sober look
    at neural network initializations", as in Holzmüller et al. (2024), "Better by default", with n = 5.
    """

    n: int = 5
    looks_at_data = True

    def __post_init__(self) -> None:
        check_integer("HePlus(n)", self.n, low=1)

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        raise ValueError(f"{self!r} makes biases, and no weights: write bias_init='he+5'.")

    def biases(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
        return np.zeros((n_out, 1))

    @property
    def makes_biases(self) -> bool:
        return True

    @property
    def makes_weights(self) -> bool:
        return False

    def of_data(self, rng: np.random.Generator, weights: HostArray, Z: HostArray) -> HostArray:
        n_out, n_samples = Z.shape
        chosen = rng.integers(0, n_samples, (n_out, self.n))
        shares = rng.standard_exponential((n_out, self.n))
        shares /= shares.sum(axis=1, keepdims=True)
        return -(np.take_along_axis(Z, chosen, axis=1) * shares).sum(axis=1, keepdims=True)


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


def drawing_is_left_out() -> bool:
    """Whether `without_drawing` is in force."""
    return _LEFT_OUT.get()


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
