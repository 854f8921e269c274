"""What tests of the compiled primitives share: their levels, and programs in so many parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fcnn_gpu._types import Array
from fcnn_gpu.backend._compiled import BuildError, Call, Library, Program
from fcnn_gpu.backend._compiled._build import Target, compiler
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import CapturedOver, Replay, _numpy
from fcnn_gpu.backend._ops._tape import Tape

from ..conftest import compiled_ops


def best_level() -> CompiledOps:
    """The compiled primitives; skips where there is no compiler."""
    ops = compiled_ops()
    assert isinstance(ops, CompiledOps)
    return ops


def at_level(level: str) -> CompiledOps:
    """The primitives at an instruction level; skips where this CPU lacks it."""
    library = best_level()._library
    if level not in library.levels:
        pytest.skip(f"this CPU has no {level}")
    return CompiledOps(Library(library.path, level))


def program_of(fn: Callable[[], None], n_parts: int) -> Program:
    """What `fn` computes with compiled primitives alone, each phase in so many parts. It has been computed once."""
    with _numpy.recorded_calls() as tape:
        fn()
    program = Program(calls_of(tape))
    program._table[:, 3] = program._most_parts = n_parts
    return program


def calls_of(tape: Tape) -> list[Call]:
    """All of its calls, which must be compiled ones."""
    calls = [call for call in tape.calls if isinstance(call, Call)]
    assert len(calls) == len(tape.calls) > 0
    return calls


class Watched(CompiledOps):
    """Keeps the tapes that steps are made of, and whether passes over an array have become programs."""

    __module__ = "fcnn_gpu"  # of another module its steps would not be recorded

    def __init__(self) -> None:
        super().__init__(best_level()._library)
        self.tapes: list[Tape] = []
        self.passes: list[bool] = []

    def _joined(self, tape: Tape) -> Replay:
        self.tapes.append(tape)
        return super()._joined(tape)

    def capture_over(self, fn: Callable[[Array], Array], x: Array, checks: bool) -> CapturedOver | None:
        over = super().capture_over(fn, x, checks)
        self.passes.append(over is not None)
        return over


def missing_c_compiler() -> str | None:
    """Why nothing can be compiled here, or None if it can."""
    try:
        Target.of(compiler())
    except BuildError as error:
        return str(error)
    return None
