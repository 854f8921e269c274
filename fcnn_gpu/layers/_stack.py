"""Layers one after another: what a model, a residual block and a branch have in common."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import activations
from .._checks import suggest
from .._types import Array
from ..activations import ACTIVATIONS
from ..backend import called
from ._base import LAYERS, Layer
from .activation import Activation

_MOST_NESTED = 64
"""Passes, copies and files go through nested blocks by recursion, a few calls a level; Python allows 1000 in all."""


def check_nesting(who: str, layers: Sequence[Layer]) -> int:
    """How deep layers are nested where these are inside one more. ValueError where that is too deep."""
    depth = 1 + max(layer._depth for layer in layers)
    if depth > _MOST_NESTED:
        raise ValueError(
            f"{who} layers are nested {depth} deep here; at most {_MOST_NESTED} may be. Put them one after another, "
            "which takes any number."
        )
    return depth


def resolve_layers(layers: Any, who: str) -> list[Layer]:
    """A list of layers from layers, names and configurations; a TypeError names what is neither."""
    if isinstance(layers, str | Layer) or not isinstance(layers, Sequence):
        raise TypeError(f"{who} expects a list of layers, got {layers!r}.")
    if not layers:
        raise ValueError(f"{who} expects at least one layer, got an empty list.")
    return [_resolve_layer(layer) for layer in layers]


def _resolve_layer(spec: Any) -> Layer:
    if isinstance(spec, activations.Activation):
        return Activation(spec)
    if isinstance(spec, str) and spec not in LAYERS:
        answer = LAYERS.answer(spec)
        if answer is None and (spec in ACTIVATIONS or spec in ACTIVATIONS.synonyms):
            return Activation(spec)
        known = suggest(spec, [*LAYERS, *ACTIVATIONS], ACTIVATIONS.synonyms)
        raise ValueError(f"Unknown layer or activation {spec!r}. {answer or ACTIVATIONS.answer(spec) or known}")
    if isinstance(spec, str) and spec in ("dense", "activation", "residual", "branches"):
        raise TypeError(f"A {spec!r} layer needs arguments: write {LAYERS[spec].__name__}(...) instead of its name.")
    return LAYERS.resolve(spec)


def build_layers(layers: Sequence[Layer], n_in: int, seeds: Sequence[np.random.SeedSequence], prefix: str) -> int:
    """Build layers one after another; returns the width of the last."""
    for i, (layer, seed) in enumerate(zip(layers, seeds, strict=True)):
        layer.build(n_in, seed, f"{prefix}{i}")
        n_in = layer.n_out
    return n_in


def first_learned(layers: Sequence[Layer]) -> int:
    """The index of the first layer that learns, before which no gradient is needed; len(layers) if none does."""
    learned = (i for i, layer in enumerate(layers) if any(map(_learns, layer.walk())))
    return next(learned, len(layers))


def _learns(layer: Layer) -> bool:
    return any(not parameter.frozen for parameter in layer.parameters())


def backward_layer(layer: Layer, dA: Array | None, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
    """`layer.backward`; gradients of frozen parameters that it has written are 0 behind it."""
    dA0: Array | None = called(layer, layer.backward, dA, cache, needs_input_gradient)
    for parameter in layer._dropped:
        layer.ops.fill(parameter.gradient, 0.0)
    return dA0


def backward_layers(
    layers: Sequence[Layer], caches: Sequence[SimpleNamespace], dA: Array, first: int, needs_input_gradient: bool
) -> Array | None:
    """The chain rule through a stack: each layer's dA₀ is the dA of the one before it.

    It ends at layer `first`, whose own dA₀ is computed only if the gradient of the stack's input is asked for.
    """
    gradient: Array | None = dA
    for i in range(len(layers) - 1, first - 1, -1):
        gradient = backward_layer(layers[i], gradient, caches[i], needs_input_gradient or i > first)
    return gradient if needs_input_gradient else None
