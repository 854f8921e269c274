"""Functions of `os` that fail, and interrupts, at a chosen moment of what runs: on every system, within one test.

failing_system_calls.py goes deeper, on Linux: there the system's calls fail, those of libraries included, in a process
of its own. Only here may a call be made and its result be lost, and an interrupt come before any line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import fcnn_gpu

CALLS = (
    "open",
    "close",
    "stat",
    "lstat",
    "fstat",
    "read",
    "write",
    "preadv",
    "pwrite",
    "posix_fallocate",
    "truncate",
    "ftruncate",
    "unlink",
    "replace",
    "fsync",
    "fdatasync",
    "mkdir",
    "rmdir",
    "access",
)
"""Functions of `os` that files and folders are dealt with by."""

_PACKAGE = str(Path(fcnn_gpu.__file__).parent)


class Fault:
    """What happens at the k-th call.

    Args:
        at: which call, counted from 0.
        error: raised instead of the call.
        after: the call is made first, and its result is lost (an interrupt may come then).
        calls: those that count.
    """

    def __init__(self, at: int, error: BaseException, after: bool = False, calls: tuple[str, ...] = CALLS) -> None:
        self.at, self.error, self.after, self.calls = at, error, after, calls
        self.n_calls = 0
        self.fired: str | None = None
        """The call that failed."""

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, it happens."""
        with pytest.MonkeyPatch.context() as patch:
            for name in self.calls:
                if hasattr(os, name):
                    patch.setattr(os, name, self._failing(name, getattr(os, name)))
            yield

    def _failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.n_calls += 1
            if self.n_calls - 1 != self.at:
                return real(*args, **options)
            self.fired = name
            if self.after or name == "close":  # a descriptor that cannot be closed is gone all the same
                real(*args, **options)
            raise type(self.error)(*self.error.args)  # whose traceback nobody keeps

        return call


class InterruptAtLine:
    """KeyboardInterrupt before the k-th line that the package runs in this thread, in files whose path has `part`."""

    def __init__(self, at: int, part: str = "placement") -> None:
        self._at, self._part = at, part
        self.n_lines = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, it happens.

        Where a tracer raises as a `with` block is left, Python 3.11 may lose count of its stack and go on with a
        TypeError in the place of the interrupt, which unwinds everything all the same.
        """
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        except TypeError as error:
            if str(error) != "'traceback' object is not callable":
                raise
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(_PACKAGE) or self._part not in name:
            return None
        if event == "line":
            self.n_lines += 1
            if self.n_lines - 1 == self._at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace
