"""Networks of nothing but small Dense layers: their forward pass in one launch, where that is faster."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from .._types import Array
from ..backend import DenseStack, FlatParameters, Ops, StackLayer
from ..layers import Dense, Dropout, GaussianNoise, Layer


def kept_matrices(ops: Ops, layers: Sequence[Layer], dtype: Any) -> list[int]:
    """The units of each matrix that training keeps, in the order in which the layers ask for them.

    Empty where a training pass cannot be one launch: then nobody needs them in one buffer.
    """
    stack = _stackable(ops, layers, dtype, training=True)
    return [layer.n_out for layer in stack for _ in range(1 if layer.activation.from_output else 2)]


def _stackable(ops: Ops, layers: Sequence[Layer], dtype: Any, training: bool) -> list[Dense]:
    """The layers that compute something, if they may be one launch, else none. Dropout and noise do in training."""
    computing = [layer for layer in layers if training or not isinstance(layer, Dropout | GaussianNoise)]
    dense = [layer for layer in computing if isinstance(layer, Dense) and layer.activation.is_primitive]
    if not dense or len(dense) != len(computing):
        return []
    if any(layer.weights.stored is not None or layer.gain != 1.0 for layer in dense):
        return []
    widths = [dense[0].n_in, *(layer.n_out for layer in dense)]
    return [] if ops.fusion_obstacle(widths, dtype) is not None else dense


def _described(layer: Dense, cache: SimpleNamespace, is_last: bool) -> StackLayer:
    """What the pass reads of a layer, and where it may leave what `Dense.backward` reads."""
    W, b, activation = layer._W, layer._b, layer.activation
    assert W is not None
    return StackLayer(
        W.compute,
        None if b is None else b.value,
        activation.name,
        activation.slope,
        Z=None if activation.from_output else cache.Z,
        A=None if is_last else cache.A,
    )


class FusedPass:
    """The forward pass through all layers of a model at one batch size, as one launch.

    Args:
        ops: the model's primitives.
        layers: all of its layers, which compute by primitives alone.
        caches: those of the layers for this batch size.
        flat: the model's parameters.
        training: whether the backward pass follows.
        kept: the flat buffer that every matrix of the caches lies in, in training (`kept_matrices`).
        n_changes: of the model's settings, which the pass has taken over (`Sequential.n_changes`).
    """

    def __init__(
        self,
        ops: Ops,
        layers: Sequence[Layer],
        caches: Sequence[SimpleNamespace],
        flat: FlatParameters,
        training: bool,
        kept: Array | None,
        n_changes: int,
    ) -> None:
        self.n_changes = n_changes
        self._ops = ops
        self._stack: DenseStack | None = None
        weights = flat.values if flat.low is None else flat.low
        dense = _stackable(ops, layers, weights.dtype, training)
        stacked = set(map(id, dense))
        self._caches = [cache for layer, cache in zip(layers, caches, strict=True) if id(layer) in stacked]
        if dense:
            described = [
                _described(layer, cache, layer is dense[-1]) for layer, cache in zip(dense, self._caches, strict=True)
            ]
            self._stack = ops.dense_stack(described, weights, flat.values, kept if training else None)

    def run(self, A0: Array) -> Array | None:
        """The outputs for A0 (n_in, batch), and in training what the backward pass needs.

        None where the layers cannot be one launch, or are faster one by one.
        """
        if self._stack is None:
            return None
        out: Array = self._caches[-1].A
        if not self._ops.fusion_pays(self._stack, A0, out):
            return None
        self._ops.fused_forward(self._stack, A0, out)
        A = A0
        for cache in self._caches:
            cache.A0, A = A, cache.A
        return out
