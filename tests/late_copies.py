"""A side stream as unkind as a real one may be: copies are done as late as the marks allow, and too early is an error.

A copy lies in the queue until somebody waits for a mark behind it, so that who computes on a buffer without waiting, or
writes into page-locked memory that is still to be copied, gets wrong numbers. The other way round, `ComputeClock`
counts the kernels that have run and knows which of them used the memory that copies go to: a copy over memory that the
compute stream has used since the mark that the side stream waited for raises `Overwritten`. So does a copy back of what
the compute stream may not have computed yet.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import SideStream


class Overwritten(Exception):
    """A copy may begin before the computation on its memory of the device is done."""


class PageableMemory(Exception):
    """A copy from memory that is not page-locked: it would wait for the device."""


class ComputeClock:
    """How many kernels have run, and which was the last that used each piece of watched memory."""

    def __init__(self) -> None:
        self.now = 0
        self._last_use: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()
        self._page_locked: list[weakref.ref[HostArray]] = []

    def lock_pages(self, memory: HostArray) -> None:
        """From now on all streams may copy from and to this memory of the host."""
        with self._lock:
            self._page_locked = [known for known in self._page_locked if known() is not None]
            self._page_locked.append(weakref.ref(memory))

    def is_page_locked(self, memory: HostArray) -> bool:
        with self._lock:
            alive = [known() for known in self._page_locked]
        return any(known is not None and np.may_share_memory(memory, known) for known in alive)

    def watch(self, memory: HostArray) -> tuple[int, int]:
        """From now on uses of this memory are noted; its bounds."""
        bounds = np.lib.array_utils.byte_bounds(memory)
        self._last_use.setdefault(bounds, 0)
        return bounds

    def forget(self, watched: Iterable[tuple[int, int]]) -> None:
        for bounds in watched:
            self._last_use.pop(bounds, None)

    def last_use(self, memory: HostArray) -> int:
        start, stop = np.lib.array_utils.byte_bounds(memory)
        return max(used for (first, last), used in list(self._last_use.items()) if first < stop and start < last)

    def kernel_ran(self, arrays: Iterable[HostArray]) -> None:
        self.now += 1
        if self._last_use:
            for array in arrays:
                if array.size:
                    start, stop = np.lib.array_utils.byte_bounds(array)
                    for first, last in list(self._last_use):  # other threads add to it
                        if first < stop and start < last:
                            self._last_use[first, last] = self.now


class _Mark:
    def __init__(self, clock: int | None = None) -> None:
        self.clock = clock
        """For a mark of the compute stream: the kernels before it."""
        self.passed = False
        """For a mark of the side stream: whether all copies before it are done."""


class LateSideStream(SideStream):
    """See the module. `log` has what happened, in order."""

    copies = True

    def __init__(self, clock: ComputeClock, plain: Callable[[Any], HostArray]) -> None:
        self._clock, self._plain = clock, plain
        self._lock = threading.RLock()
        self._queue: list[Callable[[], None]] = []
        self._waited = -1
        self._watched: set[tuple[int, int]] = set()
        weakref.finalize(self, clock.forget, self._watched)
        self.log: list[str] = []

    @property
    def n_pending(self) -> int:
        return len(self._queue)

    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        buffer: HostArray = np.empty(shape, dtype)
        buffer.reshape(-1).view(np.uint8)[:] = 0xFF
        self._clock.lock_pages(buffer)
        return buffer

    def copy(self, source: HostArray, out: Any) -> None:
        assert source.shape == out.shape
        assert source.dtype == out.dtype
        destination = self._plain(out)
        with self._lock:
            if not self._clock.is_page_locked(source):
                raise PageableMemory("A copy on the side stream from pageable memory.")
            self._watched.add(self._clock.watch(destination))
            if self._clock.last_use(destination) > self._waited:
                raise Overwritten("The compute stream may still be reading what a copy goes over.")
            self._queue.append(partial(np.copyto, destination, source))
            self.log.append("copy")

    def copy_back(self, source: Any, out: HostArray) -> None:
        assert source.shape == out.shape
        assert source.dtype == out.dtype
        memory = self._plain(source)
        assert memory.flags.c_contiguous
        assert out.flags.c_contiguous
        with self._lock:
            if not self._clock.is_page_locked(out):
                raise PageableMemory("A copy on the side stream into pageable memory.")
            self._watched.add(self._clock.watch(memory))
            # Of memory that nobody has watched before it is not known when it was computed: some wait there must be.
            if self._waited < 0 or self._clock.last_use(memory) > self._waited:
                raise Overwritten("The compute stream may not have computed yet what a copy takes back.")
            out.reshape(-1).view(np.uint8)[:] = 0xFF  # until the copy is done it may hold anything
            self._queue.append(partial(np.copyto, out, memory))
            self.log.append("copy back")

    def record(self) -> _Mark:
        mark = _Mark()

        def passed() -> None:
            mark.passed = True

        with self._lock:
            self._queue.append(passed)
        return mark

    def record_compute(self) -> _Mark:
        return _Mark(self._clock.now)

    def wait(self, mark: _Mark) -> None:
        assert mark.clock is not None, "a mark of the compute stream"
        with self._lock:
            self._waited = max(self._waited, mark.clock)
            self.log.append("wait")

    def compute_waits(self, mark: _Mark) -> None:
        self.log.append("compute waits")
        self._run_to(mark)

    def synchronize(self, mark: _Mark) -> None:
        self.log.append("synchronize")
        self._run_to(mark)

    def _run_to(self, mark: _Mark) -> None:
        assert mark.clock is None, "a mark of the side stream"
        with self._lock:
            while not mark.passed:
                self._queue.pop(0)()
