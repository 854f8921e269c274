"""Neurons that start equal and therefore stay equal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import cast

from .initializers import SymmetryWarning
from .layers import Dense, Layer, Parameter, Residual


def warn_of_symmetry(layers: Sequence[Layer]) -> None:
    """SymmetryWarning for a hidden Dense layer whose neurons all start with the same weights."""
    for layer in _hidden_layers(layers):
        weights = cast(Parameter, layer._W).initial
        if layer.n_out > 1 and (weights == weights[0]).all():
            warnings.warn(
                f"All {layer.n_out} neurons of hidden layer {layer.path}, {layer}, start with the same weights "
                f"({layer.init.name}). They compute the same output, and as far as the layers behind treat equal "
                "outputs equally they get the same gradient: they stay equal and learn one feature between them. "
                "Use init='he_normal' or 'xavier_uniform'.",
                SymmetryWarning,
                stacklevel=4,  # who called Sequential, whose __init__ is wrapped (_out_of_memory.py)
            )


def _hidden_layers(layers: Sequence[Layer]) -> Iterator[Dense]:
    """The Dense layers between whose neurons nothing but their weights makes a difference.

    The last one of a network is none of them, because each of its neurons has a target of its own; nor is the last one
    of a residual block or a projection, whose neurons are told apart by the input that is added to them.
    """
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, Dense | Residual)]
    for i in dense:
        layer = layers[i]
        if isinstance(layer, Residual):
            yield from _hidden_layers(layer.block)
        elif isinstance(layer, Dense) and i != dense[-1]:
            yield layer
