"""Row tiles of stored matrices through a few buffers of the device: read ahead, computed on, written behind."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

from .._types import Array, DType, HostArray
from ..backend import Ops
from ..files import ReadAhead
from ._store import Rows

READING, UPDATING = 2, 3
"""Tiles in memory at a time: one is computed on while the next is read; in an update the last is written as well."""

Arrived = Iterator[tuple[slice, list[Array]]]
Compute = Callable[[slice, list[Array]], None]


class Slot:
    """A place that tiles go through, one of each matrix at a time: its memory, and who uses that still.

    Passes take turns at a slot, and a later one must wait for what an earlier one has queued, or left behind where it
    was broken off. So what is said here lives as long as the memory. (Of the host's memory, the side streams
    themselves know which copies they are still to do.)
    """

    def __init__(self) -> None:
        self.host: list[Array | None] = []
        self.device: list[Array | None] = []
        """Bytes for a tile of each matrix, as a pass needs them."""
        self.free: Any = None
        """The compute stream's mark after which the device's memory may be overwritten."""
        self.taken_back: Any = None
        """The mark behind the copies back from the device's memory."""
        self.written: Future[None] | None = None
        """What still writes from the host's memory, or has."""


class Tiles:
    """Passes over row tiles of matrices that lie on the host or on disk.

    The slots stay from pass to pass; threads take turns at them. On a device, a tile goes through page-locked memory
    of the host and a stream of its own; weights on the host lie in such memory already. On NumPy a tile is computed on
    where it was read to, and one of the host where it lies.
    """

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._slots = [Slot() for _ in range(max(READING, UPDATING))]
        self._turn = threading.Lock()
        self._side = ops.side_stream() if ops.asynchronous else None
        self._back = ops.side_stream() if ops.asynchronous else None  # both directions at a time

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """Memory of the host that tiles can be copied from and to."""
        return self._ops.empty(shape, dtype) if self._side is None else self._side.host_buffer(shape, dtype)

    def before_reading(self, memory: HostArray) -> None:
        """Return when no tile is on its way to this memory of the host."""
        if self._back is not None:
            self._back.before_reading(memory)

    def before_writing(self, memory: HostArray) -> None:
        """Return when no tile is on its way to this memory of the host, or from it."""
        for stream in (self._side, self._back):
            if stream is not None:
                stream.before_writing(memory)

    @contextmanager
    def reading(self, matrices: Sequence[Rows], tiles: Sequence[slice]) -> Iterator[Arrived]:
        """Within: (rows, that tile of each matrix) in order; a tile lasts until the next one is asked for."""
        if self._in_place(matrices):
            yield ((tile, _views(matrices, tile)) for tile in tiles)
            return
        with self._turn:
            passing = _Pass(self, matrices, tiles, READING)
            with ReadAhead(tiles, passing.load, READING) as loaded, closing(passing.arrived(loaded)) as arrived:
                yield arrived

    def update(self, matrices: Sequence[Rows], tiles: Sequence[slice], compute: Compute) -> None:
        """compute(rows, that tile of each matrix) for all tiles in order; what it leaves in them is written back."""
        if self._in_place(matrices):
            for tile in tiles:
                compute(tile, _views(matrices, tile))
            return
        writer = ThreadPoolExecutor(1, "fcnn_gpu write behind")
        try:
            with self._turn:
                passing = _Pass(self, matrices, tiles, UPDATING)
                with ReadAhead(tiles, passing.load, UPDATING) as loaded, closing(passing.arrived(loaded)) as arrived:
                    for i, (tile, arrays) in enumerate(arrived):
                        compute(tile, arrays)
                        passing.write_back(i % UPDATING, tile, writer)
                    passing.finish()
        finally:
            writer.shutdown(wait=True, cancel_futures=True)

    def release(self) -> None:
        """Let go of the buffers; the next pass makes new ones."""
        with self._turn:
            self._settle()
            self._slots = [Slot() for _ in self._slots]

    def _in_place(self, matrices: Sequence[Rows]) -> bool:
        return self._side is None and all(matrix.view(0, 0) is not None for matrix in matrices)

    def _reserve(self, matrices: Sequence[Rows], tiles: Sequence[slice], n_slots: int) -> list[Slot]:
        """The slots of a pass, with memory for the largest tile that each is to take."""
        slots, made = self._slots[: min(n_slots, len(tiles))], False
        for number, slot in enumerate(slots):
            height = max(tile.stop - tile.start for tile in tiles[number::n_slots])
            for i, matrix in enumerate(matrices):
                n_bytes = math.prod((height, matrix.shape[1])) * matrix.dtype.itemsize
                if not self._ops.asynchronous or matrix.view(0, 0) is None:
                    made |= self._make(slot.host, i, n_bytes, self._slot_on_host)
                if self._ops.asynchronous:
                    made |= self._make(slot.device, i, n_bytes, self._slot_on_device)
        if made and self._side is not None:  # memory may have been freed with work of this thread on it under way
            self._side.wait(self._side.record_compute())
        return slots

    def _make(self, memory: list[Array | None], i: int, n_bytes: int, make: Callable[[int], Array]) -> bool:
        """Let memory[i] have as many bytes; whether it had to be made."""
        memory += [None] * (i + 1 - len(memory))
        found = memory[i]
        if found is not None:
            if found.nbytes >= n_bytes:
                return False
            del found
            self._settle()
            memory[i] = None  # before the new one is made
        memory[i] = make(n_bytes)
        return True

    def _slot_on_host(self, n_bytes: int) -> HostArray:
        return self.host_array((n_bytes,), "uint8")

    def _slot_on_device(self, n_bytes: int) -> Array:
        return self._ops.empty(n_bytes, "uint8")

    def _settle(self) -> None:
        """Return when nothing that was queued needs the memory of the slots."""
        if self._side is None or self._back is None:
            return
        for slot in self._slots:
            if slot.free is not None:
                self._side.synchronize(slot.free)
        for stream in (self._side, self._back):
            stream.synchronize(stream.record())


