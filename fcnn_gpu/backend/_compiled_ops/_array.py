"""Issuing calls of compiled operations: computed at once, and written down while a step is recorded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._types import Array, DType
from .._compiled import Call, Library, Program, address_of, samples_at_a_time
from .._ops import CapturedOver, Ops, Replay
from .._ops import _numpy as recordable
from .._ops._tape import Tape, current_tape

SOURCES = ("copied", "uint8", "float16", "bfloat16", "float32", "float64")
"""What numbers are cast from, in the order of kernels/cpu/sources.h."""


_SHARED_OUT = 100_000.0
"""Nanoseconds of a single call for which other threads are asked: to make a program takes some 30 µs."""
_APART, _MOST_APART = 2**17, 2**25
"""Bytes up to which a layer's gradients lie apart: of the samples that a phase takes at a time, and of all."""
_SMALL = 2**16
"""Bytes that NumPy has assigned before a call is made."""


class _Over:
    """A program over an array whose place others take (`CapturedOver`)."""

    def __init__(self, ops: CompiledArrays, calls: list[Call], x: Array, result: Array, found: Array) -> None:
        self.result = result
        self._found, self._batch = found, len(x)
        self._program = Program(calls)
        self._places = self._program.places_of(x)
        out = np.empty_like(result.T)
        row_bytes = out.nbytes // len(out)
        copy = ops.call("copy_rows", out.dtype, batch=len(out), row_bytes=row_bytes, x=result.T, out=out)
        self._sweeping = Program([*calls, copy])  # after each batch it points further on in X and in what it writes
        self._in_X, self._in_out = self._sweeping.places_of(x), self._sweeping.places_of(out)
        self._sweeping.move((self._in_X, self._in_out), (x.nbytes, out.nbytes))
        for call in calls:
            call.let_go(x)

    def __call__(self, x: Array) -> bool:
        self._program.point(self._places, address_of(x))
        self._program.run()
        return self._were_sound()

    def sweep(self, X: Array, out: Array) -> bool:
        self._sweeping.point(self._in_X, address_of(X))
        self._sweeping.point(self._in_out, address_of(out))
        self._sweeping.run(len(X) // self._batch)
        return self._were_sound()

    def _were_sound(self) -> bool:
        if self._found[0]:
            self._found[0] = 0
            return False
        return True


class CompiledArrays(Ops):
    name = "cpu"
    captures_over = True
    steps_per_call = 1024

    def __init__(self, library: Library) -> None:
        super().__init__()
        self._library = library

    def gradients_lie_apart(self, bytes_per_sample: int, batch: int) -> bool:
        in_cache = bytes_per_sample * samples_at_a_time(batch) <= _APART
        return in_cache and bytes_per_sample * batch <= _MOST_APART

    @property
    def scratch_bytes(self) -> int:
        """Memory that the operations of a thread compute in."""
        return self._library.scratch_bytes

    def describe(self) -> str:
        return f"CPU (compiled kernels for {self._library.level_name}; NumPy {np.__version__})"

    def _issue(self, operation: str, dtype: DType | type, /, **arguments: Any) -> None:
        """Compute an operation of kernels/cpu on these arguments, those of its ARGUMENTS in their order."""
        call = self.call(operation, np.dtype(dtype), **arguments)
        if call.work < _SHARED_OUT:
            call()
        else:
            Program([call]).run()
        tape = current_tape()
        if tape is not None:
            tape.add(call)

    def call(self, operation: str, dtype: DType, /, **arguments: Any) -> Call:
        """The call that `_issue` computes."""
        return self._library.call(operation, dtype, arguments)

    def capture(self, fn: Callable[[], None]) -> Replay:
        """A replayable form of `fn`, as the reference has it: compiled calls become programs that C repeats."""
        made: list[Replay] = []

        def run(n_times: int = 1) -> None:
            while n_times and not made:
                with recordable.recorded_calls() as tape:
                    fn()
                n_times -= 1
                if tape.complete:
                    made.append(self._joined(tape))
            if n_times:
                made[0](n_times)

        return run

    def capture_over(self, fn: Callable[[Array], Array], x: Array, checks: bool) -> CapturedOver | None:
        found = self.zeros(1, np.int64)
        with recordable.recorded_calls() as tape:
            if checks:
                self._issue("check_gradients", x.dtype, n=x.size, gradients=x, unsound=found)
            result = fn(x)
        if result is x or not tape.complete or not all(isinstance(call, Call) for call in tape.calls):
            return None
        return _Over(self, [call for call in tape.calls if isinstance(call, Call)], x, result, found)

    def _joined(self, tape: Tape) -> Replay:
        """What a tape says, any number of times: stretches of compiled calls are programs."""
        stretches: list[Callable[[], object]] = []
        programs: list[Program] = []
        for compiled, calls in itertools.groupby(tape.calls, lambda call: isinstance(call, Call)):
            if compiled:
                program = Program([call for call in calls if isinstance(call, Call)])
                programs.append(program)
                stretches.append(program.run)
            else:
                stretches.extend(calls)
        if len(programs) == len(stretches) == 1:
            return programs[0].run

        def run(n_times: int = 1) -> None:
            for _ in range(n_times):
                tape.replay(stretches)

        return run

    def release_memory(self) -> None:
        super().release_memory()
        self._library.release_scratch()

    def assign(self, out: Array, x: Any) -> None:
        is_worth_it = isinstance(x, np.ndarray) and (x.nbytes > _SMALL or current_tape() is not None)
        if is_worth_it and _cast_is_compiled(x, out):
            self._cast(x, out, 1.0, 0.0)
        else:
            super().assign(out, x)

    def add(self, x: Array, y: Array, out: Array) -> None:
        batch = _n_rows(x, y, out)
        if batch and x.dtype == y.dtype == out.dtype and _is_real(out):
            self._issue("add", out.dtype, batch=batch, n=out.size // batch, x=x, y=y, out=out)
        else:
            super().add(x, y, out)

    def scale(self, x: Array, factor: float, out: Array) -> None:
        batch = _n_rows(x, out)
        if batch and x.dtype == out.dtype and _is_real(out):
            self._issue("scale", out.dtype, batch=batch, n=out.size // batch, factor=factor, x=x, out=out)
        else:
            super().scale(x, factor, out)

    def cast(self, x: Array, out: Array, scale: float = 1.0, shift: float = 0.0) -> None:
        if _cast_is_compiled(x, out):
            self._cast(x, out, scale, shift)
        else:
            super().cast(x, out, scale, shift)

    def _cast(self, x: Array, out: Array, scale: float, shift: float) -> None:
        batch = _n_rows(x, out)
        self._issue(
            "cast",
            out.dtype,
            batch=batch,
            n=out.size // batch,
            row_bytes=x.nbytes // batch,
            source=SOURCES.index(x.dtype.name),
            scale=scale,
            shift=shift,
            x=x,
            out=out,
        )

    def advance(self, counter: Array, by: int) -> None:
        if counter.dtype != np.int64:
            super().advance(counter, by)
            return
        self._issue("advance", np.float64, by=by, counter=counter)


def _n_rows(*arrays: Array) -> int:
    """How many rows, one behind the other in memory, these arrays have, if they are alike: a matrix its samples.

    0 if they are not, or empty.
    """
    first = arrays[0]
    if any(x.shape != first.shape or not x.flags.aligned or not x.dtype.isnative for x in arrays) or first.ndim == 0:
        return 0
    if all(x.flags.f_contiguous for x in arrays):
        return int(first.shape[-1])
    return int(first.shape[0]) if all(x.flags.c_contiguous for x in arrays) else 0


def _is_real(x: Array) -> bool:
    """Whether operations are compiled for its dtype."""
    return x.dtype in (np.float32, np.float64)


def _cast_is_compiled(x: Array, out: Array) -> bool:
    return _is_real(out) and _n_rows(x, out) > 0 and x.dtype.name in SOURCES
