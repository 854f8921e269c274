"""What tests of the compiled primitives share: their levels, and programs in so many parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fcnn_gpu.backend._compiled import BuildError, Call, Library, Program
from fcnn_gpu.backend._compiled._build import Target, compiler
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import _numpy

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
    calls = [call for call in tape.calls if isinstance(call, Call)]
    assert len(calls) == len(tape.calls)
    program = Program(calls)
    program._table[:, 3] = program._most_parts = n_parts
    return program


def missing_c_compiler() -> str | None:
    """Why nothing can be compiled here, or None if it can."""
    try:
        Target.of(compiler())
    except BuildError as error:
        return str(error)
    return None
