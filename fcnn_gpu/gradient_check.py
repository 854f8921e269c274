"""Gradient check: the derivatives of any layer, loss, regularizer or whole network against finite differences.

For the objective J = data loss + penalties and an array θ (a parameter, or the input X) with gradient g = ∂J/∂θ,

    g · u  ≈  (J(θ + hu) − J(θ − hu)) / 2h,      error O(h²) + O(ε|J|/h),

which is best near h = ε^⅓ ≈ 6·10⁻⁶ in float64 (float32 cannot tell a wrong factor from rounding). Small arrays are
checked entry by entry (u the unit vectors), large ones along random unit vectors: a wrong gradient that a random u does
not see has probability 0, and a direction costs two forward passes whatever the network's size.

The relative error is |numeric − analytic| / max(|numeric|, |analytic|, f). The floor f makes a difference that rounding
alone explains, 32ε·max(|J|, 1)/h, count as no more than the tolerance.

At a kink (ReLU at 0, |e| at 0) there is no derivative to compare with. Where the difference is too large and the
one-sided slopes or a smaller step show a kink within the step, the step is made smaller, then another direction is
drawn; an entry that sits on a kink itself is counted and left out. An array of which nothing could be compared fails.

Sources: the notes of Stanford's CS231n, "Neural networks part 3: gradient checks" (centred formula, relative error,
kinks); Chainer's `gradient_check.check_backward` (random directions).

>>> import numpy as np, fcnn_gpu as fcnn
>>> layers = [fcnn.Dense(4, activation="tanh", l2=0.01), fcnn.Dense(3)]
>>> model = fcnn.Sequential(layers, n_in=5, seed=0, dtype="float64", backend="numpy")
>>> X = np.random.default_rng(0).normal(size=(7, 5))
>>> report = check_model(model, "cross_entropy", X, [0, 1, 2, 0, 1, 2, 0])
>>> report.passed
True
>>> list(report.errors)
['0.W', '0.b', '1.W', '1.b', 'X']
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ._arrays import quietly
from ._checks import check_integer, check_real
from ._html import ShownAsText
from ._on_demand import own_names
from ._types import Array, HostArray
from .backend import Ops, to_numpy
from .data import check_features
from .layers import Layer, Parameter
from .losses import LOSSES, Loss
from .model import Sequential
from .placement import assign_array
from .regularizers import REGULARIZERS, Regularizer

__dir__ = own_names(__name__)

TOLERANCE = 1e-6
"""Truncation leaves about 10⁻¹⁰ of a smooth function's derivative wrong; a wrong formula is off by 10⁻³ or far more."""

_EPSILON = float(np.finfo(np.float64).eps)
_STEP = _EPSILON ** (1 / 3)
_ROUNDINGS = 32.0
_SHRINK = 4.0
_ATTEMPTS = 3
_REDRAWS = 8


@dataclass(frozen=True)
class ArrayCheck:
    """What was found for one array: the worst relative error, and the two numbers that it comes from."""

    name: str
    shape: tuple[int, ...]
    per_entry: bool
    """Whether entries were compared, not random directions."""
    n_compared: int
    n_kinks: int
    """Entries or directions that were left out because the function has a kink there."""
    error: float
    """The worst relative error; NaN where nothing could be compared."""
    analytic: float = math.nan
    numeric: float = math.nan
    entry: tuple[int, ...] | None = None
    """Where the worst error is, if entries were compared."""

    def __str__(self) -> str:
        unit = "entries" if self.per_entry else "directions"
        kinks = f", {self.n_kinks} at kinks left out" if self.n_kinks else ""
        if not self.n_compared:
            return f"{self.name} {self.shape}: nothing compared{kinks}"
        place = f" at {list(self.entry)}" if self.entry is not None else ""
        return (
            f"{self.name} {self.shape}: relative error {self.error:.1e}{place} (analytic {self.analytic:.6g}, "
            f"numeric {self.numeric:.6g}; {self.n_compared} {unit}{kinks})"
        )


