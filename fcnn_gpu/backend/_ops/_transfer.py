"""A second stream for copies to and from the device beside its work, and how much memory is free there."""

from __future__ import annotations

from typing import Any

from ..._types import HostArray
from . import _numpy as np
from ._array import ArrayOps

Mark = Any
"""A place in a stream, as `SideStream.record` and `record_compute` give it; None on the host, which queues nothing."""


class SideStream:
    """Copies between the host and the device in a stream of their own. On NumPy: copies.

    Two streams know nothing of each other's work. A mark is a place in one of them, and what is queued after a wait for
    it begins when the work before it is done. `record_compute` and `compute_waits` speak of the stream that the calling
    thread's primitives go to; everything else may be called from any thread. A stream does one copy after the other:
    copies there and back go on at a time where each direction has a stream of its own.
    """

    copies = False
    """Whether the device has memory of its own. On the host, what has been read is where it is computed on."""

    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """Host memory to copy from or to: page-locked on CUDA, where a copy of any other memory is waited for."""
        return np.empty(shape, dtype)

    def copy(self, source: HostArray, out: Any) -> None:
        """out ← source, a host buffer that must not change before the copy is done; both C-ordered, alike in dtype.

        Who writes into source waits for that (`before_writing`). Both are held until then.
        """
        np.copyto(out, source)

    def copy_back(self, source: Any, out: HostArray) -> None:
        """out ← source, from the device into a host buffer; both C-ordered, alike in dtype.

        The copy waits for what computes source where a mark of `record_compute` behind that has been waited for. What
        overwrites source must wait for a mark of `record` behind the copy (`compute_waits`), and who reads out for the
        copy as well (`synchronize`, `before_reading`). Both are held until it is done.
        """
        np.copyto(out, source)

    def record(self) -> Mark:
        """The place after all copies so far."""
        return None

    def record_compute(self) -> Mark:
        """The place after all that this thread's primitives have queued."""
        return None

    def wait(self, mark: Mark) -> None:
        """Copies from now on wait for a mark of `record_compute`."""

    def compute_waits(self, mark: Mark) -> None:
        """Primitives of this thread from now on wait for a mark of `record`."""

    def synchronize(self, mark: Mark) -> None:
        """The calling thread waits for a mark of either stream."""

    def before_reading(self, memory: HostArray) -> None:
        """The calling thread waits for all copies of this stream that go to this memory of the host."""

    def before_writing(self, memory: HostArray) -> None:
        """The calling thread waits for all copies of this stream that go to this memory of the host or come from it.

        A wait of the compute stream is no wait of the host: a copy that primitives wait for may be under way still.
        """


class TransferOps(ArrayOps):
    def side_stream(self) -> SideStream:
        """A new stream for copies to and from this device."""
        return SideStream()

    def free_memory(self) -> int | None:
        """Bytes that a new array of this device, or several, can take; None on the host, which is not asked."""
        return None

    @property
    def page_locked_bytes(self) -> int:
        """Page-locked memory of the host that copies of host arrays to this device pass through."""
        return 0
