"""Row tiles of stored matrices through a few buffers of the device: read ahead, computed on, written behind."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from .._read_ahead import ReadAhead
from .._types import Array, DType, HostArray
from ..backend._ops import Ops
from ._store import Rows

READING, UPDATING = 2, 3
"""Tiles in memory at a time: one is computed on while the next is read; in an update the last is written as well."""

Arrived = Iterator[tuple[slice, list[Array]]]
Compute = Callable[[slice, list[Array]], None]


class Tiles:
    """Passes over row tiles of matrices that lie on the host or on disk.

    The buffers stay from pass to pass; threads take turns at them. On a device, a tile goes through page-locked memory
    of the host and a stream of its own; weights on the host lie in such memory already. On NumPy a tile is computed on
    where it was read to, and one of the host where it lies.
    """

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._buffers: dict[tuple[str, int, int], Array] = {}
        self._turn = threading.Lock()
        self._side = ops.side_stream() if ops.asynchronous else None
        self._back = ops.side_stream() if ops.asynchronous else None  # both directions at a time

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """Memory of the host that tiles can be copied from and to."""
        return self._ops.empty(shape, dtype) if self._side is None else self._side.host_buffer(shape, dtype)

    @contextmanager
    def reading(self, matrices: Sequence[Rows], tiles: Sequence[slice]) -> Iterator[Arrived]:
        """Within: (rows, that tile of each matrix) in order; a tile lasts until the next one is asked for."""
        if self._in_place(matrices):
            yield ((tile, _views(matrices, tile)) for tile in tiles)
            return
        with self._turn:
            passing = _Pass(self, matrices, READING)
            with ReadAhead(tiles, passing.load, READING) as loaded:
                yield passing.arrived(loaded)

    def update(self, matrices: Sequence[Rows], tiles: Sequence[slice], compute: Compute) -> None:
        """compute(rows, that tile of each matrix) for all tiles in order; what it leaves in them is written back."""
        if self._in_place(matrices):
            for tile in tiles:
                compute(tile, _views(matrices, tile))
            return
        writer = ThreadPoolExecutor(1, "fcnn_gpu write behind")
        try:
            with self._turn:
                passing = _Pass(self, matrices, UPDATING)
                with ReadAhead(tiles, passing.load, UPDATING) as loaded:
                    for i, (tile, arrays) in enumerate(passing.arrived(loaded)):
                        compute(tile, arrays)
                        passing.write_back(i % UPDATING, tile, writer)
                    passing.finish()
        finally:
            writer.shutdown(wait=True, cancel_futures=True)

    def _in_place(self, matrices: Sequence[Rows]) -> bool:
        return self._side is None and all(matrix.view(0, 0) is not None for matrix in matrices)

    def buffer(self, kind: str, slot: int, i: int, shape: tuple[int, int], dtype: DType) -> Array:
        """A C-ordered part of a buffer that is made once, and anew where it is too small."""
        n_bytes = math.prod(shape) * dtype.itemsize
        found = self._buffers.get((kind, slot, i))
        if found is None or found.nbytes < n_bytes:
            self._buffers.pop((kind, slot, i), None)  # before the new one is made
            if kind == "host" and self._side is not None:
                found = self._side.host_buffer((n_bytes,), "uint8")
            else:
                found = self._ops.empty(n_bytes, "uint8")
            self._buffers[kind, slot, i] = found
        return found[:n_bytes].view(dtype).reshape(shape)

    def release(self) -> None:
        """Let go of the buffers; the next pass makes new ones."""
        with self._turn:
            self._buffers.clear()


def _views(matrices: Sequence[Rows], tile: slice) -> list[Array]:
    return [matrix.view(tile.start, tile.stop) for matrix in matrices]


class _Pass:
    """One pass of tiles through the buffers."""

    def __init__(self, tiles: Tiles, matrices: Sequence[Rows], n_slots: int) -> None:
        self._tiles, self._matrices, self._n_slots = tiles, matrices, n_slots
        self._side, self._back = tiles._side, tiles._back
        self._used: list[Any] = [None] * n_slots
        self._copied: list[Any] = [None] * n_slots
        self._written: list[Future[None] | None] = [None] * n_slots
        self._host: list[list[HostArray]] = [[] for _ in range(n_slots)]
        self._begin = None if self._side is None else self._side.record_compute()

    def load(self, tile: slice, slot: int) -> tuple[slice, list[Array], Any]:
        """Read a tile of each matrix into the buffers of a slot, in the thread that reads ahead."""
        written = self._written[slot]
        if written is not None:
            written.result()
        side, n_rows = self._side, tile.stop - tile.start
        if side is not None and self._copied[slot] is not None:
            side.synchronize(self._copied[slot])
        host: list[HostArray] = []
        for i, matrix in enumerate(self._matrices):
            source = None if side is None else matrix.view(tile.start, tile.stop)
            if source is None:
                source = self._tiles.buffer("host", slot, i, (n_rows, matrix.shape[1]), matrix.dtype)
                matrix.read(tile.start, source)
            host.append(source)
        self._host[slot] = host
        if side is None:
            return tile, host, None
        side.wait(self._begin if self._used[slot] is None else self._used[slot])
        arrays = []
        for i, source in enumerate(host):
            array = self._tiles.buffer("device", slot, i, source.shape, source.dtype)
            side.copy(source, array)
            arrays.append(array)
        self._copied[slot] = side.record()
        return tile, arrays, self._copied[slot]

    def arrived(self, loaded: Iterator[tuple[slice, list[Array], Any]]) -> Iterator[tuple[slice, list[Array]]]:
        """The tiles, when the device may compute on them."""
        for i, (tile, arrays, mark) in enumerate(loaded):
            if self._side is not None:
                self._side.compute_waits(mark)
            yield tile, arrays
            if self._side is not None:
                self._used[i % self._n_slots] = self._side.record_compute()

    def write_back(self, slot: int, tile: slice, writer: ThreadPoolExecutor) -> None:
        """Write what has been computed in a slot, in the thread that writes behind."""
        host, mark, back = self._host[slot], None, self._back
        if back is not None:
            back.wait(back.record_compute())
            for i, target in enumerate(host):
                back.copy_back(self._tiles.buffer("device", slot, i, target.shape, target.dtype), target)
            mark = back.record()

        def write() -> None:
            if back is not None:
                back.synchronize(mark)
            for matrix, values in zip(self._matrices, host, strict=True):
                matrix.write_next(tile.start, values)

        self._written[slot] = writer.submit(write)

    def finish(self) -> None:
        """Return when all is written."""
        for written in self._written:
            if written is not None:
                written.result()
