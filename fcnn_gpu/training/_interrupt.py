"""Ctrl-C as a request to stop after the step under way."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C is counted, and the yielded function tells of it; a second Ctrl-C raises KeyboardInterrupt.

    A program that handles Ctrl-C (SIGINT) itself has decided what it means: its handler stays, and is called at once;
    to end a run it sets `trainer.stop_reason` or raises. The handler of `asyncio.run` is told too, and so is an outer
    `interruptible`, in whose run this one is: it ends as well. Signals reach the main thread alone: in any other, and
    where the process ignores Ctrl-C, nothing is changed.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous: Any = signal.getsignal(signal.SIGINT) if in_main_thread else None
    if previous is not signal.default_int_handler and not isinstance(previous, _Counter) and not _of_asyncio(previous):
        yield lambda: False
        return
    counter = _Counter(None if previous is signal.default_int_handler else previous)
    signal.signal(signal.SIGINT, counter)
    try:
        yield lambda: counter.n_pressed > 0
    finally:
        if signal.getsignal(signal.SIGINT) is counter:  # and not what somebody has set within
            signal.signal(signal.SIGINT, previous)


class _Counter:
    """The handler of Ctrl-C: counts, and tells the one before."""

    def __init__(self, previous: Callable[[int, Any], object] | None) -> None:
        self.n_pressed = 0
        self._previous = previous

    def __call__(self, number: int, frame: Any) -> None:
        self.n_pressed += 1
        if self._previous is not None:
            self._previous(number, frame)
        if self.n_pressed > 1:
            raise KeyboardInterrupt


def _of_asyncio(handler: Any) -> bool:
    """Whether it is the one that `asyncio.run` sets, which cancels the main task as soon as that waits."""
    asyncio = sys.modules.get("asyncio")
    function = handler.func if isinstance(handler, functools.partial) else handler
    return asyncio is not None and isinstance(getattr(function, "__self__", None), asyncio.Runner)
