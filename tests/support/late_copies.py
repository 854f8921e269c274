"""A side stream as unkind as a real one may be: copies are done as late as the marks allow, and too early is an error.

There are three parties. A copy lies in its stream's queue until somebody needs it.

- The host: a copy is done for the host when it has waited for a mark behind it, or for compute work that has waited
  for one. Only then may it write into the memory that the copy is from (`Overwritten` says that it has), and only then
  does it see what a copy back has brought.
- The compute stream: kernels are executed at launch, so the copies that they wait for are done when the next work of
  that stream begins. That tells the host nothing.
- The side streams, which know nothing of each other. `ComputeClock` counts the kernels that have run and knows which
  of them used the memory that copies go to: a copy over memory that the compute stream has used, or that was
  allocated, since the mark that the side stream waited for raises `Overwritten`. So does a copy back of what the
  compute stream may not have computed yet, and a copy that crosses one of another stream.

Nothing here keeps the memory of a copy: memory that goes while a copy is queued raises `Freed`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._queued_copies import QueuedCopies


class Overwritten(Exception):
    """Memory that a copy may still need is written to, or holds something else than what is to be copied."""


class Freed(Exception):
    """Memory went while a copy from it or to it was queued."""


class PageableMemory(Exception):
    """A copy from memory that is not page-locked: it would wait for the device."""


_awaited: list[_Mark] = []
"""What the compute stream has waited for since its last work."""
_awaiting = threading.RLock()


def compute_begins() -> None:
    """The next work of the compute stream: the copies that it waits for are done."""
    while _awaited:
        with _awaiting:
            if _awaited:
                mark = _awaited[0]
                try:
                    assert mark.queue is not None
                    mark.queue.run_for_compute(mark)
                finally:
                    _awaited.pop(0)  # last: another thread goes on as soon as there is none


class ComputeClock:
    """How many kernels have run, and which was the last that used each piece of watched memory."""

    def __init__(self) -> None:
        self.now = 0
        self._last_use: weakref.WeakValueDictionary[tuple[int, int], _Use] = weakref.WeakValueDictionary()
        self._allocated: dict[int, tuple[weakref.ref[HostArray], int]] = {}
        self._lock = threading.Lock()
        self._page_locked: list[weakref.ref[HostArray]] = []
        self._queues: weakref.WeakSet[_Queue] = weakref.WeakSet()

    def add(self, queue: _Queue) -> None:
        with self._lock:
            self._queues.add(queue)

    def queues(self) -> list[_Queue]:
        """Of all side streams of this device."""
        with self._lock:
            return list(self._queues)

    def allocated(self, memory: HostArray) -> None:
        """This memory of the device is new: whatever has run so far may still use it."""
        owner = _owner(memory)
        self._allocated[owner.ctypes.data] = weakref.ref(owner), self.now

    def lock_pages(self, memory: HostArray) -> None:
        """From now on all streams may copy from and to this memory of the host."""
        with self._lock:
            self._page_locked = [known for known in self._page_locked if known() is not None]
            self._page_locked.append(weakref.ref(memory))

    def is_page_locked(self, memory: HostArray) -> bool:
        with self._lock:
            alive = [known() for known in self._page_locked]
        return any(known is not None and np.may_share_memory(memory, known) for known in alive)

    def watch(self, memory: HostArray) -> _Use:
        """Uses of this memory are noted as long as the caller keeps what this returns."""
        bounds, owner = np.lib.array_utils.byte_bounds(memory), _owner(memory)
        use = self._last_use.get(bounds)
        if use is None or use.owner() is not owner:
            known, since = self._allocated.get(owner.ctypes.data, (None, 0))
            use = _Use(bounds, owner, since if known is not None and known() is owner else 0)
            self._last_use[bounds] = use
        return use

    def last_use(self, memory: HostArray) -> int:
        start, stop = np.lib.array_utils.byte_bounds(memory)
        return max(use.last for use in self._uses(start, stop))

    def kernel_ran(self, arrays: Iterable[HostArray]) -> None:
        self.now += 1
        if self._last_use:
            for array in arrays:
                if array.size:
                    for use in self._uses(*np.lib.array_utils.byte_bounds(array)):
                        use.last = self.now

    def _uses(self, start: int, stop: int) -> Iterator[_Use]:
        """Of watched memory between these addresses that is still there."""
        for known in self._last_use.valuerefs():  # a list: other threads add to it, and what is garbage leaves it
            use = known()
            if use is not None and use.start < stop and start < use.stop and use.owner() is not None:
                yield use

    def host_waits(self) -> None:
        """The host waits for the compute stream, and with it for the copies that this has waited for."""
        compute_begins()
        for queue in self.queues():
            queue.known_to_host(queue.known_to_compute)


class _Use:
    """Of a piece of memory: when the last kernel that used it ran, and as long as it is there."""

    def __init__(self, bounds: tuple[int, int], owner: HostArray, last: int) -> None:
        self.start, self.stop = bounds
        self.owner, self.last = weakref.ref(owner), last


class _Mark:
    """A place in the compute stream (`clock`: the kernels before it) or in a side stream (`queue`, `position`)."""

    def __init__(self, clock: int = -1, queue: _Queue | None = None, position: int = -1) -> None:
        self.clock, self.queue, self.position = clock, queue, position


class _Copy:
    """A copy that is queued, or done for the compute stream and not for the host."""

    def __init__(self, host: HostArray, device: HostArray, arrives: bool, position: int) -> None:
        self._host, self._device = _Memory(host), _Memory(device)
        self.arrives, self.position = arrives, position
        self._seen: HostArray | None = None
        self.done_at = -1
        """The clock when it was done for the compute stream."""

    def do(self, now: int) -> None:
        """As the compute stream sees it: the host may write too early, and does not see yet what has come."""
        host, device = self._host.array(), self._device.array()
        self._seen = np.array(device if self.arrives else host)
        if not self.arrives:
            np.copyto(device, host)
        self.done_at = now

    def end(self) -> None:
        """As the host sees it."""
        host = self._host.array()
        assert self._seen is not None
        if self.arrives:
            np.copyto(host, self._seen)
        elif host.tobytes() != self._seen.tobytes():
            raise Overwritten("The host wrote into page-locked memory that a copy may still have to read.")

    def touches(self, memory: HostArray, on_host: bool) -> bool:
        return (self._host if on_host else self._device).overlaps(memory)


class _Memory:
    """A C-ordered array that may go."""

    def __init__(self, array: HostArray) -> None:
        owner = _owner(array)
        self._owner = weakref.ref(owner)
        self._start = array.ctypes.data - owner.ctypes.data
        self._shape, self._dtype = array.shape, array.dtype
        self._bounds = np.lib.array_utils.byte_bounds(array)

    def array(self) -> HostArray:
        owner = self._owner()
        if owner is None:
            raise Freed("Memory went while a copy from it or to it was queued.")
        return np.ndarray(self._shape, self._dtype, owner.reshape(-1, order="A").view(np.uint8), self._start)

    def overlaps(self, memory: HostArray) -> bool:
        start, stop = np.lib.array_utils.byte_bounds(memory)
        return self._bounds[0] < stop and start < self._bounds[1]


def _owner(array: HostArray) -> HostArray:
    """The array whose memory this is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class _Queue:
    """The copies of one stream in order, and how far they are done for the compute stream and for the host."""

    def __init__(self, clock: ComputeClock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._queued: list[_Copy] = []
        self._done: list[_Copy] = []
        self._n = 0
        self.known_to_compute = 0
        self._known_to_host = 0
        clock.add(self)

    @property
    def n_queued(self) -> int:
        return len(self._queued)

    def put(self, host: HostArray, device: HostArray, arrives: bool) -> None:
        with self._lock:
            self._n += 1
            self._queued.append(_Copy(host, device, arrives, self._n))

    def mark(self) -> _Mark:
        with self._lock:
            return _Mark(queue=self, position=self._n)

    def run_for_compute(self, mark: _Mark) -> None:
        with self._lock:
            self._clock.now += 1  # marks before this one and behind it differ
            self._run_to(mark.position)
            self.known_to_compute = max(self.known_to_compute, mark.position)

    def known_to_host(self, position: int) -> None:
        """The host has waited so far."""
        with self._lock:
            self._run_to(position)
            self._known_to_host = max(self._known_to_host, position)
            while self._done and self._done[0].position <= self._known_to_host:
                self._done.pop(0).end()

    def is_known_to_host(self, mark: _Mark) -> bool:
        return mark.position <= self._known_to_host

    def all(self) -> None:
        """The host waits for all."""
        self.known_to_host(self._n)

    def cross(self, memory: HostArray, on_host: bool, arrives: bool, waited: int | None) -> None:
        """A copy of another stream, or of this one (waited: None), over memory that copies here are from (or to).

        It is ordered behind those that the compute stream waited for before the mark that the other has waited for.
        """
        with self._lock:
            if waited is None:
                if any(copy.touches(memory, on_host) for copy in self._queued):
                    self._run_to(self._n)
            elif any(copy.arrives == arrives and copy.touches(memory, on_host) for copy in self._queued):
                raise Overwritten("A copy goes over memory that a copy of another stream may still have to read.")
            for copy in [copy for copy in self._done if copy.arrives == arrives and copy.touches(memory, on_host)]:
                if waited is not None and copy.done_at > waited:
                    raise Overwritten("A copy goes over memory that a copy of another stream may still have to read.")
                if on_host:
                    copy.end()
                    self._done.remove(copy)

    def _run_to(self, position: int) -> None:
        while self._queued and self._queued[0].position <= position:
            copy = self._queued.pop(0)
            copy.do(self._clock.now)
            self._done.append(copy)


class LateSideStream(QueuedCopies):
    """See the module."""

    def __init__(self, clock: ComputeClock, plain: Callable[[Any], HostArray]) -> None:
        self._clock, self._plain = clock, plain
        self._late = _Queue(clock)
        self._waited = -1
        self._watched: dict[tuple[int, int], _Use] = {}
        super().__init__(self._late.all)

    @property
    def n_pending(self) -> int:
        return self._late.n_queued

    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        buffer: HostArray = np.empty(shape, dtype)
        buffer.reshape(-1).view(np.uint8)[:] = 0xFF
        self._clock.lock_pages(buffer)
        return buffer

    def _queue(self, host: HostArray, device: Any, arrives: bool) -> None:
        assert host.shape == device.shape
        assert host.dtype == device.dtype
        memory = self._plain(device)
        if not self._clock.is_page_locked(host):
            raise PageableMemory(f"A copy on the side stream {'into' if arrives else 'from'} pageable memory.")
        if arrives:
            self._check_copy_back(memory, host)
            host.reshape(-1).view(np.uint8)[:] = 0xFF  # until the copy is done it may hold anything
        else:
            self._check_copy(memory)
        self._late.put(host, memory, arrives)

    def _watch(self, device: HostArray) -> None:
        use = self._clock.watch(device)
        self._watched[use.start, use.stop] = use

    def _check_copy(self, device: HostArray) -> None:
        self._watch(device)
        if self._clock.last_use(device) > self._waited:
            raise Overwritten("The compute stream may still be reading what a copy goes over.")
        for queue in self._clock.queues():
            if queue is not self._late:
                queue.cross(device, on_host=False, arrives=True, waited=self._waited)

    def _check_copy_back(self, device: HostArray, host: HostArray) -> None:
        self._watch(device)
        # Of memory that nobody has watched before it is not known when it was computed: some wait there must be.
        if self._waited < 0 or self._clock.last_use(device) > self._waited:
            raise Overwritten("The compute stream may not have computed yet what a copy takes back.")
        for queue in self._clock.queues():
            queue.cross(host, on_host=True, arrives=False, waited=None if queue is self._late else self._waited)

    def _record(self) -> _Mark:
        return self._late.mark()

    def record_compute(self) -> _Mark:
        compute_begins()
        return _Mark(clock=self._clock.now)

    def wait(self, mark: _Mark) -> None:
        assert mark.queue is None, "a mark of the compute stream"
        with self._lock:
            self._waited = max(self._waited, mark.clock)

    def compute_waits(self, mark: _Mark) -> None:
        assert mark.queue is not None, "a mark of a side stream"
        _awaited.append(mark)

    def _wait(self, mark: _Mark) -> None:
        if mark.queue is not None:
            mark.queue.known_to_host(mark.position)

    def _is_done(self, mark: _Mark) -> bool:
        return mark.queue is not None and mark.queue.is_known_to_host(mark)
