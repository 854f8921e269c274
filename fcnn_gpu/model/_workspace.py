"""The arrays that one model computes in: made once, cut to any batch size up to the largest seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._types import Array
from ..backend import CapturedOver, Ops, ThisThread
from ..layers import BatchPart, Layer
from ._arena import ALIGNED, Layout, Sizes, aligned, best, lay_out_inference, lay_out_training, needs_of
from ._fusion import FusedPass, kept_matrices
from ._precision import Precision
from ._recompute import Segment, SegmentedPass, candidates, one_segment, segments_of

_KEPT_SIZES = 1024
"""Batch sizes whose views and captured passes are kept, some 30 KiB each: all that inference in its usual batches has.
"""


@dataclass
class BatchArrays:
    """What a pass over one batch size uses: a cache for each layer and, for training, where ∂L/∂outputs goes.

    `part`: of which effective batch the samples are a part. Whoever begins a pass over a later part sets its `first`.

    `inputs` (n_in, batch), at inference: where samples are put that are not used where they lie (`Workspace.inputs`).
    `kept`, in training: the one buffer that all matrices of the caches lie in, if a pass may be one launch.
    `over`: at inference, whole passes over samples wherever they lie, by what is known of
    these, each with the `n_changes` that it was made at.
    `segmented`: the training pass where layers are run again in its backward half.
    """

    batch: int
    caches: list[SimpleNamespace]
    part: BatchPart
    output_gradient: Array | None
    inputs: Array | None = None
    rest: CapturedRest | None = None
    over: dict[tuple[Any, ...], tuple[int, CapturedOver | None]] = field(default_factory=dict)
    kept: Array | None = None
    fused: FusedPass | None = None
    segmented: SegmentedPass | None = None
    is_shared: bool = False
    """Whether they lie, at inference, where training computes."""


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
    layout: Layout | None = None
    """Where things lie in buffers that are shared."""
    inference: dict[int, BatchArrays | None] = field(default_factory=dict)
    """The views of inference in the buffers of training, by batch size; None where those are too small."""
    laid_out: ThisThread = field(default_factory=ThisThread)
    """Set in the thread that made the layout."""


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
        return aligned(n * self._arrays.capacity)

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
        if self._ops.gradients_lie_apart(n * np.dtype(self._dtype).itemsize, self._arrays.capacity):
            return self.matrix(n)
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


class _SharedPlan(_Plan):
    """Hands out views of buffers that layers take in turn, as a `Layout` says; layer by layer (`enter`)."""

    def __init__(self, layout: Layout, *args: Any) -> None:
        super().__init__(*args)
        self._layout = layout
        self._at: list[Sizes | None] = [None if start is None else dict(start) for start in layout.starts]
        self._entered: Sizes | None = None

    def enter(self, i: int) -> None:
        """What is asked for from now on is layer i's."""
        self._entered = self._at[i]

    def scratch(self, slot: int, n: int) -> Array:
        return self._view(self._layout.scratch[slot], n)

    def inputs(self, n: int) -> Array:
        return self._view(self._layout.scratch[0], n)

    def output(self, segment: int, n: int) -> Array | None:
        """Where the output of a segment is kept."""
        start = self._layout.outputs[segment]
        return None if start is None else self._view(start, n)

    def _view(self, start: int, n: int) -> Array:
        return self._cut(start, n * self.batch, self._dtype).reshape(self.batch, n).T

    def _own(self, size: int, dtype: Any) -> Array:
        at, dtype = self._entered, np.dtype(dtype)
        if at is None:
            return super()._own(size, dtype)
        start, at[dtype] = at[dtype], at[dtype] + aligned(size)
        return self._cut(start, size, dtype)

    def _cut(self, start: int, size: int, dtype: Any) -> Array:
        dtype = np.dtype(dtype)
        return self._buffer(f"shared {dtype.name}", self._layout.sizes[dtype], dtype)[start : start + size]


