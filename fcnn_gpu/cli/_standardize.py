"""Standardized features and targets, folded into the network once it is trained.

A network trains well on features of mean 0 and standard deviation 1. Its first layer computes W·x̂ + b with
x̂ = (x − μ)/σ, and that is W′·x + b′ with W′ = W/σ (column by column) and b′ = b − W·(μ/σ). In the same way a last
layer that predicts (y − μ)/σ becomes one that predicts y: W′ = σ·W (row by row), b′ = σ·b + μ. The folded network takes
and gives the user's own numbers, so no scaler has to travel with it.

Rounding: x in float32 is exact to about |μ|·6·10⁻⁸, and so is W′·x. A feature whose mean is 10⁵ times its spread loses
as much by being stored as float32 as it does by folding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._types import HostArray
from ..layers import Dense
from ..model import Sequential
from ..placement import assign_array

_CONSTANT = 1e-6
"""A feature whose spread is this small beside its mean holds only float32's rounding: it is centred, not scaled."""


@dataclass(frozen=True)
class Standardization:
    """x̂ = (x − mean)/scale, column by column; float64 arrays (n_columns,)."""

    mean: HostArray
    scale: HostArray

    @classmethod
    def of(cls, values: HostArray) -> Standardization:
        """Mean and standard deviation (divided by n) of each column; constant columns have scale 1.

        >>> Standardization.of(np.array([[1.0, 5.0], [3.0, 5.0]]))
        Standardization(mean=array([2., 5.]), scale=array([1., 1.]))
        """
        columns = values.reshape(len(values), -1)
        mean, scale = columns.mean(axis=0, dtype=np.float64), columns.std(axis=0, dtype=np.float64)
        return cls(mean, np.where(scale > _CONSTANT * np.abs(mean), scale, 1.0))

    def apply(self, values: HostArray) -> HostArray:
        """The standardized values, in their own shape and dtype."""
        columns = values.reshape(len(values), -1)
        return ((columns - self.mean) / self.scale).astype(values.dtype).reshape(values.shape)


def check_foldable(model: Sequential, place: str) -> Dense:
    """The Dense layer that takes up a standardization: the "first" for features, the "last" for targets.

    Raises ValueError where there is none.
    """
    layer = model.layers[0 if place == "first" else -1]
    if not isinstance(layer, Dense) or not layer.bias:
        raise ValueError(
            f"Standardization is folded into a {place} layer that is Dense with a bias; this network's is {layer}. "
            "Standardize the data yourself, or begin and end the network with Dense layers."
        )
    if place == "last" and layer.activation.name != "identity":
        raise ValueError(f"Targets can only be scaled behind a linear last layer, and {layer} is not.")
    return layer


def fold_features(model: Sequential, features: Standardization) -> None:
    """W ← W/σ, b ← b − W·(μ/σ) in the first layer: a model of standardized features becomes one of the raw ones."""
    layer = check_foldable(model, "first")
    W = _double(model, layer.W) / features.scale
    b = _double(model, layer.b) - W @ features.mean[:, np.newaxis]
    _assign(model, layer, W, b)


def fold_targets(model: Sequential, targets: Standardization) -> None:
    """W ← σW, b ← σb + μ in the last layer: a model of standardized targets becomes one of the raw ones."""
    layer = check_foldable(model, "last")
    mean, scale = targets.mean[:, np.newaxis], targets.scale[:, np.newaxis]
    _assign(model, layer, scale * _double(model, layer.W), scale * _double(model, layer.b) + mean)


def _double(model: Sequential, array: HostArray) -> HostArray:
    return model.ops.to_numpy(array).astype(np.float64)


def _assign(model: Sequential, layer: Dense, W: HostArray, b: HostArray) -> None:
    assign_array(model.ops, layer.W, W.astype(model.dtype))
    model.ops.assign(layer.b, b.astype(model.dtype))
