"""libcublas and libcublasLt on the CPU: cublas.cpp, compiled by the host compiler, under the package's own binding.

The package loads it as it loads NVIDIA's: every argument of every call goes through the same prototypes.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fcnn_gpu._types import Array
from fcnn_gpu.backend._cublas import CublasLibrary
from tests.cuda_on_cpu import built

HERE = Path(__file__).parent

_FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden")

Queue = Callable[[Callable[[], object]], None]
"""Does a piece of work now, or keeps it for later."""


def cublas_path() -> Path:
    """The compiled library."""
    return built("cublas.so", _FLAGS, (HERE / "cublas.cpp").read_text(encoding="utf-8"))


def _loaded_apart() -> ctypes.CDLL:
    """The library, loaded from a copy: it has one queue, and the loader takes one path for one library."""
    with tempfile.TemporaryDirectory() as folder:
        library = ctypes.CDLL(shutil.copy(cublas_path(), folder))
    for name in ("cublas_on_cpu_run", "cublas_on_cpu_forget"):
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.c_int64,), None
    return library


class Stream:
    """Stands for one at an address that it gives back when nobody holds it any more."""


class NumpyHost:
    """NumPy as the owner of the device's memory: a product's operands are NumPy arrays.

    `stream` holds the address of the current stream, `streams` those that somebody holds, `recording` whether a graph
    is being recorded, and `allocated` the sizes of what was asked for.
    """

    def __init__(self, stream: list[int] | None = None, compute_capability: int = 75) -> None:
        self.stream = [0] if stream is None else stream
        self.recording = False
        self.allocated: list[int] = []
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self._compute_capability = compute_capability

    def stream_address(self) -> int:
        return self.stream[0]

    def current_stream(self) -> Stream:
        return self.streams.setdefault(self.stream[0], Stream())

    def is_recording(self) -> bool:
        return self.recording

    def allocate(self, n_bytes: int) -> Array:
        if self.recording:
            raise RuntimeError("allocated while a graph was being recorded")
        self.allocated.append(n_bytes)
        memory = np.empty(n_bytes + 256, np.uint8)
        return memory[-memory.ctypes.data % 256 :][:n_bytes]

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def compute_capability(self) -> int:
        return self._compute_capability


_kept: dict[CublasLibrary, object] = {}


def at_once(work: Callable[[], object]) -> None:
    work()


@functools.cache
def cublas_on_cpu(queue: Queue = at_once) -> CublasLibrary:
    """The library; `queue` gets the arithmetic of each call as a function, which it may call any number of times."""
    library = _loaded_apart()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64)
    def submit(number: int) -> int:
        queue(partial(library.cublas_on_cpu_run, number))
        return 0

    library.cublas_on_cpu_on_submit(submit)
    made = CublasLibrary(library, library)
    _kept[made] = submit  # C holds its address only
    return made
