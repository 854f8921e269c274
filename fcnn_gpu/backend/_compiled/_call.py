"""One call of a compiled operation: its arguments checked, as the words of a record."""

from __future__ import annotations

import ctypes
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..._types import Array, DType

if TYPE_CHECKING:
    from ._library import Library

KINDS = SAMPLES, SHARED, SERIAL = "SAMPLES", "SHARED", "SERIAL"
"""Who computes an operation: threads by samples, threads in another way, one thread (kernels/cpu/level.h)."""

_DTYPES: dict[str, DType] = {
    "double": np.dtype(np.float64),
    "int32_t": np.dtype(np.int32),
    "int64_t": np.dtype(np.int64),
    "uint8_t": np.dtype(np.uint8),
}
_REALS = np.dtype(np.float32), np.dtype(np.float64)
_MEMBER = re.compile(r"(?P<marks>(?:_Alignas\(\w+\) )*)(?P<const>const )?(?P<type>\w+) (?P<pointer>\*?)(?P<name>\w+)")
_MARKS = "_Alignas(8)", "_Alignas(int64_t)", "_Alignas(double)"
"""`rows`, `optional` and `any_order` (kernels/cpu/level.h)."""
_FACTORS = {
    "embed_numbers": 30.0,
    "embed_numbers_backward": 30.0,
    "softmax_cross_entropy": 10.0,
    "sparse_product": 100.0,
}
"""How much longer than its bytes say an operation takes that computes more."""


class Parameter(NamedTuple):
    """A member of an operation's ARGUMENTS. `dtype`: of the number or of what a pointer points to, None for any dtype.

    is_real: the dtype is the record's.
    """

    name: str
    is_pointer: bool
    dtype: DType | None
    is_real: bool
    writes: bool
    by_rows: bool
    optional: bool
    any_order: bool


@dataclass(frozen=True)
class Operation:
    """An operation as the library describes it."""

    name: str
    code: int
    kind: str
    parameters: tuple[Parameter, ...]

    @classmethod
    def parse(cls, code: int, name: str, text: str) -> Operation:
        """From the text of its ARGUMENTS: "SHARED: int64_t n; const float *x; double *out;"."""
        kind, _, members = text.partition(": ")
        return cls(name, code, kind, tuple(_parameter(name, m.strip()) for m in members.split(";") if m.strip()))


def _parameter(operation: str, text: str) -> Parameter:
    match = _MEMBER.fullmatch(text)
    if match is None:
        raise AssertionError(f"{operation}: {text!r} is no member of 8 bytes as kernels/cpu/level.h has them")
    marks, kind = match["marks"].split(), match["type"]
    is_pointer = bool(match["pointer"])
    is_real = kind == "float"
    dtype = None if is_real or kind == "void" else _DTYPES[kind]
    writes = is_pointer and not match["const"]
    return Parameter(match["name"], is_pointer, dtype, is_real, writes, *(mark in marks for mark in _MARKS))


class Access(NamedTuple):
    """Bytes start ... stop − 1 of memory that a call reads or writes; with `row_bytes`, each sample its own row.

    any_order: calls that change it so may do it in any order, and at the same time.
    """

    start: int
    stop: int
    writes: bool
    row_bytes: int
    any_order: bool


class Call:
    """An operation with its arguments. Calling it computes it, at once and in this thread.

    It keeps its arrays alive. `work` is about how many nanoseconds one thread takes.
    """

    def __init__(self, library: Library, operation: Operation, dtype: DType, arguments: Mapping[str, Any]) -> None:
        self.library, self.operation, self.dtype = library, operation, dtype
        self.arguments = dict(arguments)
        self.accesses: list[Access] = []
        self.words: list[int] = [_HEAD.unpack(struct.pack("=ii", operation.code, dtype == np.float64))[0]]
        if dtype not in _REALS:
            raise TypeError(f"{operation.name} computes in float32 or float64, got {dtype.name}.")
        if [p.name for p in operation.parameters] != list(arguments):
            expected = ", ".join(p.name for p in operation.parameters)
            raise TypeError(f"{operation.name} takes ({expected}), got ({', '.join(arguments)}).")
        self.batch = int(arguments.get("batch", 0)) if operation.kind == SAMPLES else 0
        for parameter, value in zip(operation.parameters, arguments.values(), strict=True):
            self.words.append(self._pointer(parameter, value) if parameter.is_pointer else _number(parameter, value))

    @property
    def name(self) -> str:
        """Of the operation."""
        return self.operation.name

    def _pointer(self, parameter: Parameter, array: Array | None) -> int:
        if array is None:
            if not parameter.optional:
                raise TypeError(f"{self.name}: {parameter.name} is an array, got None.")
            return 0
        dtype = self.dtype if parameter.is_real else parameter.dtype  # compared as they are: to name one takes a µs
        if dtype is not None and array.dtype != dtype:
            raise TypeError(f"{self.name}: {parameter.name} is an array of {dtype}, got {array.dtype}.")
        if parameter.writes and not array.flags.writeable:
            raise ValueError(f"{self.name}: {parameter.name} is written to, got a read-only array.")
        address, extent = address_of(array), _extent(array)
        row_bytes = array.nbytes // self.batch if parameter.by_rows and self.batch else 0
        self.accesses.append(Access(address, address + extent, parameter.writes, row_bytes, parameter.any_order))
        return address

    @property
    def work(self) -> float:
        """Nanoseconds, roughly: 50 bytes, or 100 multiplications in a product, take one."""
        if self.name.startswith("product"):
            m = self.arguments.get("m", self.batch)
            groups = self.arguments["groups"] if self.operation.kind == SAMPLES else 1
            return float(groups * m * self.arguments["n"] * self.arguments["k"]) / 100
        if self.name == "gradient_of_blocks":
            return math.prod(float(self.arguments[name]) for name in ("batch", "m", "n", "groups")) / 100
        touched = [access for access in self.accesses if access.row_bytes or self.operation.kind != SAMPLES]
        return _FACTORS.get(self.name, 1.0) * sum(access.stop - access.start for access in touched) / 50

    def let_go(self, array: Array) -> None:
        """Keep an array alive no more: whoever computes the call says where another lies (`Program.point`)."""
        for name, value in self.arguments.items():
            if isinstance(value, np.ndarray) and place_in(array, value) is not None:
                self.arguments[name] = None

    def __call__(self) -> None:
        words = self.words
        record = (ctypes.c_int64 * self.library.record_words)(*words)
        self.library.run_once(record)


_HEAD = struct.Struct("=q")
_DOUBLE = struct.Struct("=d")


def _number(parameter: Parameter, value: Any) -> int:
    if parameter.dtype == np.int64:
        return int(value)
    return int(_HEAD.unpack(_DOUBLE.pack(value))[0])


def address_of(array: Array) -> int:
    """Of its first element."""
    return int(array.__array_interface__["data"][0])


def place_in(array: Array, part: Array) -> int | None:
    """How many bytes behind the beginning of an array another begins; None if not in it."""
    n_bytes = address_of(part) - address_of(array)
    return n_bytes if 0 <= n_bytes < max(1, array.nbytes) else None


def _extent(array: Array) -> int:
    """Bytes from its first element to behind its last; strides are positive."""
    if array.flags.forc:
        return int(array.nbytes)
    if not array.size:
        return 0
    return int(sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)) + array.itemsize)
