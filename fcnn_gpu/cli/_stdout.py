"""Standard output, which may take no more, or not every character, before the command is done."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._console import every_character

UNENCODABLE = "backslashreplace"
"""How a lone surrogate, which is no character and has no UTF-8, is written."""


class OutputLost(Exception):
    """Standard output takes no more, and the command has nothing to do but to print."""


class Output:
    """What `sys.stdout` is while a command runs; all but writing is the stream's own.

    When the stream fails (its reader has gone, the disk is full, it was closed from the start), what is still printed
    goes nowhere, and the command ends with `OutputLost`; unless it says that it does more than to print: then it goes
    on to its end.

    Attributes:
        fault: why the stream has failed; None while it has not.
        is_needed: whether the command ends with it.
        kept: what the command has kept nevertheless, in a sentence.
    """

    def __init__(self, stream: Any) -> None:
        self.fault: OSError | None = None
        self.is_needed = True
        self.kept = ""
        if stream is None:  # closed before the process began
            self.fault = OSError(errno.EBADF, "it is closed")
            stream = io.StringIO()
        self._stream = stream

    def write(self, text: str) -> int:
        if self.fault is None:
            try:
                self._stream.write(text)
            except OSError as fault:
                self._lose(fault)
        self._check()
        return len(text)

    def flush(self) -> None:
        if self.fault is None:
            try:
                self._stream.flush()
            except OSError as fault:
                self._lose(fault)
            self._check()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _check(self) -> None:
        if self.fault is not None and self.is_needed:
            raise OutputLost

    def _lose(self, fault: OSError) -> None:
        self.fault = fault
        with contextlib.suppress(OSError):  # what waits in the stream would fail again when the process ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def standard_output() -> Iterator[Output]:
    """Within, `sys.stdout` is an `Output`, and neither it nor standard error fails for a character that it lacks."""
    _fill_standard_descriptors()
    before = sys.stdout
    output = Output(before)
    sys.stdout = output
    try:
        with every_character(before, sys.stderr):
            yield output
    finally:
        sys.stdout = before


def outlive_output(kept: str = "") -> None:
    """From here on the command goes on where standard output fails; `kept` is what its user then has."""
    output = sys.stdout.output if isinstance(sys.stdout, _Told) else sys.stdout
    if isinstance(output, Output):
        output.is_needed, output.kept = False, kept


class _Told:
    """Standard error in the place of standard output; where it takes no more, what is told is not missed."""

    def __init__(self, output: Any) -> None:
        self.output = output

    def write(self, text: str) -> int:
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextmanager
def told_apart() -> Iterator[None]:
    """Within, what is printed goes to standard error: standard output is for a program that reads it."""
    with contextlib.redirect_stdout(_Told(sys.stdout)):
        yield


def print_data(text: str) -> None:
    """Print what another program reads: as UTF-8, whatever the locale; on a terminal in the terminal's characters."""
    stream = sys.stdout._stream if isinstance(sys.stdout, Output) else sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    before = stream.encoding, stream.errors
    stream.reconfigure(encoding="utf-8", errors=UNENCODABLE, newline="\n")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    finally:
        stream.reconfigure(encoding=before[0], errors=before[1], newline=None)


def print_error(message: str) -> None:
    """One line on standard error, as far as that takes it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def _fill_standard_descriptors() -> None:
    """Open what was closed before the process began: to a library, the next file would be standard output or error."""
    if os.name != "posix":
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
