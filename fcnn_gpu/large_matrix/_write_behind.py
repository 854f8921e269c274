"""A thread that writes finished tiles while the caller computes the next ones."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

J = TypeVar("J")


class WriteBehind(Generic[J]):
    """`writer.put(job, slot)`: write(job, release) in a thread, job after job.

    Args:
        write: writes what is in one of the caller's buffers, number `slot`; it calls release() as soon as the buffer
            may be used again, which may be before it has done all.
        n_slots: buffers; `wait(slot)` returns when all that was put with a slot is released.

    An error in `write` is raised by the next call, or when the `with` is left without another error. When it is left,
    however that comes about, the thread has ended; what had not been begun is not written if an error is on its way.
    """

    def __init__(self, write: Callable[[J, Callable[[], None]], None], n_slots: int) -> None:
        self._write = write
        self._jobs: queue.SimpleQueue[tuple[J, int] | None] = queue.SimpleQueue()
        self._pending = [0] * max(1, n_slots)
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="fcnn_gpu write behind", daemon=True)

    def __enter__(self) -> WriteBehind[J]:
        try:
            self._thread.start()
        except BaseException as error:  # Ctrl-C while it begins: nobody else would end it
            with contextlib.suppress(RuntimeError):  # not begun yet: it ends as soon as it has
                self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._stopped = kind is not None
        self._jobs.put(None)
        self._thread.join()
        if kind is None:
            self._check()

    def put(self, job: J, slot: int) -> None:
        """Write it when all before it are written."""
        self._check()
        with self._changed:
            self._pending[slot] += 1
        self._jobs.put((job, slot))

    def wait(self, slot: int) -> None:
        """Until nothing is left to be done with a slot."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending[slot] or self._error is not None)
        self._check()

    def _release(self, slot: int) -> None:
        with self._changed:
            self._pending[slot] -= 1
            self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None and not self._stopped:
            job, slot = item
            try:
                self._write(job, partial(self._release, slot))
            except BaseException as error:
                self._error = error
                with self._changed:
                    self._changed.notify_all()
                return