class Workspace:
    """Activations, caches and gradient scratch of a stack of layers.

    Training keeps every layer's output for the backward pass; gradients need two scratch buffers of the widest layer,
    which consecutive layers use in turn. A smaller batch takes the front of each buffer: every matrix is F-ordered, so
    the front is contiguous. A larger batch than ever before makes them anew. Training and inference have buffers of
    their own: an evaluation in large batches neither disturbs nor enlarges what training computes in. Those of
    inference are each thread's own, so that several threads may predict with one model; training belongs to one thread.

    Args:
        recompute: keep the output of every so many layers and run the others again in the backward pass; True: of as
            many as take the least memory; False: keep all.
        share: inference of the thread that trains takes the buffers of training, in batches that have room there.
        may_repeat: for each layer, whether to run it twice gives the same as once; asked for where one of the others
            is set.
    """

    def __init__(
        self,
        ops: Ops,
        precision: Precision,
        layers: Sequence[Layer],
        n_in: int,
        recompute: bool | int = False,
        share: bool = False,
        may_repeat: Sequence[bool] = (),
    ) -> None:
        self._recompute, self._share, self._may_repeat = recompute, share, may_repeat
        self.ops, self._precision = ops, precision
        self._layers = layers
        self._n_in = n_in
        self.is_sparse = False
        """Whether training was last on sparse samples: ∂L/∂A₀, as wide as these are, has no place then."""
        self._held: dict[bool, _Shared | _PerThread] = {True: _Shared(), False: _PerThread()}

    @property
    def _widest(self) -> int:
        """Units of the widest gradient."""
        inner = [part for layer in self._layers[self.is_sparse :] for part in layer.walk()]
        first = self._layers[0].n_out if self.is_sparse else self._n_in
        return max(first, *(max(part.n_in, part.n_out) for part in inner)) if inner else first

    def batch(self, batch: int, training: bool, whole: int | None = None, is_sparse: bool = False) -> BatchArrays:
        """The arrays for a batch of this size, or for parts of this size of a `whole` batch.

        `is_sparse`: of sparse samples, in training.
        """
        if not training:
            shared = self._shared_inference(batch)
            if shared is not None:
                return shared
        elif is_sparse != self.is_sparse:
            self.is_sparse, self._held[True].arrays = is_sparse, _Arrays()
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
            if training and (self._recompute is not False or self._share):
                arrays = self._allocate_shared(held.arrays, batch, whole)
            else:
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
            for i in reversed(range(self.is_sparse, len(self._layers))):
                slot = self._layers[i].allocate_backward(plan, arrays.caches[i], slot)
        return arrays

    # Buffers that are shared

    def _allocate_shared(self, held: _Arrays, batch: int, whole: int) -> BatchArrays:
        """The arrays of training where layers take buffers in turn."""
        layers, segments = self._layers, self._segments
        if held.layout is None:
            if self._share:
                self.release_inference()  # made before there was anything to share
            held.layout = self._training_layout(segments, held.capacity, held.whole)
            held.laid_out.here = True
        plan = _SharedPlan(held.layout, self.ops, self._precision, held, self._widest, batch, whole)
        caches = []
        for i, layer in enumerate(layers):
            plan.enter(i)
            caches.append(layer.allocate(plan, True))
        slot = 0
        arrays = BatchArrays(batch, caches, plan.part, plan.scratch(slot, layers[-1].n_out))
        for i in reversed(range(self.is_sparse, len(layers))):
            plan.enter(i)
            slot = layers[i].allocate_backward(plan, caches[i], slot)
        outputs = [plan.output(i, layers[segment.stop - 1].n_out) for i, segment in enumerate(segments)]
        arrays.segmented = SegmentedPass(self.ops, layers, caches, segments, outputs, plan.part)
        return arrays

    def _needs(self, capacity: int, whole: int, training: bool) -> list[Sizes | None]:
        dtypes = np.dtype(self._precision.compute_dtype), np.dtype(self._precision.dtype)
        return [
            needs_of(layer, capacity, whole, *dtypes, training) if repeats else None
            for layer, repeats in zip(self._layers, self._may_repeat, strict=True)
        ]

    def _training_layout(self, segments: Sequence[Segment], capacity: int, whole: int) -> Layout:
        needs, widths = self._needs(capacity, whole, True), [layer.n_out * capacity for layer in self._layers]
        dtype = np.dtype(self._precision.compute_dtype)
        return lay_out_training(needs, segments, widths, self._widest * capacity, dtype)

    @cached_property
    def _segments(self) -> list[Segment]:
        n = len(self._layers)
        if self._recompute is False:
            return one_segment(n)
        if self._recompute is not True:
            return segments_of(self._may_repeat, self._recompute)
        tried = {every: segments_of(self._may_repeat, every) for every in candidates(n)}
        layouts = {every: self._training_layout(made, ALIGNED, ALIGNED) for every, made in tried.items()}
        return tried[best(layouts)]

    def _shared_inference(self, batch: int) -> BatchArrays | None:
        """The arrays of inference in the buffers of training; None where they have no room or are not to be shared.

        In buffers for sparse samples there would be no room for the network's input, which others need.
        """
        held = self._held[True].arrays
        if not self._share or self.is_sparse or held.layout is None or not held.laid_out.here:
            return None
        if batch not in held.inference:
            if len(held.inference) >= _KEPT_SIZES:
                held.inference.clear()
            dtype = np.dtype(self._precision.compute_dtype)
            layout = lay_out_inference(self._needs(batch, batch, False), self._n_in * batch, dtype)
            fits = all(size <= held.layout.sizes.get(key, 0) for key, size in layout.sizes.items())
            held.inference[batch] = self._cut_inference(held, layout, batch) if fits else None
        return held.inference[batch]

    def _cut_inference(self, held: _Arrays, layout: Layout, batch: int) -> BatchArrays:
        buffers = _Arrays(batch, batch, {name: x for name, x in held.buffers.items() if name.startswith("shared ")})
        plan = _SharedPlan(layout, self.ops, self._precision, buffers, self._widest, batch, batch)
        caches = []
        for i, layer in enumerate(self._layers):
            plan.enter(i)
            caches.append(layer.allocate(plan, False))
        return BatchArrays(batch, caches, plan.part, None, plan.inputs(self._n_in), is_shared=True)

    def inference_batch(self, batch: int) -> int:
        """The largest batch size, up to this one, that inference has room for where it shares buffers."""
        held = self._held[True].arrays
        if not self._share or self.is_sparse or held.layout is None or not held.laid_out.here:
            return batch
        low, high = 0, batch  # low has room; bisection between it and what has none
        if self._shared_inference(batch) is not None:
            return batch
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._shared_inference(middle) is None else (middle, high)
        return low or batch

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

    def release_training(self, batch: int) -> None:
        """Let go of the buffers of training if they are for more samples than `batch`."""
        if self._held[True].arrays.capacity > batch:
            self._held[True].arrays = _Arrays()

    def release_inference(self) -> None:
        """Let go of the buffers of this thread's inference."""
        self._held[False].arrays = _Arrays()

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers of training, and of inference in this thread, hold now."""
        return sum(buffer.nbytes for held in self._held.values() for buffer in held.arrays.buffers.values())
