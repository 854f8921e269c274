"""The elementwise rules behind `OptimizerOps.update_by_rule`: what a step adds to a parameter, from g and the state.

A rule gives a direction u, and θ ← θ(1 − ηλ) − ηu. Its numbers are those of the step, from t = 1, 2, ... and from the
settings, in float64. kernels/update_by_rule.cu and kernels/cpu/update_by_rule.c have the same rules in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..._types import Array
from . import _numpy as np
from ._array import constant_tile

Settings = Sequence[float]
LARGEST_SQUARE = 2.0**50
"""Of Adadelta's mean square of updates: far beyond all use, and what keeps them from overflowing."""
LEAST_SHARE = 2.0**-24
"""Of the mean square, as which a variance counts at least: float32 cannot tell less from 0."""
_LARGEST_MEAN = 2.0**62
"""Its square is finite in float32: of a mean square that is not, nothing else can be taken."""
_NEGLIGIBLE = 2.0**-60


@dataclass(frozen=True)
class UpdateRule:
    """`numbers(t, settings)` are step t's; `direction(g, state, settings, numbers, t, u)` is u, t and u scratch.

    Of every step there are equally many numbers.
    """

    numbers: Callable[[int, Settings], tuple[float, ...]]
    direction: Callable[[Array, Sequence[Array], Settings, Sequence[Array], Array, Array], Array]


def _averaged(m: Array, beta: float, x: Array, t: Array) -> None:
    """m ← βm + (1 − β)x; t is scratch, and may be x."""
    np.multiply(x, 1.0 - beta, out=t)
    np.multiply(m, beta, out=m)
    np.add(m, t, out=m)


def _averaged_square(v: Array, beta: float, g: Array, t: Array) -> None:
    """v ← βv + (1 − β)g²"""
    np.multiply(g, g, out=t)
    _averaged(v, beta, t, t)


def _nadam_numbers(t: int, settings: Settings) -> tuple[float, ...]:
    """a = (1 − μ_t)/(1 − Π), b = μ_{t+1}/(1 − Π·μ_{t+1}), Π = μ_1 ⋯ μ_t, μ_i = β₁(1 − ½·fadeⁱ); 1/√(1 − β₂ᵗ).

    The product is made anew in each step: after few factors it no longer counts beside 1.
    """
    beta1, beta2, _, fade = settings
    power, product = 1.0, 1.0
    for _i in range(t):
        power *= fade
        product *= beta1 * (1.0 - 0.5 * power)
        if product < _NEGLIGIBLE:
            break
    now, following = (beta1 * (1.0 - 0.5 * fade**i) for i in (t, t + 1))
    a, b = (1.0 - now) / (1.0 - product), following / (1.0 - product * following)
    return b / a, a, 1.0 / math.sqrt(1.0 - beta2**t)


