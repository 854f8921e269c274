"""The numbers of a real pass: what goes in and out of every layer, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from .._types import Array, HostArray
from ..activations import ACTIVATIONS
from ..backend import Ops
from ..layers import BatchEnsemble, Dense, DenseEnsemble, Dropout, Layer
from ..model import Sequential

WEIGHTED = (Dense, DenseEnsemble, BatchEnsemble)
"""Layers of weighted sums Z with an activation after them."""


class Trace:
    """What a layer has computed, on the host: `A0`, `A`, `Z` of weighted sums, and the gradients of these."""

    def __init__(self) -> None:
        self.arrays: dict[str, HostArray] = {}


def host(ops: Ops, array: Array) -> HostArray:
    """A copy on the host, rows in memory one after another."""
    return np.array(ops.to_numpy(array), order="C")


@contextmanager
def traced(model: Sequential) -> Iterator[dict[str, Trace]]:
    """Within, passes of the model are kept, by the path of the layer ("0", "1.block.0")."""
    traces = {layer.path: Trace() for layer in model.walk()}
    layers = list(model.walk())
    for layer in layers:
        _watch(layer, traces[layer.path])
    try:
        yield traces
    finally:
        for layer in layers:
            del layer.forward, layer.backward


def _watch(layer: Layer, trace: Trace) -> None:
    forward, backward, ops, kept = layer.forward, layer.backward, layer.ops, trace.arrays

    def watched_forward(A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        kept["A0"] = host(ops, A0)
        if isinstance(layer, WEIGHTED):
            kept["Z"] = _sums(layer, A0, cache)
        A = forward(A0, cache, training)
        kept["A"] = host(ops, A)
        if isinstance(layer, Dropout) and A is not A0:
            kept["M"] = host(ops, cache.mask)
        return A

    def watched_backward(dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        kept["dA"] = host(ops, dA)
        dA0 = backward(dA, cache, needs_input_gradient)
        if isinstance(layer, WEIGHTED):
            kept["dY" if isinstance(layer, BatchEnsemble) else "dZ"] = host(ops, dA)  # in whose place it is written
        if dA0 is not None:
            kept["dA0"] = host(ops, dA0)
        return dA0

    layer.forward, layer.backward = watched_forward, watched_backward  # type: ignore[method-assign]


def _sums(layer: Dense | DenseEnsemble | BatchEnsemble, A0: Array, cache: SimpleNamespace) -> HostArray:
    """Z, which the activation may take the place of: the layer's own forward pass with the identity after it."""
    activation, ops = layer.activation, layer.ops
    Z = ops.matrix(layer.n_out, A0.shape[1], cache.A.dtype)
    own = SimpleNamespace(**vars(cache) | {"Z": Z, "A": Z})
    layer.activation = ACTIVATIONS.resolve("identity")
    try:
        type(layer).forward(layer, A0, own, True)  # type: ignore[arg-type]
    finally:
        layer.activation = activation
    return host(ops, Z)
