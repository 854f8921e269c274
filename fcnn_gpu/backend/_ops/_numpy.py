"""The NumPy functions that the primitives are written in: `from . import _numpy as np`.

They are NumPy's own, at no cost, and `product`, which threads share where it is large (`_products`). Only while a step
is being recorded (`_tape`) are they replaced by functions that write each call down as well. A recorded call must write
into an array that exists (`out=`): what it returns would be worked out once and then never again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from weakref import WeakSet

import numpy

from . import _products, _tape

abs = numpy.abs
add = numpy.add
copyto = numpy.copyto
cos = numpy.cos
divide = numpy.divide
dot = numpy.dot
equal = numpy.equal
exp = numpy.exp
expm1 = numpy.expm1
greater = numpy.greater
greater_equal = numpy.greater_equal
log = numpy.log
log1p = numpy.log1p
logical_or = numpy.logical_or
matmul = numpy.matmul
maximum = numpy.maximum
minimum = numpy.minimum
multiply = numpy.multiply
negative = numpy.negative
not_equal = numpy.not_equal
product = _products.product
put = numpy.put
sign = numpy.sign
sin = numpy.sin
sqrt = numpy.sqrt
subtract = numpy.subtract
take = numpy.take
tanh = numpy.tanh
vecdot = numpy.vecdot

add_at = numpy.add.at
add_reduce = numpy.add.reduce
maximum_reduce = numpy.maximum.reduce


def erf(z: Any, out: Any) -> None:
    """SciPy's error function."""
    _scipy_erf()(z, out)


@cache
def _scipy_erf() -> Callable[..., Any]:
    from scipy.special import erf  # imported on first use: SciPy would double the time that importing takes

    return erf


CACHE_LINE = 64  # bytes; also the width of the widest vector registers


def empty(shape: int | tuple[int, ...], dtype: Any) -> Any:
    """An uninitialized array that begins on a cache line: passes in place are up to a third faster on it.

    NumPy's own begin 16 bytes after one, so that every vector of 64 bytes straddles two lines.
    """
    n_bytes = math.prod(shape if isinstance(shape, tuple) else (shape,)) * numpy.dtype(dtype).itemsize
    memory = numpy.empty(n_bytes + CACHE_LINE, numpy.uint8)
    start = -memory.__array_interface__["data"][0] % CACHE_LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def zeros(shape: int | tuple[int, ...], dtype: Any) -> Any:
    """An array of zeros that begins on a cache line."""
    out = empty(shape, dtype)
    out.fill(0)
    return out


def __getattr__(name: str) -> Any:
    """Everything else (dtypes, constants, random numbers) is NumPy's."""
    return getattr(numpy, name)


# Recording. A call by position is half as long as one that names its out; maximum and minimum insist on the name.

_ELEMENTWISE = "abs add cos divide dot equal exp expm1 greater greater_equal log log1p logical_or matmul multiply"
_BY_POSITION = [
    *_ELEMENTWISE.split(),
    *["negative", "not_equal", "sign", "sin", "sqrt", "subtract", "tanh", "vecdot", "erf"],
]
_BY_NAME = ["maximum", "minimum"]
_IN_PLACE = ["add_at", "copyto", "put"]
_REDUCTIONS = ["add_reduce", "maximum_reduce"]


def _recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        tape = _tape.current_tape()
        if tape is not None:
            tape.add(_frozen(name, function, args, options))
        return result

    return call


def _frozen(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> Callable[[], object]:
    """The call as a function without arguments. Python numbers become arrays, which need no conversion each time."""
    if name in _IN_PLACE:
        return partial(function, args[0], *(_operand(x, args[0].dtype) for x in args[1:]), **options)
    out = options.get("out")
    if out is None:
        raise AssertionError(f"{name} is being recorded, but names no array for its result: out=")
    if name == "product":
        return _products.planned(args[0], args[1], out)
    if name == "take":
        return partial(args[0].take, args[1], options.get("axis"), out, options["mode"])
    if name in _REDUCTIONS:
        return partial(function, args[0], options.get("axis", 0), None, out, options.get("keepdims", False))
    dtype = next(x.dtype for x in args if isinstance(x, numpy.ndarray))
    operands = [_operand(x, dtype, out.shape if out.size == 1 else ()) for x in args]
    return partial(function, *operands, out=out) if name in _BY_NAME else partial(function, *operands, out)


def _operand(x: Any, dtype: Any, shape: tuple[int, ...] = ()) -> Any:
    return numpy.full(shape, x, dtype) if isinstance(x, int | float) else x


_PLAIN = {name: globals()[name] for name in [*_BY_POSITION, *_BY_NAME, *_IN_PLACE, *_REDUCTIONS, "product", "take"]}
_RECORDED = {name: _recorded(name, function) for name, function in _PLAIN.items()}
_switch = threading.Lock()
_being_recorded: WeakSet[_tape.Tape] = WeakSet()
"""Weak, because Ctrl-C may keep a recording from taking its tape out; the next one that ends clears up after it."""


@contextmanager
def recorded_calls() -> Iterator[_tape.Tape]:
    """Within, this thread's calls are made and written onto the tape; those of other threads are only made."""
    with _tape.recording() as tape:
        try:
            with _switch:
                _being_recorded.add(tape)
                globals().update(_RECORDED)
            yield tape
        finally:
            with _switch:
                _being_recorded.discard(tape)
                if not _being_recorded:
                    globals().update(_PLAIN)
