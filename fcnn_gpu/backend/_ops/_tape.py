"""A step's calls on a tape: recorded once, replayed without the Python around them.

A training step makes the same calls on the same arrays every time; only the arrays' contents change. On small networks
the Python that works out those calls (layers, views, tiles) takes longer than NumPy's arithmetic. So the first step is
recorded: `_numpy` writes down each NumPy call with its arrays, and later steps make the calls in the list. It is what
a CUDA graph is on a GPU.

What must run anew in every step, because it decides or computes something in Python, is a method marked
`@every_step`: on the tape it is one call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy

P = ParamSpec("P")
S = TypeVar("S")


class Replay(Protocol):
    """What `capture` makes of a function: as many calls of it as are asked for."""

    def __call__(self, n_times: int = 1) -> None: ...


class CapturedOver(Protocol):
    """What `capture_over` makes: computes `result`, always the same array, from another x.

    It returns False where x was to be checked and a number, or its square, is not finite; the result says nothing then.
    """

    result: Any

    def __call__(self, x: Any) -> bool: ...

    def sweep(self, X: Any, out: Any) -> bool:
        """The same for the rows of X, len(x) at a time, results beside each other in out: both C-ordered."""


class _Stop(Exception):
    """Ends a replay early: the step has failed, and nothing after this may happen."""


class Tape:
    """The calls of one step, in order."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._paused = 0
        self._asked: object = None
        self.complete = True
        """False if the recorded step ended early, so that some of its calls are missing."""

    @property
    def calls(self) -> list[Callable[[], object]]:
        """What has been written down."""
        return self._calls

    @property
    def listening(self) -> bool:
        """Whether calls are being written down."""
        return not self._paused

    def add(self, call: Callable[[], object]) -> None:
        """Write down one call."""
        self._calls.append(call)

    def add_of_python(self, call: Callable[[], object]) -> None:
        """Write down a call that may decide something, so that `stop_unless_negative` must ask again after it."""
        self._asked = None
        self.add(call)

    def asks_anew(self, subject: object) -> bool:
        """Whether `subject` may have changed since it was last asked about."""
        anew, self._asked = self._asked is not subject, subject
        return anew

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, nothing is written down."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def replay(self, calls: Sequence[Callable[[], object]] | None = None) -> None:
        """Make the calls, or others that do the same."""
        try:
            for call in self._calls if calls is None else calls:
                call()
        except _Stop:
            pass


class _Recording(threading.local):
    tape: Tape | None = None


_recording = _Recording()


def current_tape() -> Tape | None:
    """The tape that this thread's calls are being written onto, if they are."""
    tape = _recording.tape
    return tape if tape is not None and tape.listening else None


@contextmanager
def recording() -> Iterator[Tape]:
    """Within, the calls of this thread are written onto the new tape, and made as well."""
    if _recording.tape is not None:
        raise RuntimeError("A step is being recorded already: a captured step may not capture another.")
    tape = _recording.tape = Tape()
    try:
        yield tape
    finally:
        _recording.tape = None


def every_step(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Mark a primitive whose Python must run in every step: a tape holds the call of the primitive itself."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        tape = current_tape()
        if tape is None:
            method(self, *args, **kwargs)
            return
        with tape.paused():
            method(self, *args, **kwargs)
        tape.add_of_python(partial(method, self, *args, **kwargs))

    return call


def outside(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)`, which may compute in ways that no recording sees: a tape holds the call itself.

    Later calls may give another array each time: it is copied to where the first one lies, which is what the calls
    after it on the tape read. An array that shares its memory with an argument is copied already the first time.
    """
    tape = current_tape()
    if tape is None:
        return fn(*args)
    with tape.paused():
        result = fn(*args)
    shared = any(isinstance(x, numpy.ndarray) and numpy.may_share_memory(x, result) for x in args)
    kept = result.copy(order="K") if result is not None and shared else result

    def again() -> None:
        given = fn(*args)
        if given is not kept:
            numpy.copyto(kept, given)

    tape.add_of_python(again)
    return kept


def stop_unless_negative(subject: Any) -> bool:
    """Whether `subject`, an array of one element, is 0 or more. On a tape that is asked in every step, which ends there
    if it is so; again only after a call that may have changed it."""
    stops = bool(subject[0] >= 0)
    tape = current_tape()
    if tape is not None:
        if stops:
            tape.complete = False

        def check() -> None:
            if subject[0] >= 0:
                raise _Stop

        if tape.asks_anew(subject):
            tape.add(check)
    return stops


@contextmanager
def only_if_negative(subject: Any) -> Iterator[bool]:
    """Whether `subject`, an array of one element, is negative. On a tape that is asked in every step, and where it is
    not so the calls within are left out and the step goes on behind them."""
    happens = bool(subject[0] < 0)
    tape = current_tape()
    if tape is None:
        yield happens
        return
    if not happens:
        tape.complete = False
    inner = Tape()
    _recording.tape = inner
    try:
        yield happens
    finally:
        _recording.tape = tape

    def call() -> None:
        if subject[0] < 0:
            inner.replay()

    tape.complete &= inner.complete
    tape.add_of_python(call)
