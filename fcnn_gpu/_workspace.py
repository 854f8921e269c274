"""The arrays that one model computes in: made once, cut to any batch size up to the largest seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ._fusion import FusedPass, kept_matrices
from ._precision import Precision
from ._types import Array
from .backend._ops import Ops
from .layers import BatchPart, Layer

_KEPT_SIZES = 1024
"""Batch sizes whose views and captured passes are kept, some 30 KiB each: all that inference in its usual batches has.
"""


_ALIGNED = 128
"""Elements, 256 bytes or more, between places at which the matrices of one buffer may begin."""


@dataclass
class BatchArrays:
    """What a pass over one batch size uses: a cache for each layer and, for training, where ∂L/∂outputs goes.

    `part`: of which effective batch the samples are a part. Whoever begins a pass over a later part sets its `first`.

    `inputs` (n_in, batch), at inference: where samples are put that are not used where they lie (`Workspace.inputs`).
    `kept`, in training: the one buffer that all matrices of the caches lie in, if a pass may be one launch.
    """

    batch: int
    caches: list[SimpleNamespace]
    part: BatchPart
    output_gradient: Array | None
    inputs: Array | None = None
    rest: CapturedRest | None = None
    kept: Array | None = None
    fused: FusedPass | None = None


@dataclass
class CapturedRest:
    """At inference, the pass from `inputs` on: what does not depend on where X lies.

    `inputs` is the workspace's own array for samples, or the first layer's output.
    """

    inputs: Array
    n_changes: int
    run: Callable[[], None]
    outputs: list[Array]


@dataclass
class _Arrays:
    """The flat buffers of training or of inference, and the views cut from them, by batch size and whole batch.

    They are for batches of up to `capacity` samples, parts of whole batches of up to `whole`.
    """

    capacity: int = 0
    whole: int = 0
    buffers: dict[str, Array] = field(default_factory=dict)
    views: dict[tuple[int, int], BatchArrays] = field(default_factory=dict)


class _Shared:
    """The arrays that every thread computes in."""

    def __init__(self) -> None:
        self.arrays = _Arrays()


class _PerThread(threading.local):
    """The same, apart for each thread (threading.local calls __init__ once in each)."""

    def __init__(self) -> None:
        self.arrays = _Arrays()


class _Plan:
    """Hands out views for one batch size, always in the same sequence, from buffers that hold the largest.

    `together` are the units of all matrices that will be asked for, if they are to lie in one buffer, `kept`.
    """

    def __init__(
        self,
        ops: Ops,
        precision: Precision,
        arrays: _Arrays,
        widest: int,
        batch: int,
        whole: int,
        together: Sequence[int] = (),
    ) -> None:
        self.batch = batch
        self.part = BatchPart(whole)
        self.statistics_dtype = precision.dtype
        self._ops, self._dtype, self._arrays, self._widest = ops, precision.compute_dtype, arrays, widest
        self._n_given = 0
        self.kept: Array | None = None
        self._kept_until = 0
        if together:
            size = sum(self._stretch(n) for n in together)
            self.kept = self._buffer(f"kept {size}", size, self._dtype)

    def _stretch(self, n: int) -> int:
        """Elements of `kept` for a matrix of n units, so that the next one begins where vectors do."""
        return -(-n * self._arrays.capacity // _ALIGNED) * _ALIGNED

    def matrix(self, n: int, dtype: Any = None) -> Array:
        if self.kept is not None and dtype is None:
            start = self._kept_until
            self._kept_until += self._stretch(n)
            return self.kept[start : start + n * self.batch].reshape(self.batch, n).T
        flat = self._own(n * self._arrays.capacity, self._dtype if dtype is None else dtype)
        return flat[: n * self.batch].reshape(self.batch, n).T

    def whole_matrix(self, n: int, dtype: Any = None) -> Array:
        flat = self._own(n * self._arrays.whole, self._dtype if dtype is None else dtype)
        return flat[: n * self.part.whole].reshape(self.part.whole, n).T

    def column(self, n: int) -> Array:
        return self._own(n, self.statistics_dtype).reshape(n, 1)

    def scratch(self, slot: int, n: int) -> Array:
        flat = self._buffer(f"gradient {slot}", self._widest * self._arrays.capacity, self._dtype)
        return flat[: n * self.batch].reshape(self.batch, n).T

    def inputs(self, n: int) -> Array:
        flat = self._buffer("inputs", n * self._arrays.capacity, self._dtype)
        return flat[: n * self.batch].reshape(self.batch, n).T

    def _own(self, size: int, dtype: Any) -> Array:
        """The next buffer in sequence: the same one for every batch size."""
        self._n_given += 1
        return self._buffer(f"own {self._n_given}", size, dtype)

    def _buffer(self, name: str, size: int, dtype: Any) -> Array:
        buffers = self._arrays.buffers
        if name not in buffers:
            buffers[name] = self._ops.empty(size, dtype)
        return buffers[name]


class Workspace:
    """Activations, caches and gradient scratch of a stack of layers.

    Training keeps every layer's output for the backward pass; gradients need two scratch buffers of the widest layer,
    which consecutive layers use in turn. A smaller batch takes the front of each buffer: every matrix is F-ordered, so
    the front is contiguous. A larger batch than ever before makes them anew. Training and inference have buffers of
    their own: an evaluation in large batches neither disturbs nor enlarges what training computes in. Those of
    inference are each thread's own, so that several threads may predict with one model; training belongs to one thread.
    """

    def __init__(self, ops: Ops, precision: Precision, layers: Sequence[Layer], n_in: int) -> None:
        self.ops, self._precision = ops, precision
        self._layers = layers
        self._n_in = n_in
        self._widest = max(n_in, *(max(inner.n_in, inner.n_out) for layer in layers for inner in layer.walk()))
        self._held: dict[bool, _Shared | _PerThread] = {True: _Shared(), False: _PerThread()}

    def batch(self, batch: int, training: bool, whole: int | None = None) -> BatchArrays:
        """The arrays for a batch of this size, or for parts of this size of a `whole` batch."""
        held = self._held[training]
        whole = batch if whole is None else whole
        found = held.arrays.views.get((batch, whole))
        if found is not None:
            return found
        if batch > held.arrays.capacity or whole > held.arrays.whole:
            held.arrays = _Arrays(max(batch, held.arrays.capacity), max(whole, held.arrays.whole))
        if len(held.arrays.views) >= _KEPT_SIZES:
            held.arrays.views.clear()
        try:
            arrays = self._allocate(held.arrays, batch, training, whole)
        except BaseException:
            held.arrays = _Arrays()  # buffers of this size without the rest would be in the way of a smaller batch
            raise
        held.arrays.views[batch, whole] = arrays
        return arrays

    def _allocate(self, held: _Arrays, batch: int, training: bool, whole: int) -> BatchArrays:
        together = kept_matrices(self.ops, self._layers, self._precision.compute_dtype) if training else ()
        plan = _Plan(self.ops, self._precision, held, self._widest, batch, whole, together)
        caches = [layer.allocate(plan, training) for layer in self._layers]
        arrays = BatchArrays(batch, caches, plan.part, None, kept=plan.kept)
        if training:
            slot = 0
            arrays.output_gradient = plan.scratch(slot, self._layers[-1].n_out)
            for layer, cache in zip(reversed(self._layers), reversed(arrays.caches), strict=True):
                slot = layer.allocate_backward(plan, cache, slot)
        return arrays

    def inputs(self, arrays: BatchArrays) -> Array:
        """The (n_in, batch) array of an inference batch that samples may be put into."""
        if arrays.inputs is None:
            held = self._held[False].arrays
            plan = _Plan(self.ops, self._precision, held, self._widest, arrays.batch, arrays.batch)
            arrays.inputs = plan.inputs(self._n_in)
        return arrays.inputs

    def release(self) -> None:
        """Let go of the buffers of training and of this thread's inference; the next pass makes new ones."""
        for held in self._held.values():
            held.arrays = _Arrays()

    def release_inference(self) -> None:
        """Let go of the buffers of this thread's inference."""
        self._held[False].arrays = _Arrays()

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers of training, and of inference in this thread, hold now."""
        return sum(buffer.nbytes for held in self._held.values() for buffer in held.arrays.buffers.values())