def _views(matrices: Sequence[Rows], tile: slice) -> list[Array]:
    return [matrix.view(tile.start, tile.stop) for matrix in matrices]


def part_of(memory: Array | None, shape: tuple[int, int], dtype: DType) -> Array:
    """A C-ordered part of a slot's memory."""
    assert memory is not None, "a pass reserves what its tiles need"
    return memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


class _Pass:
    """One pass of tiles through the slots."""

    def __init__(self, tiles: Tiles, matrices: Sequence[Rows], cut: Sequence[slice], n_slots: int) -> None:
        self._tiles, self._matrices, self._n_slots = tiles, matrices, n_slots
        self._side, self._back = tiles._side, tiles._back
        for slot in tiles._slots:
            _wait_for_writing(slot)
        self._slots = tiles._reserve(matrices, cut, n_slots)
        self._host: list[list[HostArray]] = [[] for _ in self._slots]

    def load(self, tile: slice, number: int) -> tuple[slice, list[Array], Any]:
        """Read a tile of each matrix into a slot, in the thread that reads ahead."""
        side, slot, n_rows = self._side, self._slots[number], tile.stop - tile.start
        if slot.written is not None:
            slot.written.result()
        host: list[HostArray] = []
        for i, matrix in enumerate(self._matrices):
            source = None if side is None else matrix.view(tile.start, tile.stop)
            if source is None:
                source = part_of(slot.host[i], (n_rows, matrix.shape[1]), matrix.dtype)
                self._tiles.before_writing(source)
                matrix.read(tile.start, source)
            host.append(source)
        self._host[number] = host
        if side is None:
            return tile, host, None
        if self._back is not None and slot.taken_back is not None:
            self._back.synchronize(slot.taken_back)
        if slot.free is not None:
            side.wait(slot.free)
        arrays = []
        for i, source in enumerate(host):
            array = part_of(slot.device[i], source.shape, source.dtype)
            side.copy(source, array)
            arrays.append(array)
        return tile, arrays, side.record()

    def arrived(self, loaded: Iterator[tuple[slice, list[Array], Any]]) -> Generator[tuple[slice, list[Array]]]:
        """The tiles, when the device may compute on them. To be closed, in the thread that computes."""
        side = self._side
        for i, (tile, arrays, mark) in enumerate(loaded):
            if side is None:
                yield tile, arrays
                continue
            side.compute_waits(mark)
            try:
                yield tile, arrays
            finally:  # what has been queued is done even where the rest of the pass is not
                self._slots[i % self._n_slots].free = side.record_compute()

    def write_back(self, number: int, tile: slice, writer: ThreadPoolExecutor) -> None:
        """Write what has been computed in a slot, in the thread that writes behind."""
        slot, host, mark, back = self._slots[number], self._host[number], None, self._back
        if back is not None:
            back.wait(back.record_compute())
            for i, target in enumerate(host):
                back.copy_back(part_of(slot.device[i], target.shape, target.dtype), target)
            mark = slot.taken_back = back.record()

        def write() -> None:
            if back is not None:
                back.synchronize(mark)
            for matrix, values in zip(self._matrices, host, strict=True):
                matrix.write_next(tile.start, values)

        slot.written = writer.submit(write)

    def finish(self) -> None:
        """Return when all is written."""
        for slot in self._slots:
            if slot.written is not None:
                slot.written.result()


def _wait_for_writing(slot: Slot) -> None:
    """Of a pass before; what became of it, that pass has said."""
    if slot.written is not None:
        with contextlib.suppress(CancelledError):
            slot.written.exception()
        slot.written = None