def _nadam(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    m, v = state
    _averaged(m, settings[0], g, t)
    _averaged_square(v, settings[1], g, t)
    np.multiply(m, k[0], out=u)
    np.add(u, g, out=u)
    np.multiply(u, k[1], out=u)
    np.sqrt(v, out=t)
    np.multiply(t, k[2], out=t)
    np.add(t, settings[2], out=t)
    np.divide(u, t, out=u)
    return u


def _radam_numbers(t: int, settings: Settings) -> tuple[float, ...]:
    """(f, s, e) of u = f·m/(s√v + e): rectified where ρ_t > 5, else m̂ alone."""
    beta1, beta2, eps = settings
    remaining, first = 1.0 - beta2**t, 1.0 / (1.0 - beta1**t)
    longest = 2.0 / (1.0 - beta2) - 1.0
    rho = longest - 2.0 * t * beta2**t / remaining
    if rho <= 5.0:
        return first, 2.0**-126, 1.0  # not 0: times a v that is infinite that is NaN
    rectified = (rho - 4.0) * (rho - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * rho)
    return first * math.sqrt(rectified * remaining), 1.0, eps


def _radam(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    m, v = state
    _averaged(m, settings[0], g, t)
    _averaged_square(v, settings[1], g, t)
    np.sqrt(v, out=t)
    np.multiply(t, k[1], out=t)
    np.add(t, k[2], out=t)
    np.divide(m, t, out=u)
    np.multiply(u, k[0], out=u)
    return u


def _adamax(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    m, s = state
    _averaged(m, settings[0], g, t)
    np.abs(g, out=t)
    np.add(t, settings[2], out=t)
    np.multiply(s, settings[1], out=s)
    np.maximum(s, t, out=s)
    np.divide(m, s, out=u)
    np.multiply(u, k[0], out=u)
    return u


def _adadelta(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    v, d = state
    rho, eps = settings
    _averaged_square(v, rho, g, t)
    np.add(d, eps, out=u)
    np.add(v, eps, out=t)
    np.divide(u, t, out=u)
    np.sqrt(u, out=u)
    np.multiply(u, g, out=u)
    _averaged_square(d, rho, u, t)
    np.minimum(d, constant_tile(LARGEST_SQUARE, d.shape, d.dtype), out=d)
    return u


def _lion(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    [m] = state
    beta1, beta2 = settings
    np.multiply(g, 1.0 - beta1, out=t)
    np.multiply(m, beta1, out=u)
    np.add(u, t, out=u)
    np.sign(u, out=u)
    _averaged(m, beta2, g, t)
    return u


def _amsgrad_numbers(t: int, settings: Settings) -> tuple[float, ...]:
    """(1 − β₁)/(c(1 − β₁ᵗ)) and ε/c, c = √((1 − β₂)/(1 − β₂ᵗ)): of moments without their factors (1 − β), as Adam's."""
    beta1, beta2, eps = settings
    c = math.sqrt((1.0 - beta2) / (1.0 - beta2**t))
    return (1.0 - beta1) / ((1.0 - beta1**t) * c), eps / c


def _amsgrad(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    m, v, top = state
    np.multiply(m, settings[0], out=m)
    np.add(m, g, out=m)
    np.multiply(g, g, out=t)
    np.multiply(v, settings[1], out=v)
    np.add(v, t, out=v)
    np.maximum(top, v, out=top)
    np.sqrt(top, out=t)
    np.add(t, k[1], out=t)
    np.divide(m, t, out=u)
    np.multiply(u, k[0], out=u)
    return u


def _centered(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    v, mean, *rest = state
    alpha, eps, momentum = settings
    _averaged_square(v, alpha, g, t)
    _averaged(mean, alpha, g, t)
    np.abs(mean, out=t)
    np.minimum(t, constant_tile(_LARGEST_MEAN, t.shape, t.dtype), out=t)
    np.multiply(t, t, out=t)
    np.subtract(v, t, out=u)
    np.multiply(v, LEAST_SHARE, out=t)
    np.maximum(u, t, out=u)
    np.sqrt(u, out=u)
    np.add(u, eps, out=u)
    np.divide(g, u, out=u)
    if not rest:
        return u
    [velocity] = rest
    np.multiply(velocity, momentum, out=velocity)
    np.add(velocity, u, out=velocity)
    return velocity


def _along(g: Array, state: Sequence[Array], settings: Settings, k: Sequence[Array], t: Array, u: Array) -> Array:
    [direction] = state
    return direction


UPDATE_RULES: dict[str, UpdateRule] = {
    "nadam": UpdateRule(_nadam_numbers, _nadam),
    "radam": UpdateRule(_radam_numbers, _radam),
    "adamax": UpdateRule(lambda t, settings: (1.0 / (1.0 - settings[0] ** t),), _adamax),
    "adadelta": UpdateRule(lambda t, settings: (), _adadelta),
    "lion": UpdateRule(lambda t, settings: (), _lion),
    "amsgrad": UpdateRule(_amsgrad_numbers, _amsgrad),
    "centered": UpdateRule(lambda t, settings: (), _centered),
    "along": UpdateRule(lambda t, settings: (), _along),
}
"""By name; a rule's place is its number in the enumerations of the kernels."""
