"""What belongs to one thread. The system gives a thread's number to another after it: none is known by its number."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ThisThread(threading.local):
    """Remembers in which threads `here` was set: it is False in every other, those that begin later included."""

    here = False


class _Lease:
    """Lives as long as its thread."""


class LentToThreads(Generic[T]):
    """Things of which each thread has one, made at its first use; a new thread gets that of one which has ended.

    None is ever given up: for things that the device may still be using, or that are dear to make.

    Args:
        make: makes one, in the thread that needs it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._free: list[T] = []
        self._per_thread = threading.local()

    def current(self) -> T:
        """This thread's."""
        found: T | None = getattr(self._per_thread, "thing", None)
        if found is None:
            try:
                found = self._free.pop()
            except IndexError:
                found = self._make()
            lease = _Lease()
            weakref.finalize(lease, self._free.append, found).atexit = False
            self._per_thread.thing, self._per_thread.lease = found, lease
        return found
