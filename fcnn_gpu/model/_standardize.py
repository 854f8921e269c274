"""Standardized features and targets, folded into the network once it is trained.

A network trains well on features of mean 0 and standard deviation 1. Its first layer computes W·x̂ + b with
x̂ = (x − μ)/σ, and that is W′·x + b′ with W′ = W/σ (column by column) and b′ = b − W·(μ/σ). In the same way a last
layer that predicts (y − μ)/σ becomes one that predicts y: W′ = σ·W (row by row), b′ = σ·b + μ. The folded network takes
and gives the user's own numbers, so no scaler has to travel with it.

Rounding: in a dtype with the machine epsilon ε, W′·x and b′ are exact to about ε|μ|/(2σ) each, and cancel. Where that
is more than 10⁻⁵ for any column, as for time stamps (μ = 1.7·10⁹ seconds), μ is not folded but stays apart, as the
network's `input_center` or `output_center`, which is subtracted or added in float64; σ is folded all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays import quietly
from .._types import HostArray
from ..layers import Dense, DenseEnsemble
from ..placement import assign_array
from .sequential import Sequential

_CONSTANT = 8.0
"""A column that spreads by no more than this many roundings of its mean holds nothing else: it is not scaled."""
_FOLDED = 1e-5
"""What folding may cost, in standard deviations."""
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from 1 to the next number that products are computed with, by precision."""
_UNITS = {"float16": (1e-3, 1e3)}
"""Spreads that weights can take up in a precision without leaving its range, 10⁻³⁰ to 10³⁰ in others."""
_AT_ONCE = 2**20
"""Numbers that are standardized at a time."""


@dataclass(frozen=True)
class Standardization:
    """x̂ = (x − mean)/scale, column by column; float64 arrays (n_columns,)."""

    mean: HostArray
    scale: HostArray

    @classmethod
    def of(cls, values: HostArray) -> Standardization:
        """Mean and standard deviation (divided by n) of each column, in float64; constant columns have scale 1.

        >>> Standardization.of(np.array([[1.0, 5.0], [3.0, 5.0]]))
        Standardization(mean=array([2., 5.]), scale=array([1., 1.]))
        """
        columns = values.reshape(len(values), -1)
        first = columns[0].astype(np.float64)  # sums of what lies far from 0 would lose what is left of it
        mean = first + sum((part - first).sum(axis=0) for part in _parts(columns)) / len(columns)
        scale = np.sqrt(sum(((part - mean) ** 2).sum(axis=0) for part in _parts(columns)) / len(columns))
        beyond = (scale == 0) | ~np.isfinite(scale)
        if beyond.any():  # squares of what is very small or very large are 0 or infinite
            largest = np.max([np.abs(part - mean).max(axis=0) for part in _parts(columns)], axis=0)
            unit = np.where(beyond & (largest > 0), largest, 1.0)
            squares = sum((((part - mean) / unit) ** 2).sum(axis=0) for part in _parts(columns))
            scale = np.where(beyond, unit * np.sqrt(squares / len(columns)), scale)
        return cls(mean, np.where(scale > _CONSTANT * np.finfo(values.dtype).eps * np.abs(mean), scale, 1.0))

    def apply(self, values: HostArray, dtype: Any = None) -> HostArray:
        """The standardized values in their own shape: computed in float64, then rounded to `dtype` (None: theirs)."""
        columns = values.reshape(len(values), -1)
        standardized = np.empty(columns.shape, values.dtype if dtype is None else dtype)
        start = 0
        for part in _parts(columns):
            standardized[start : start + len(part)] = (part - self.mean) / self.scale
            start += len(part)
        return standardized.reshape(values.shape)

    def check_units(self, precision: str, what: str, names: Sequence[str] | None = None) -> None:
        """ValueError where weights divided or multiplied by a column's spread would leave the range of a precision."""
        low, high = _UNITS.get(precision, (1e-30, 1e30))
        outside = np.flatnonzero((self.scale < low) | (self.scale > high))
        if len(outside):
            column = int(outside[0])
            name = f" ({names[column]!r})" if names is not None else ""
            remedy = " or train in another --precision" if precision in _UNITS else ""
            raise ValueError(
                f"Column {column}{name} of the {what} spreads by {self.scale[column]:.3g}, and weights in {precision} "
                f"take up spreads of {low:g} to {high:g}. Give it in other units{remedy}."
            )

    def folds(self, precision: str) -> bool:
        """Whether the mean can be folded into a bias, in products of this precision, without a loss of digits."""
        return bool((np.abs(self.mean) * (_EPSILON[precision] / 2) <= _FOLDED * self.scale).all())


def _parts(columns: HostArray) -> Iterator[HostArray]:
    """The rows, some at a time, in float64."""
    rows = max(1, _AT_ONCE // columns.shape[1])
    for start in range(0, len(columns), rows):
        yield columns[start : start + rows].astype(np.float64)


def check_foldable(model: Sequential, place: str) -> Dense | DenseEnsemble:
    """The Dense layer that takes up a standardization: the "first" for features, the "last" for targets.

    Raises ValueError where there is none.
    """
    layer = model.layers[0 if place == "first" else -1]
    if not isinstance(layer, Dense | DenseEnsemble if place == "last" else Dense) or not layer.bias:
        raise ValueError(
            f"Standardization is folded into a {place} layer that is Dense with a bias; this network's is {layer}. "
            "Standardize the data yourself, or begin and end the network with Dense layers."
        )
    if place == "last" and layer.activation.name != "identity":
        raise ValueError(f"Targets can only be scaled behind a linear last layer, and {layer} is not.")
    return layer


@quietly
def fold_features(model: Sequential, features: Standardization) -> None:
    """W ← W/σ, b ← b − W·(μ/σ) in the first layer: a model of standardized features becomes one of the raw ones.

    Where b would cancel with W·x, it stays, and the model's input center becomes μ.
    """
    layer = check_foldable(model, "first")
    assert isinstance(layer, Dense)
    W, b = _double(model, layer.W) / features.scale, _double(model, layer.b)
    if features.folds(model.precision):
        b = b - layer.gain * (W @ features.mean[:, np.newaxis])
    else:
        model.input_center = features.mean
    _assign(model, layer, W, b)


@quietly
def fold_targets(model: Sequential, targets: Standardization) -> None:
    """W ← σW, b ← σb + μ in the last layer, of each member where there are several: a model of standardized targets

    becomes one of the raw ones. Where μ would take the digits of the outputs, b ← σb, and the model's output center
    becomes μ, that of each member.
    """
    layer = check_foldable(model, "last")
    members = layer.members if isinstance(layer, DenseEnsemble) else 1
    scale, mean = targets.scale[:, np.newaxis], targets.mean[:, np.newaxis]
    W, b = scale * _double(model, layer.W), np.tile(scale, (members, 1)) * _double(model, layer.b)
    if targets.folds(model.precision):
        b = b + np.tile(mean, (members, 1))
    else:
        model.output_center = np.tile(targets.mean, members)
    _assign(model, layer, W, b)


def _double(model: Sequential, array: HostArray) -> HostArray:
    return model.ops.to_numpy(array).astype(np.float64)


def _assign(model: Sequential, layer: Dense | DenseEnsemble, W: HostArray, b: HostArray) -> None:
    assign_array(model.ops, layer.W, W.astype(model.dtype))
    model.ops.assign(layer.b, b.astype(model.dtype))
