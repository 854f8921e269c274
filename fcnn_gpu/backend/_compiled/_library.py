"""Finds the shared library of the compiled operations and describes it: levels, operations, how to call them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..._types import DType
from .._ops._numpy import empty
from ._build import LIBRARY, build, fingerprint
from ._call import Call, Operation, address_of

LEVEL_VARIABLE = "FCNN_CPU_LEVEL"


class Execution(ctypes.Structure):
    """What `Library.execute` is given the address of: a program, and how it is to be executed (program.c)."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("level", "records", "phases", "n_phases", "moves", "n_moves")),
        *((name, ctypes.c_int64) for name in ("n_threads", "n_times", "budget", "scratch")),
    ]


class Library:
    """The compiled operations, for the best instruction level that this CPU has, or for the one that is named."""

    epilogues: ClassVar = {name: i for i, name in enumerate(("STORE", "BIAS", "BIAS_RELU", "BIAS_LEAKY", "CHECK"))}
    """Of the products, as kernels/cpu/product.h has them."""

    def __init__(self, path: Path, level: str | None = None) -> None:
        self.path = path
        self._dll = dll = ctypes.CDLL(str(path))
        for name in ("level_name", "operation_name", "operation_parameters"):
            getattr(dll, f"fcnn_{name}").restype = ctypes.c_char_p
        for name in ("scratch_bytes", "record_bytes", "run"):
            getattr(dll, f"fcnn_{name}").restype = ctypes.c_int64
        names = [self._text("level_name", i) for i in range(dll.fcnn_n_levels())]
        self.levels = [name for i, name in enumerate(names) if dll.fcnn_level_is_supported(i)]
        if level is None and not self.levels:
            raise OSError("this CPU has none of the instruction levels that the library was compiled for")
        if level is not None and level not in self.levels:
            raise ValueError(f"{LEVEL_VARIABLE}={level} is none of the levels of this CPU: {', '.join(self.levels)}.")
        self.level_name = level or self.levels[0]
        self.level = names.index(self.level_name)
        self.operations: dict[str, Operation] = {}
        for code in range(dll.fcnn_n_operations()):
            name = self._text("operation_name", code)
            self.operations[name] = Operation.parse(code, name, self._text("operation_parameters", code))
        self.scratch_bytes: int = dll.fcnn_scratch_bytes()
        self.record_words: int = dll.fcnn_record_bytes() // 8
        self._per_thread = threading.local()
        self._one_phase = np.array([[0, 1, 0, 1]], np.int64)
        self.execute: Any = dll.fcnn_run
        self.execute.argtypes = [ctypes.c_void_p]

    def _text(self, what: str, i: int) -> str:
        text: bytes = getattr(self._dll, f"fcnn_{what}")(i)
        return text.decode()

    def call(self, name: str, dtype: DType, arguments: Mapping[str, Any]) -> Call:
        """An operation with its arguments, which are checked."""
        return Call(self, self.operations[name], dtype, arguments)

    def scratch(self) -> int:
        """The address of memory that operations of this thread compute in."""
        address: int | None = getattr(self._per_thread, "address", None)
        if address is None:
            self._per_thread.memory = empty(self.scratch_bytes, np.uint8)
            address = self._per_thread.address = address_of(self._per_thread.memory)
        return address

    def release_scratch(self) -> None:
        """Let go of this thread's."""
        self._per_thread.__dict__.clear()

    def run_once(self, record: Any) -> None:
        """Compute one record, in this thread."""
        phases = address_of(self._one_phase)
        execution = Execution(self.level, ctypes.addressof(record), phases, 1, 0, 0, 1, 1, 0, self.scratch())
        self.execute(ctypes.addressof(execution))


_PACKAGE = Path(__file__).parents[2]


def sources_folder() -> Path:
    """Where kernels/cpu lies: in the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "kernels" / "cpu"
    return installed if installed.is_dir() else _PACKAGE.parent / "kernels" / "cpu"


def library_path() -> Path:
    """Where the library lies if there is one: in the installed package; in a checkout, under build/ by its sources."""
    installed = _PACKAGE / LIBRARY
    if installed.exists() or not (_PACKAGE.parent / "pyproject.toml").exists():
        return installed
    return _PACKAGE.parent / "build" / f"cpu-{fingerprint(sources_folder())}" / LIBRARY


def build_in_checkout() -> Path:
    """The library of a checkout, compiled unless that has been done. Raises `BuildError`."""
    path = library_path()
    if not path.exists():
        build(sources_folder(), path)
    return path


@cache
def load_library() -> Library:
    """The library; OSError, with the reason, where there is none."""
    path = library_path()
    if not path.exists():
        raise OSError("the package was installed without its compiled kernels")
    return Library(path, os.environ.get(LEVEL_VARIABLE) or None)
