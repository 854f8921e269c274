"""A data set that stays on the host and streams through the device in chunks, two of them at a time.

::

    thread           read chunk 2 ─► page-locked 0      read chunk 3 ─► page-locked 1
    side stream   ... copy 1 ─► device 1   │ copy 2 ─► device 0   │ copy 3 ...
    compute       steps on chunk 0 (device 0)│ steps on chunk 1 (device 1)│ steps on chunk 2 ...

A chunk holds many batches, in the order in which the epoch visits the samples. A buffer is filled again when the
computation on it is done, and computed on when its copy is done: both are waits between the two streams, and no thread
of the host waits for the device but for page-locked memory that is still being copied from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._types import Array
from ..backend import Ops
from ..files import ReadAhead
from ._device_data import BatchBuffers, BatchViews, InputMap, Rates, Samples, Stretch
from ._supply import Fill, Supply

_N_BUFFERS = 2


class _Buffer:
    """One of the two places that chunks go through: page-locked memory, device memory, and the marks between them."""

    def __init__(self, host: Samples, device: Samples, free: Any) -> None:
        self.host, self.device = host, device
        self.free: Any = free
        """The compute stream's mark after which the device memory may be overwritten."""
        self.copied: Any = None
        """The side stream's mark behind the last copy to it."""


class ChunkStream:
    """The samples of a supply in chunks of `window` samples on the device, in any order of visits."""

    def __init__(self, ops: Ops, supply: Supply, window: int) -> None:
        self.window = window
        self.supply = supply
        self._side = side = ops.side_stream()
        host = [supply.empty(window, side.host_buffer) for _ in range(_N_BUFFERS)]
        device = [supply.empty(window, ops.empty) for _ in range(_N_BUFFERS)] if side.copies else host
        allocated = side.record_compute()  # the memory may have been freed with work on it still under way
        self._buffers = [_Buffer(*arrays, allocated) for arrays in zip(host, device, strict=True)]

    def __len__(self) -> int:
        return len(self.supply)

    def on_device(self, part: int) -> Samples:
        """The device memory of chunks number part, part + 2, ...: always the same arrays."""
        return self._buffers[part].device

    def on_host(self, part: int) -> Samples:
        """The same samples on the host, until the chunk after them is asked for."""
        return self._buffers[part].host

    @contextmanager
    def visit(self, order: Any, n: int) -> Iterator[Iterator[Stretch]]:
        """Chunk by chunk the first n samples of an order, on the device when the compute stream comes to it.

        A chunk lasts until the next one is asked for. An error while reading is raised from the iteration. Whatever
        ends the visit, its thread has ended and its copies are done when it is left, and the next one waits for what
        has been queued on a chunk that was not left for another.
        """

        def load(first: int, part: int) -> Stretch:
            stretch = Stretch(part, first, min(self.window, n - first))
            self._fill(self._buffers[part], stretch.n, fill)
            return stretch

        try:
            with (
                self.supply.reading(order, n) as fill,
                ReadAhead(range(0, n, self.window), load, _N_BUFFERS) as stretches,
            ):
                yield self._in_turn(stretches)
        finally:
            computed = self._side.record_compute()
            for buffer in self._buffers:
                buffer.free = computed
                if buffer.copied is not None:
                    self._side.synchronize(buffer.copied)

    def _in_turn(self, stretches: Iterator[Stretch]) -> Iterator[Stretch]:
        """Each chunk to be computed on in this thread's compute stream, until the next one is asked for."""
        for stretch in stretches:
            buffer = self._buffers[stretch.part]
            self._side.compute_waits(buffer.copied)
            yield stretch
            buffer.free = self._side.record_compute()

    def _fill(self, buffer: _Buffer, n: int, fill: Fill) -> None:
        side = self._side
        host, device = buffer.host.front(n), buffer.device.front(n)
        for array in host.arrays():
            side.before_writing(array)
        fill(host)
        if side.copies:
            side.wait(buffer.free)
            for source, out in zip(host.arrays(), device.arrays(), strict=True):
                side.copy(source, out)
            buffer.copied = side.record()


class StreamedData:
    """`DeviceData` for what does not fit: the same batches, in the same order, out of a `ChunkStream`.

    `cursor` is the position of the next batch in the chunk that is being computed on.
    """

    n_parts = _N_BUFFERS

    is_sparse = False
    """Sparse samples stay on the device whole."""

    def __init__(self, ops: Ops, supply: Supply, batch_size: int, window: int, inputs: InputMap) -> None:
        self.ops, self.inputs = ops, inputs
        self.n_samples = len(supply)
        self.batch_size = min(batch_size, self.n_samples)
        self.window = window
        self._supply = supply
        self._stream = ChunkStream(ops, supply, window)
        self._rows = ops.asarray(np.arange(window))
        self.cursor = ops.zeros(1, np.int64)
        self._order: Any = None
        self._batch = BatchBuffers(ops, self._stream.on_device(0), inputs.dtype)

    def order_of(self, seed: int, epoch: int, shuffle: bool) -> Any:
        """The order of an epoch, for `visit`."""
        return self._supply.order(seed, epoch, shuffle)

    @contextmanager
    def visit(self, order: Any, n: int) -> Iterator[Iterator[Stretch]]:
        """The first n samples in this order, chunk by chunk: see `ChunkStream.visit`."""
        self._order = order
        with self._stream.visit(order, n) as stretches:
            yield self._from_their_beginning(stretches)

    def samples_of(self, stretch: Stretch) -> Samples | None:
        """The samples of a stretch on the host, until the next one is asked for."""
        return self._stream.on_host(stretch.part).front(stretch.n)

    def _from_their_beginning(self, stretches: Iterator[Stretch]) -> Iterator[Stretch]:
        for stretch in stretches:
            self.ops.fill(self.cursor, 0)
            yield stretch

    def views(self, batch: int) -> BatchViews:
        """The front of the batch buffers, for a batch of this many samples."""
        return self._batch.views(batch)

    def release_batch(self) -> None:
        """Let go of the batch buffers."""
        self._batch.release()

    def begin_step(
        self, views: BatchViews, part: int, counter: Array | None, rates: Rates | None, first: int = 0
    ) -> None:
        """Copy the samples from `first` on of the batch at `cursor` of the chunk in buffer `part` into `views`.

        And what begins a step: 1 is added to the counter, and the step gets the next of the learning rates; each is
        left out where None.
        """
        chunk = self._stream.on_device(part)
        sources = chunk.X, chunk.targets, chunk.sample_weight
        scale, shift = self.inputs.scale, self.inputs.shift
        rows = self._rows[first:] if first else self._rows
        self.ops.gather_batch(sources, rows, self.cursor, views.arrays(), counter, scale, shift, rates)

    def gather_at(self, first: int, views: BatchViews) -> None:
        """Copy the batch that begins at position `first` of the visit into `views`, from the host."""
        ops = self.ops
        picked = self._supply.picked(self._order, first, len(views.X))
        ops.assign(views.X, self.inputs.apply(ops, ops.asarray(picked.X)))
        ops.assign(views.targets, picked.targets)
        if picked.sample_weight is not None:
            ops.assign(views.sample_weight, picked.sample_weight)
