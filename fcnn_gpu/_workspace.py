"""The arrays that one model computes in: made once, cut to any batch size up to the largest seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._types import Array
from .backend._ops import Ops
from .layers import Layer


@dataclass
class BatchArrays:
    """What a pass over one batch size uses: a cache for each layer and, for training, where ∂L/∂outputs goes."""

    batch: int
    caches: list[SimpleNamespace]
    output_gradient: Array | None


class _Plan:
    """Hands out views for one batch size, always in the same sequence, from buffers that hold the largest."""

    def __init__(self, workspace: Workspace, batch: int) -> None:
        self.batch = batch
        self._workspace = workspace
        self._next = 0

    def matrix(self, n: int, dtype: Any = None) -> Array:
        workspace = self._workspace
        flat = workspace.buffer(self._next, n * workspace.capacity, workspace.dtype if dtype is None else dtype)
        self._next += 1
        return flat[: n * self.batch].reshape(self.batch, n).T

    def column(self, n: int) -> Array:
        flat = self._workspace.buffer(self._next, n, self._workspace.dtype)
        self._next += 1
        return flat.reshape(n, 1)

    def scratch(self, slot: int, n: int) -> Array:
        return self._workspace.gradient_scratch(slot)[: n * self.batch].reshape(self.batch, n).T


class Workspace:
    """Activations, caches and gradient scratch of a stack of layers.

    Training keeps every layer's output for the backward pass; gradients need two scratch buffers of the widest layer,
    which consecutive layers use in turn. A smaller batch takes the front of each buffer: every matrix is F-ordered, so
    the front is contiguous. A larger batch than ever before makes all anew (and `generation` counts that).
    """

    def __init__(self, ops: Ops, dtype: np.dtype[Any], layers: Sequence[Layer], n_in: int) -> None:
        self.ops, self.dtype = ops, dtype
        self._layers = layers
        self._n_in = n_in
        self._widest = max(n_in, *(max(inner.n_in, inner.n_out) for layer in layers for inner in layer.walk()))
        self.capacity = 0
        self.generation = 0
        self._clear()

    def _clear(self) -> None:
        self._buffers: list[dict[int, Array]] = [{}, {}]
        self._training = False
        self._scratch: dict[int, Array] = {}
        self._views: dict[tuple[int, bool], BatchArrays] = {}

    def batch(self, batch: int, training: bool) -> BatchArrays:
        """The arrays for a batch of this size."""
        found = self._views.get((batch, training))
        if found is not None:
            return found
        if batch > self.capacity:
            self._clear()
            self.capacity = batch
            self.generation += 1
        self._training = training
        plan = _Plan(self, batch)
        arrays = BatchArrays(batch, [layer.allocate(plan, training) for layer in self._layers], None)
        if training:
            slot = 0
            arrays.output_gradient = plan.scratch(slot, self._layers[-1].n_out)
            for layer, cache in zip(reversed(self._layers), reversed(arrays.caches), strict=True):
                slot = layer.allocate_backward(plan, cache, slot)
        self._views[batch, training] = arrays
        return arrays

    def buffer(self, number: int, size: int, dtype: Any) -> Array:
        """The flat buffer of this number in the plan under way; training and inference have plans of their own."""
        buffers = self._buffers[self._training]
        if number not in buffers:
            buffers[number] = self.ops.empty(size, dtype)
        return buffers[number]

    def gradient_scratch(self, slot: int) -> Array:
        """The flat gradient scratch 0 or 1."""
        if slot not in self._scratch:
            self._scratch[slot] = self.ops.empty(self._widest * self.capacity, self.dtype)
        return self._scratch[slot]

    @property
    def nbytes(self) -> int:
        """Bytes that all buffers hold now."""
        buffers = [*self._buffers[0].values(), *self._buffers[1].values(), *self._scratch.values()]
        return sum(buffer.nbytes for buffer in buffers)
