"""Which weights of a network lie between others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._base import Layer
from .branches import Branches
from .residual import Residual


def hidden_weights(layers: Sequence[Layer]) -> set[str]:
    """The names of the weights with others before and behind them: neither of a first layer nor of a last one.

    Layers beside each other, as those of `Branches`, are each a first or a last one.
    """
    every = {name for layer in layers for inner in layer.walk() for name in _own(inner)}
    return every - _outermost(layers) - _outermost(list(reversed(layers)), backwards=True)


def _own(layer: Layer) -> set[str]:
    return {f"{layer.path}.{p.name}" for p in layer.parameters() if p.is_weight}


def _outermost(layers: Iterable[Layer], backwards: bool = False) -> set[str]:
    """The weights that are met first on the way through these layers, or on the way back."""
    for layer in layers:
        found = _own(layer)
        for path in _paths(layer):
            found |= _outermost(reversed(path) if backwards else path, backwards)
        if found:
            return found
    return set()


def _paths(layer: Layer) -> list[Sequence[Layer]]:
    """The sequences of layers inside of one that lie beside each other."""
    if isinstance(layer, Branches):
        return list(layer.branches)
    if isinstance(layer, Residual):
        return [layer.block, [] if layer.projection is None else [layer.projection]]
    return [layer.sublayers()]
