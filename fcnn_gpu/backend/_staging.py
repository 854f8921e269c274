"""Host arrays on their way to a device, through page-locked memory of a fixed size.

A device copies from page-locked memory while the host goes on; from any other, the driver must copy first. CuPy's own
way there (`cupy.asarray`) takes page-locked memory for the whole array, rounded up to a power of two, and keeps it for
good: 40 GiB of data would hold 64 GiB of the host. Here an array goes piece by piece through two buffers in turn: while
the device copies from one, the host fills the other, converting and reordering on the way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from .._types import Array, HostArray
from ..files import is_mapped, let_go_of_pages
from ._ops._transfer import Mark

BUFFER_BYTES = 2**22
"""Of one of the two buffers. A piece takes the host some 400 µs to copy, so that queueing it (10 µs) is nothing."""
_ALIGNED = 512
"""Bytes at whose multiples pieces begin."""
_MARKS = 64
"""Of one buffer at most, where many streams copy from it."""


class Transfers(Protocol):
    """What staging needs of the library that owns the device; streams are those of the calling thread."""

    def page_locked(self, n_bytes: int) -> HostArray:
        """Page-locked host memory as bytes. Raises MemoryError where there is none."""

    def queue(self, source: HostArray, out: Array, offset: int) -> None:
        """Queue the copy of page-locked bytes to byte `offset` of a contiguous array, on the current stream.

        After an exception nothing is queued.
        """

    def stream(self) -> Any:
        """The current stream: as long as the object is held, no other stream is at its address."""

    def mark(self, earlier: Mark | None) -> Mark:
        """The place after all that is queued on the current stream; a mark of that stream may be moved there."""

    def wait(self, mark: Mark) -> None:
        """The calling thread waits for a mark."""

    def wait_for_all(self) -> None:
        """The calling thread waits for all that is queued on the device."""


class _Buffer:
    """Page-locked bytes, of which the first `used` are taken, and a mark behind the copies from them on each stream."""

    def __init__(self, memory: HostArray) -> None:
        self.memory = memory
        self.used = 0
        self.marks: list[tuple[Any, Mark]] = []


class Staging:
    """The way to one device. Any thread may use it; each copies on its own current stream.

    The buffers are made at the first copy, both at once, and kept until `release`: page-locking memory takes
    milliseconds. Small arrays lie in them side by side. A buffer that is full is filled anew when the copies from it
    are done, by marks that live with it: whoever queued them may be gone.

    Args:
        transfers: the device.
        size: bytes of a buffer.
    """

    def __init__(self, transfers: Transfers, size: int = BUFFER_BYTES) -> None:
        self._transfers, self._size = transfers, size
        self._lock = threading.Lock()
        self._buffers: list[_Buffer] = []  # the one in use comes first
        self._lost: list[_Buffer] = []

    @property
    def n_bytes(self) -> int:
        """Bytes of page-locked memory that copies take, however large an array is."""
        return 2 * self._size

    def copy(self, source: HostArray, out: Array) -> None:
        """out ← source, cast to out's dtype, queued on the current stream; source may change when this returns.

        out is contiguous in either order and of source's shape. Pages of a memory map are let go of after each piece.
        """
        if not out.flags.c_contiguous:
            source, out = source.T, out.T
        item, offset = out.dtype.itemsize, 0
        mapped = source.size * item > self._size and is_mapped(source)
        for piece in _pieces(source, max(1, self._size // item)):
            self._copy_piece(piece, out, offset)
            offset += piece.size * item
            if mapped:
                let_go_of_pages(source)

    def _copy_piece(self, piece: HostArray, out: Array, offset: int) -> None:
        n_bytes = piece.size * out.dtype.itemsize
        with self._lock:
            buffer = self._with_room(n_bytes)
            place = buffer.memory[buffer.used : buffer.used + n_bytes]
            np.copyto(place.view(out.dtype).reshape(piece.shape), piece, casting="unsafe")
            refused = False
            try:
                try:
                    self._transfers.queue(place, out, offset)
                except Exception:
                    refused = True
                    raise
                buffer.used += -(-n_bytes // _ALIGNED) * _ALIGNED
                self._note(buffer)
            except BaseException:  # Ctrl-C, too
                if not refused:
                    self._set_aside()
                raise

    def _set_aside(self) -> None:
        """A copy may be under way that no mark tells of: these buffers are not filled again; `release` frees them."""
        self._lost += self._buffers
        self._buffers = []

    def _note(self, buffer: _Buffer) -> None:
        """Mark the end of the copies from a buffer on the current stream."""
        stream = self._transfers.stream()
        known = next((i for i, (held, _) in enumerate(buffer.marks) if held is stream), None)
        if known is None:
            buffer.marks.append((stream, self._transfers.mark(None)))
        else:
            buffer.marks[known] = stream, self._transfers.mark(buffer.marks[known][1])

    def _with_room(self, n_bytes: int) -> _Buffer:
        """The buffer in use, or the other one, when all copies from that are done."""
        if not self._buffers:
            memory = self._transfers.page_locked(self.n_bytes)
            self._buffers = [_Buffer(memory[: self._size]), _Buffer(memory[self._size :])]
        first, second = self._buffers
        if first.used + n_bytes <= self._size and len(first.marks) < _MARKS:
            return first
        self._wait(second)
        self._buffers = [second, first]
        return second

    def _wait(self, buffer: _Buffer) -> None:
        for _, mark in buffer.marks:
            self._transfers.wait(mark)
        buffer.marks, buffer.used = [], 0

    def release(self) -> None:
        """Give the buffers back, when the copies from them are done; the next copy makes new ones."""
        with self._lock:
            for buffer in self._buffers:
                self._wait(buffer)
            if self._lost:
                self._transfers.wait_for_all()
            self._buffers, self._lost = [], []


def _pieces(x: HostArray, most: int) -> Iterator[HostArray]:
    """x in C order, cut into views of at most so many elements."""
    if x.size <= most:
        if x.size:
            yield x
    elif x.flags.c_contiguous:
        flat = x.reshape(-1)
        for start in range(0, x.size, most):
            yield flat[start : start + most]
    else:
        rows = most // (x.size // len(x))
        if rows:
            for start in range(0, len(x), rows):
                yield x[start : start + rows]
        else:
            for row in x:
                yield from _pieces(row, most)


class CudaTransfers:
    """CuPy's, on the device that the callers have made current.

    Args:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda

    def page_locked(self, n_bytes: int) -> HostArray:
        runtime = self._cuda.runtime
        try:
            memory = self._cuda.PinnedMemory(n_bytes, runtime.hostAllocPortable)  # not from the pool, which keeps it
        except runtime.CUDARuntimeError as error:
            raise MemoryError(
                f"{n_bytes:,} bytes of page-locked host memory, which copies to the device pass through, cannot be "
                f"had: {error}. Free memory of the host."
            ) from error
        return np.frombuffer(self._cuda.PinnedMemoryPointer(memory, 0), np.uint8, n_bytes)

    def queue(self, source: HostArray, out: Array, offset: int) -> None:
        # Raises RuntimeError where the stream is being captured: a graph would copy whatever the buffer then holds.
        (out.data + offset).copy_from_host_async(source.ctypes.data, source.nbytes, self.stream())

    def stream(self) -> Any:
        return self._cuda.get_current_stream()

    def mark(self, earlier: Mark | None) -> Mark:
        event = self._cuda.Event(block=True, disable_timing=True) if earlier is None else earlier
        event.record(self.stream())
        return event

    def wait(self, mark: Mark) -> None:
        mark.synchronize()

    def wait_for_all(self) -> None:
        self._cuda.runtime.deviceSynchronize()
