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

import itertools
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._inputs import Features
from ._read_ahead import ReadAhead
from ._types import Array, HostArray
from .backend._ops import Ops
from .data import BatchBuffers, BatchViews, InputMap, Rates, Samples, Stretch

_N_BUFFERS = 2
_READERS = 4
"""Threads that read the rows of a chunk: one alone reads random rows far more slowly than a device takes them."""
_BYTES_PER_READER = 2**22
"""What a reader's share must be worth: less is read before another thread has begun."""


class _Buffer:
    """One of the two places that chunks go through: page-locked memory, device memory, and the marks between them."""

    def __init__(self, host: Samples, device: Samples, free: Any) -> None:
        self.host, self.device = host, device
        self.free: Any = free
        """The compute stream's mark after which the device memory may be overwritten."""
        self.copied: Any = None
        """The side stream's mark after which the host memory may be."""


class ChunkStream:
    """Samples, targets and weights of the host in chunks of `window` samples on the device, in any order of visits."""

    def __init__(self, ops: Ops, X: Features, targets: HostArray, sample_weight: HostArray | None, window: int) -> None:
        self.window = window
        self._X, self._targets, self._sample_weight = X, targets, sample_weight
        self._side = side = ops.side_stream()

        def samples(make: Any) -> Samples:
            weight = None if sample_weight is None else make((window,), sample_weight.dtype)
            return Samples(
                make((window, X.n_features), X.dtype), make((window, *targets.shape[1:]), targets.dtype), weight
            )

        device = [samples(ops.empty) for _ in range(_N_BUFFERS)]
        allocated = side.record_compute()  # the memory may have been freed with work on it still under way
        self._buffers = [_Buffer(samples(side.host_buffer), arrays, allocated) for arrays in device]

    def __len__(self) -> int:
        return len(self._X)

    def on_device(self, part: int) -> Samples:
        """The device memory of chunks number part, part + 2, ...: always the same arrays."""
        return self._buffers[part].device

    @contextmanager
    def visit(self, order: HostArray) -> Iterator[Iterator[Stretch]]:
        """Chunk by chunk the samples of these numbers, on the device when the compute stream comes to it.

        A chunk lasts until the next one is asked for. An error while reading is raised from the iteration. Whatever
        ends the visit, its thread has ended and its copies are done when it is left.
        """
        readers = ThreadPoolExecutor(_READERS - 1, "fcnn_gpu prefetch reader")

        def fill(first: int, part: int) -> Stretch:
            rows = order[first : first + self.window]
            self._fill(self._buffers[part], rows, readers)
            return Stretch(part, first, len(rows))

        try:
            with ReadAhead(range(0, len(order), self.window), fill, _N_BUFFERS) as stretches:
                yield self._in_turn(stretches)
        finally:
            readers.shutdown()
            for buffer in self._buffers:
                if buffer.copied is not None:
                    self._side.synchronize(buffer.copied)

    def _in_turn(self, stretches: Iterator[Stretch]) -> Iterator[Stretch]:
        """Each chunk to be computed on in this thread's compute stream, until the next one is asked for."""
        for stretch in stretches:
            buffer = self._buffers[stretch.part]
            self._side.compute_waits(buffer.copied)
            yield stretch
            buffer.free = self._side.record_compute()

    def _fill(self, buffer: _Buffer, rows: HostArray, readers: Executor) -> None:
        side = self._side
        if buffer.copied is not None:
            side.synchronize(buffer.copied)
        host, device = buffer.host.front(len(rows)), buffer.device.front(len(rows))
        self.read(rows, host, readers)
        side.wait(buffer.free)
        for source, out in zip(host.arrays(), device.arrays(), strict=True):
            side.copy(source, out)
        buffer.copied = side.record()

    def read(self, rows: HostArray, out: Samples, readers: Executor) -> None:
        """The samples of these numbers, from the host to the host."""
        n_shares = min(_READERS, max(1, out.X.nbytes // _BYTES_PER_READER))
        places = [len(rows) * i // n_shares for i in range(n_shares + 1)]
        shares = [slice(start, stop) for start, stop in itertools.pairwise(places)]
        done = [readers.submit(self._X.read, rows[share], out.X[share]) for share in shares[1:]]
        self._X.read(rows[shares[0]], out.X[shares[0]])
        for future in done:
            future.result()
        self._targets.take(rows, 0, out.targets, "clip")
        if self._sample_weight is not None:
            self._sample_weight.take(rows, 0, out.sample_weight, "clip")

    def picked(self, rows: HostArray) -> Samples:
        """The samples of these numbers in host memory of their own."""
        weight = None if self._sample_weight is None else self._sample_weight[rows]
        out = Samples(np.empty((len(rows), self._X.n_features), self._X.dtype), self._targets[rows], weight)
        self._X.read(rows, out.X)
        return out


class StreamedData:
    """`DeviceData` for what does not fit: the same batches, in the same order, out of a `ChunkStream`.

    `cursor` is the position of the next batch in the chunk that is being computed on.
    """

    n_parts = _N_BUFFERS

    def __init__(
        self,
        ops: Ops,
        X: Features,
        targets: HostArray,
        sample_weight: HostArray | None,
        batch_size: int,
        window: int,
        inputs: InputMap,
    ) -> None:
        self.ops, self.inputs = ops, inputs
        self.n_samples = len(X)
        self.batch_size = min(batch_size, self.n_samples)
        self.window = window
        self._stream = ChunkStream(ops, X, targets, sample_weight, window)
        self._rows = ops.asarray(np.arange(window))
        self.cursor = ops.zeros(1, np.int64)
        self._order = np.zeros(0, np.int64)
        self._batch = BatchBuffers(ops, self._stream.on_device(0), inputs.dtype)

    @contextmanager
    def visit(self, order: HostArray, n: int) -> Iterator[Iterator[Stretch]]:
        """The first n samples in this order, chunk by chunk: see `ChunkStream.visit`."""
        self._order = order
        with self._stream.visit(order[:n]) as stretches:
            yield self._from_their_beginning(stretches)

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
        picked = self._stream.picked(self._order[first : first + len(views.X)])
        ops.assign(views.X, self.inputs.apply(ops, ops.asarray(picked.X)))
        ops.assign(views.targets, picked.targets)
        if picked.sample_weight is not None:
            ops.assign(views.sample_weight, picked.sample_weight)