@dataclass(frozen=True)
class GradientReport(ShownAsText):
    """The outcome of a check. `print(report)` lists every array, the worst first."""

    checks: tuple[ArrayCheck, ...]
    tolerance: float
    errors: dict[str, float] = field(init=False)
    """Relative error by array: "0.W", "0.b", ..., and "X" for the input."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", {check.name: check.error for check in self.checks})

    @property
    def passed(self) -> bool:
        """Whether every array could be compared and none is off by more than the tolerance."""
        return all(check.error <= self.tolerance for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """The names of the arrays whose gradient is wrong, or could not be compared."""
        return [check.name for check in self.checks if not check.error <= self.tolerance]

    @property
    def worst(self) -> ArrayCheck:
        """The array with the largest error; one of which nothing could be compared comes first."""
        return self._by_error()[0]

    def _by_error(self) -> list[ArrayCheck]:
        return sorted(self.checks, key=lambda check: math.inf if math.isnan(check.error) else check.error, reverse=True)

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"FAILED ({', '.join(self.failed)})"
        lines = [f"gradient check {verdict}, tolerance {self.tolerance:g}"]
        return "\n".join(lines + [f"  {check}" for check in self._by_error()])


@dataclass(frozen=True)
class _Options:
    n_directions: int
    max_entries: int
    tolerance: float
    seed: int

    def __post_init__(self) -> None:
        check_integer("gradient check (n_directions)", self.n_directions, low=1)
        check_integer("gradient check (max_entries)", self.max_entries, low=0)
        check_real("gradient check (tolerance)", self.tolerance, low=0.0, low_open=True)
        check_integer("gradient check (seed)", self.seed, low=0)


@quietly
def check_model(
    model: Sequential,
    loss: str | Loss,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    n_directions: int = 3,
    max_entries: int = 64,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> GradientReport:
    """Check ∂J/∂θ of every parameter θ and ∂J/∂X, J = loss + penalties of one training pass over X, y.

    Arrays of up to `max_entries` elements are checked entry by entry, larger ones along `n_directions` random unit
    vectors (drawn by `seed`). Dropout draws the same mask in every pass. The model must be float64 and is left as it
    was found: parameters, gradients, running statistics and the position in the stream of masks.

    Of X, columns that number categories are left out: there is no number between two of them. So are frozen parameters.

    Raises ValueError for a float32 model, and whatever the pass itself refuses (shapes, labels, NaN).
    """
    options = _Options(n_directions, max_entries, tolerance, seed)
    return _check_model(model, LOSSES.resolve(loss), X, y, sample_weight, options)


@quietly
def check_layer(
    layer: Layer,
    n_in: int,
    batch: int = 5,
    *,
    backend: str | Ops | None = "numpy",
    n_directions: int = 3,
    max_entries: int = 64,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> GradientReport:
    """Check one layer by itself: the objective is Σ C ⊙ A, A the layer's output and C random numbers, plus penalties.

    Takes a layer that belongs to no model and works on a copy of it. Input (batch, n_in), C and an offset of every
    parameter from its initial value (a zero bias would hide mistakes) are normal random numbers, drawn by `seed`.
    `backend` is that of `Sequential`.

    >>> import fcnn_gpu as fcnn
    >>> check_layer(fcnn.Dense(3, activation="gelu", l2=0.1), n_in=4).passed
    True
    """
    options = _Options(n_directions, max_entries, tolerance, seed)
    check_integer("check_layer(batch)", batch, low=1)
    if not isinstance(layer, Layer):
        raise TypeError(f"check_layer expects a Layer, got {layer!r}.")
    if layer.n_in:
        raise ValueError(f"check_layer expects a layer that belongs to no model; {layer} is layer {layer.path} of one.")
    model = Sequential([copy.deepcopy(layer)], n_in, seed=seed, dtype="float64", backend=backend)
    rng = np.random.default_rng([seed, 0x1A7E6])
    for parameter in model.parameters:
        initial = model.ops.to_numpy(parameter.value)
        assign_array(model.ops, parameter.value, initial + 0.2 * rng.standard_normal(initial.shape))
    X = rng.standard_normal((batch, n_in))
    if model.categories is not None:
        X[:, model.categories.columns] = rng.integers(0, model.categories.counts, (batch, len(model.categories.counts)))
    return _check_model(model, _Projection(rng.standard_normal((batch, model.n_out))), X, None, None, options)


@quietly
def check_loss(
    loss: str | Loss,
    outputs: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    n_directions: int = 3,
    max_entries: int = 64,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> GradientReport:
    """Check ∂L/∂outputs of a loss at raw `outputs` (batch, n_outputs) and targets y.

    >>> import numpy as np
    >>> check_loss("huber", np.array([[0.3, -4.0]]), np.array([[0.0, 1.0]])).passed
    True
    """
    options = _Options(n_directions, max_entries, tolerance, seed)
    checked = copy.copy(LOSSES.resolve(loss))
    base = check_features(outputs, None, np.float64, "check_loss (outputs)")

    def value(at: HostArray) -> float:
        return float(checked.forward(at, y, sample_weight))

    value(base)
    gradient = np.array(checked.backward())
    check = _check_array("outputs", base, gradient, value, options, np.random.default_rng(seed))
    return GradientReport((check,), tolerance)


@quietly
def check_regularizer(
    regularizer: str | Regularizer,
    W: Any,
    *,
    n_directions: int = 3,
    max_entries: int = 64,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> GradientReport:
    """Check ∂R/∂W of a penalty at the weights W (n_out, n_in).

    >>> import numpy as np
    >>> check_regularizer("l1_l2", np.array([[1.0, -2.0]])).passed
    True
    """
    options = _Options(n_directions, max_entries, tolerance, seed)
    penalty = REGULARIZERS.resolve(regularizer)
    base = check_features(W, None, np.float64, "check_regularizer (W)")
    check = _check_array("W", base, penalty.gradient(base), penalty.value, options, np.random.default_rng(seed))
    return GradientReport((check,), tolerance)


class _Projection:
    """The objective Σ C ⊙ outputs, whose gradient with respect to the outputs is C: what stands in for a loss."""

    def __init__(self, C: HostArray) -> None:
        self._C = C

    def forward(self, outputs: Array, y: Any, sample_weight: Any = None) -> float:
        return float((self._C * to_numpy(outputs)).sum())

    def backward(self) -> HostArray:
        return self._C


def _check_model(
    model: Sequential, loss: Loss | _Projection, X: Any, y: Any, sample_weight: Any, options: _Options
) -> GradientReport:
    if model.dtype != np.float64:
        raise ValueError(
            f"A gradient check needs a float64 model, this one is {model.dtype.name}: build it with dtype='float64'."
        )
    ops, flat = model.ops, model.flat
    base = check_features(X, model.n_in, np.float64, "gradient check")
    loss = copy.copy(loss)
    snapshot, gradients, random_step = model.snapshot(), ops.copy(flat.gradients), ops.copy(model.random_step)

    def objective(at: HostArray) -> float:
        ops.assign(model.random_step, random_step)  # the same dropout masks in every pass
        return float(loss.forward(model.forward(at, training=True), y, sample_weight)) + model.penalty()

    try:
        objective(base)
        dX = model.backward(ops.asarray(loss.backward()), input_gradient=True)
        dX = np.array(ops.to_numpy(dX))
        ops.penalized_gradient(flat, flat.gradients)
        found = {id(p): _objective_gradient(ops, p) for p in model.parameters if not p.frozen}
        rng = np.random.default_rng(options.seed)
        checks = []
        for layer in model.walk():
            for parameter in layer.parameters():
                if parameter.frozen:
                    continue
                name, live = f"{layer.path}.{parameter.name}", parameter.value
                theta = np.array(ops.to_numpy(live))

                def at_parameter(values: HostArray, live: Array = live) -> float:
                    assign_array(ops, live, values)
                    return objective(base)

                checks.append(_check_array(name, theta, found[id(parameter)], at_parameter, options, rng))
                assign_array(ops, live, theta)
        smooth = np.ones(model.n_in, bool)
        if model.categories is not None:
            smooth[list(model.categories.columns)] = False

        def at_inputs(values: HostArray) -> float:
            X = base.copy()
            X[:, smooth] = values
            return objective(X)

        if smooth.any():
            checks.append(_check_array("X", base[:, smooth], dX[:, smooth], at_inputs, options, rng))
    finally:
        model.restore(snapshot)
        ops.assign(flat.gradients, gradients)
        ops.assign(model.random_step, random_step)
    return GradientReport(tuple(checks), options.tolerance)


def _objective_gradient(ops: Ops, parameter: Parameter) -> HostArray:
    """∂J/∂θ: what is in the flat gradients, with penalties already, or that of a weight which is not there."""
    gradient = np.array(ops.to_numpy(parameter.gradient))
    if parameter.stored is None:
        return gradient
    theta = np.asarray(parameter.value)
    return gradient + 2.0 * parameter.l2 * theta + parameter.l1 * np.sign(theta)


def _check_array(
    name: str,
    theta: HostArray,
    gradient: HostArray,
    value: Callable[[HostArray], float],
    options: _Options,
    rng: np.random.Generator,
) -> ArrayCheck:
    """Compare `gradient` with differences of `value` around theta."""
    if gradient.shape != theta.shape:
        raise ValueError(f"The gradient of {name} has shape {gradient.shape}, {name} itself {theta.shape}.")
    per_entry = theta.size <= options.max_entries
    wanted = theta.size if per_entry else options.n_directions
    size = float(np.linalg.norm(theta)) / (math.sqrt(theta.size) if per_entry else 1.0)
    step = _STEP * max(1.0, size)
    compared = kinks = 0
    error, worst_analytic, worst_numeric, worst_entry = -1.0, math.nan, math.nan, None
    for trial in range(wanted if per_entry else wanted + _REDRAWS):
        if compared == wanted:
            break
        entry = tuple(int(i) for i in np.unravel_index(trial, theta.shape)) if per_entry else None
        u = _direction(theta.shape, entry, rng)
        analytic = float(np.vdot(gradient, u))
        found = _compare_along(partial(_along, value, theta, u), analytic, step, options.tolerance)
        if found is None:
            kinks += 1
            continue
        compared += 1
        if found[0] > error:
            (error, worst_numeric), worst_analytic, worst_entry = found, analytic, entry
    if not compared:
        return ArrayCheck(name, theta.shape, per_entry, 0, kinks, math.nan)
    return ArrayCheck(name, theta.shape, per_entry, compared, kinks, error, worst_analytic, worst_numeric, worst_entry)


def _direction(shape: tuple[int, ...], entry: tuple[int, ...] | None, rng: np.random.Generator) -> HostArray:
    """The unit vector of an entry, or a random one."""
    if entry is None:
        u = rng.standard_normal(shape)
        return u / float(np.linalg.norm(u))
    u = np.zeros(shape)
    u[entry] = 1.0
    return u


def _along(value: Callable[[HostArray], float], theta: HostArray, u: HostArray, t: float) -> float:
    return value(theta + t * u)


def _compare_along(
    value: Callable[[float], float], analytic: float, step: float, tolerance: float
) -> tuple[float, float] | None:
    """(relative error, numeric derivative) of t ↦ value(t) at t = 0; None where it has a kink within every step tried.

    A kink at distance k < h from 0, where the slope jumps by s, adds s(h − k)/2h to the central difference and
    s(h − k)/h to the difference of the one-sided slopes, which is otherwise h·J″ and so proportional to h. With a step
    of h/4 both change in a way that no smooth function's do; only one of the two can stay the same for any k.
    """
    centre = value(0.0)
    for _ in range(_ATTEMPTS):
        numeric, bend, scale = _differences(value, centre, step)
        rounding = _ROUNDINGS * _EPSILON * max(scale, 1.0) / step
        difference = abs(numeric - analytic)
        if not math.isfinite(difference):
            return math.inf, numeric
        error = difference / max(abs(numeric), abs(analytic), rounding / tolerance)
        if error <= tolerance:
            return error, numeric
        nearer, nearer_bend, _ = _differences(value, centre, step / _SHRINK)
        signs_of_kink = max(abs(numeric - nearer), abs(bend - _SHRINK * nearer_bend))
        if signs_of_kink < difference / 4:
            return error, numeric
        step /= _SHRINK
    return None


def _differences(value: Callable[[float], float], centre: float, h: float) -> tuple[float, float, float]:
    """(central difference, right slope − left slope, largest |value|) at 0 with step h."""
    right, left = value(h), value(-h)
    return (right - left) / (2 * h), (right - 2 * centre + left) / h, max(abs(right), abs(left), abs(centre))
