"""Copies that a stream is still to do: which memory they need, and how long."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from .._types import Array, HostArray
from ._ops._transfer import Mark, SideStream


class _Copy:
    """One copy: its memory on both sides, and the first mark behind it, if there is one yet."""

    def __init__(self, host: HostArray, device: Array, arrives: bool) -> None:
        self.host, self.device, self.arrives = host, device, arrives
        self.start = host.ctypes.data
        self.stop = self.start + host.nbytes
        self.mark: Mark = None


class QueuedCopies(SideStream):
    """A side stream that remembers each copy from when it is queued until it is known to be done.

    What is remembered lives as long as the copy, whoever queued it: an epoch that is broken off, an error, or the next
    pass through the same buffers forgets nothing. Until a copy is done

    - its memory of the host and of the device is held, so that neither CUDA nor CuPy's pool, which knows nothing of
      this stream, hands it on, and
    - `before_writing` and `before_reading` find it by the memory of the host that it is from or to.

    A stream that nobody holds any more is waited for.

    Args:
        finish: returns when all copies are done. It must not hold this object.
    """

    copies = True

    def __init__(self, finish: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._under_way: deque[_Copy] = deque()
        # At the end of the program nothing is freed, and CUDA may have ended already.
        weakref.finalize(self, _let_go, self._under_way, finish, os.getpid()).atexit = False

    def _queue(self, host: HostArray, device: Array, arrives: bool) -> None:
        """Queue a copy: from the device where it `arrives` on the host."""
        raise NotImplementedError

    def _record(self) -> Mark:
        """The place after all copies so far."""
        raise NotImplementedError

    def _wait(self, mark: Mark) -> None:
        """The calling thread waits."""
        raise NotImplementedError

    def _is_done(self, mark: Mark) -> bool:
        """Whether it need not."""
        raise NotImplementedError

    def copy(self, source: HostArray, out: Array) -> None:
        self._remember_and_queue(source, out, arrives=False)

    def copy_back(self, source: Array, out: HostArray) -> None:
        self._remember_and_queue(out, source, arrives=True)

    def record(self) -> Mark:
        with self._lock:
            mark = self._record()
            for copy in reversed(self._under_way):
                if copy.mark is not None:
                    break
                copy.mark = mark
        return mark

    def synchronize(self, mark: Mark) -> None:
        self._wait(mark)
        self._forget_done()

    def before_reading(self, memory: HostArray) -> None:
        self._wait_for(memory, lambda copy: copy.arrives)

    def before_writing(self, memory: HostArray) -> None:
        self._wait_for(memory, lambda copy: True)

    def _remember_and_queue(self, host: HostArray, device: Array, arrives: bool) -> None:
        _check_alike("from" if arrives else "to", host, device)
        self._forget_done()
        with self._lock:
            self._under_way.append(_Copy(host, device, arrives))  # first: what ends this must not end that
            self._queue(host, device, arrives)

    def _wait_for(self, memory: HostArray, concerns: Callable[[_Copy], bool]) -> None:
        """Return when the copies that touch this memory, of those that concern the caller, are done."""
        if not self._under_way or not memory.size:
            return
        start, stop = np.lib.array_utils.byte_bounds(memory)
        with self._lock:
            last = next(
                (c for c in reversed(self._under_way) if c.start < stop and start < c.stop and concerns(c)), None
            )
            if last is None:
                return
            mark = self.record() if last.mark is None else last.mark
        self.synchronize(mark)

    def _forget_done(self) -> None:
        done = []  # memory is freed, which may take a while, when the lock is
        with self._lock:
            while self._under_way and (mark := self._under_way[0].mark) is not None and self._is_done(mark):
                while self._under_way and self._under_way[0].mark is mark:
                    done.append(self._under_way.popleft())


def _let_go(copies: deque[_Copy], finish: Callable[[], None], owner: int) -> None:
    """Of memory that copies may still need; a process that was forked has none of them."""
    if copies and os.getpid() == owner:
        finish()
    copies.clear()


def _check_alike(direction: str, host: Any, device: Any) -> None:
    if host.nbytes != device.nbytes or not (host.flags.c_contiguous and device.flags.c_contiguous):
        raise ValueError(
            f"A copy {direction} the device expects two C-ordered arrays of one size, got {host.nbytes} bytes of the "
            f"host and {device.nbytes} of the device."
        )
