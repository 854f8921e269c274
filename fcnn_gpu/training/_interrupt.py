"""Ctrl-C as a request to stop after the step under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C is counted, and the yielded function tells of it; a second Ctrl-C raises KeyboardInterrupt.

    Signals reach the main thread alone: in any other, and where the process ignores Ctrl-C, nothing is changed.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGINT) if in_main_thread else None
    if previous is None or previous == signal.SIG_IGN:
        yield lambda: False
        return
    n_pressed = 0

    def handle(number: int, frame: Any) -> None:
        nonlocal n_pressed
        n_pressed += 1
        if n_pressed > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: n_pressed > 0
    finally:
        signal.signal(signal.SIGINT, previous)
