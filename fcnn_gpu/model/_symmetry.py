"""Neurons that start equal and therefore stay equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._types import HostArray
from .._warnings import warn
from ..initializers import SymmetryWarning
from ..layers import Branches, Dense, Layer, Parameter, Residual

_FIRST_ROWS = 2
"""Enough of a matrix to see that its rows differ; that all of them are equal, for initializers that draw one by one."""


def warn_of_symmetry(layers: Sequence[Layer]) -> None:
    """SymmetryWarning for a hidden Dense layer whose neurons all start with the same weights and biases."""
    for layer in _hidden_layers(layers):
        first = [_first_rows(parameter) for parameter in layer.parameters()]
        if layer.n_out > 1 and all(values is not None and (values == values[0]).all() for values in first):
            warn(
                f"All {layer.n_out} neurons of hidden layer {layer.path}, {layer}, start with the same weights "
                f"({layer.init.name}). They compute the same output, and as far as the layers behind treat equal "
                "outputs equally they get the same gradient: they stay equal and learn one feature between them. "
                "Use init='he_normal' or 'xavier_uniform'.",
                SymmetryWarning,
            )


def _first_rows(parameter: Parameter) -> HostArray | None:
    """All initial weights, or the first rows of those yet to be drawn; None where they are only drawn whole."""
    if parameter.draw is None:
        return parameter.initial
    blocks = parameter.draw.blocks(_FIRST_ROWS)
    return None if blocks is None else next(blocks)


def _hidden_layers(layers: Sequence[Layer], hidden: bool = False) -> Iterator[Dense]:
    """The Dense layers between whose neurons nothing but their weights makes a difference.

    The last one of a network is none of them, because each of its neurons has a target of its own; nor is the last one
    of a residual block or a projection, whose neurons are told apart by the input that is added to them. The last one
    of a branch is one where the branches are not the last layer.
    """
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, Dense | Residual | Branches)]
    for i in dense:
        layer = layers[i]
        ends = hidden or i != dense[-1]
        if isinstance(layer, Residual):
            yield from _hidden_layers(layer.block)
        elif isinstance(layer, Branches):
            for branch in layer.branches:
                yield from _hidden_layers(branch, ends)
        elif isinstance(layer, Dense) and ends:
            yield layer
