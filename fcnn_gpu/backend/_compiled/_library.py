"""The shared library of the compiled operations: its levels, its operations, and how to call them."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..._types import Array, DType
from .._ops._numpy import empty
from ._call import Call, Operation, address_of

LEVEL_VARIABLE = "FCNN_CPU_LEVEL"
"""The environment variable that names the instruction level to use."""

_INTERFACE = 2
"""What records, phases, executions and the library's functions are like: INTERFACE in kernels/cpu/record.h."""
_RECORD_WORDS = 27
"""Of 8 bytes: the operation, and its arguments."""


class LibraryFault(Exception):
    """Why a library cannot be used."""


class Execution(ctypes.Structure):
    """What `Library.execute` is given the address of: a program, and how it is to be executed (program.c)."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("level", "records", "phases", "n_phases", "moves", "n_moves")),
        *((name, ctypes.c_int64) for name in ("n_threads", "n_times", "budget", "scratch")),
    ]


class Scratch(NamedTuple):
    """Memory, and its address."""

    memory: Array
    address: int


class Library:
    """The compiled operations, for the best instruction level that this CPU has, or for the one that is named."""

    epilogues: ClassVar = {name: i for i, name in enumerate(("STORE", "BIAS", "BIAS_RELU", "BIAS_LEAKY", "CHECK"))}
    """Of the products, as kernels/cpu/product.h has them."""

    def __init__(self, path: Path, level: str | None = None, needed: Collection[str] = ()) -> None:
        """Load it.

        Args:
            path: of the file.
            level: the instruction level to use; by default the best that this CPU has.
            needed: the names of the operations that it must have.

        Raises:
            LibraryFault: the file is damaged or of another version, or this CPU has none of its levels.
            ValueError: `level` is none of this CPU's.
        """
        self.path = path
        try:
            _check_whole(path)
            self._dll = dll = ctypes.CDLL(str(path))
        except OSError as error:
            raise LibraryFault(f"their library cannot be loaded ({error})") from None
        try:
            self._declare()
        except AttributeError as error:
            raise LibraryFault(f"their library is of another version of fcnn_gpu ({error})") from None
        names = [self._text("level_name", i) for i in range(dll.fcnn_n_levels())]
        self.levels = [name for i, name in enumerate(names) if dll.fcnn_level_is_supported(i)]
        if not self.levels:
            raise LibraryFault(f"this CPU has none of the instruction levels that they are for, {', '.join(names)}")
        if level is not None and level not in self.levels:
            raise ValueError(
                f"{LEVEL_VARIABLE} expects an instruction level that this CPU has, {' or '.join(self.levels)}, "
                f"got {level!r}."
            )
        self.level_name = level or self.levels[0]
        self.level = names.index(self.level_name)
        self.operations: dict[str, Operation] = {}
        for code in range(dll.fcnn_n_operations()):
            name = self._text("operation_name", code)
            self.operations[name] = Operation.parse(code, name, self._text("operation_parameters", code))
        missing = sorted(set(needed) - set(self.operations))
        if missing:
            raise LibraryFault(f"their library is of another version of fcnn_gpu (it lacks {', '.join(missing)})")
        self.scratch_bytes: int = dll.fcnn_scratch_bytes()
        self.record_words = _RECORD_WORDS
        self._per_thread = threading.local()
        self._one_phase = np.array([[0, 1, 0, 1, 0, 0, 0]], np.int64)
        self.execute: Any = dll.fcnn_run

    def _declare(self) -> None:
        """Say what the functions are like; AttributeError where one is missing, `LibraryFault` where one is other."""
        dll = self._dll
        for name in ("level_name", "operation_name", "operation_parameters"):
            getattr(dll, f"fcnn_{name}").restype = ctypes.c_char_p
        for name in ("scratch_bytes", "record_bytes", "run"):
            getattr(dll, f"fcnn_{name}").restype = ctypes.c_int64
        for name in ("level_name", "level_is_supported", "operation_name", "operation_parameters"):
            getattr(dll, f"fcnn_{name}").argtypes = [ctypes.c_int]
        dll.fcnn_run.argtypes = [ctypes.c_void_p]
        found, words = dll.fcnn_interface(), dll.fcnn_record_bytes() / 8
        if (found, words) != (_INTERFACE, _RECORD_WORDS):
            raise LibraryFault(
                "their library is of another version of fcnn_gpu "
                f"(interface {found} and records of {words:g} words, not {_INTERFACE} and {_RECORD_WORDS})"
            )

    def _text(self, what: str, i: int) -> str:
        text: bytes = getattr(self._dll, f"fcnn_{what}")(i)
        return text.decode()

    def call(self, name: str, dtype: DType, arguments: Mapping[str, Any]) -> Call:
        """An operation with its arguments, which are checked."""
        return Call(self, self.operations[name], dtype, arguments)

    def scratch(self) -> Scratch:
        """What operations of this thread compute in.

        Who gives it to C keeps it: at the interpreter's end what belongs to a thread is freed while it still computes.
        """
        scratch: Scratch | None = getattr(self._per_thread, "scratch", None)
        if scratch is None:
            memory = empty(self.scratch_bytes, np.uint8)
            scratch = self._per_thread.scratch = Scratch(memory, address_of(memory))
        return scratch

    def release_scratch(self) -> None:
        """Let go of this thread's."""
        self._per_thread.__dict__.clear()

    def run_once(self, record: Any) -> None:
        """Compute one record, in this thread."""
        phases, scratch = address_of(self._one_phase), self.scratch()
        execution = Execution(self.level, ctypes.addressof(record), phases, 1, 0, 0, 1, 1, 0, scratch.address)
        self.execute(ctypes.addressof(execution))


_ELF_HEADER = struct.Struct("=40xQ10xHH")
"""Of the header of an ELF file of 64 bits: where its table of sections begins, the size of an entry, their number."""


def _check_whole(path: Path) -> None:
    """Refuse a file that has been cut off, on Linux: the system would load it, and end the process when it is used."""
    with path.open("rb") as file:
        header = file.read(64)
    if header.startswith(b"\x7fELF") and len(header) == 64:
        start, entry, n = _ELF_HEADER.unpack_from(header)
        size = path.stat().st_size
        if size < start + n * entry:
            raise LibraryFault(f"their library is damaged ({path} has {size} bytes of {start + n * entry})")
