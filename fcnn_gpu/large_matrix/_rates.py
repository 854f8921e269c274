"""How fast this machine multiplies and moves numbers: what a plan weighs against each other."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import check_real
from .._types import DType
from ..backend import Ops, available_memory, read_cpu
from ..files import NumberFile
from ._host_product import accumulate_product

SAMPLE = 2**25
"""Bytes that a rate of moving is measured with, where there is room."""
_LEAST_SAMPLE = 2**16
_SHARE_OF_FREE = 1 / 8
"""Of the memory that is free, what measuring may take: the product is to have it, and others may be asking for it."""
_SMALLEST_SIDE, _LARGEST_SIDE = 256, 4096
"""Of the square products that are timed."""
_TELLING_SIDE = 1024
"""Smaller ones say little: on a busy machine BLAS's threads wait longer for each other than they compute."""
_LONG, _TOO_LONG = 0.06, 0.8
"""Seconds that one of them should not take, and that even a smaller one must not."""
_lock = threading.Lock()


@dataclass(frozen=True)
class Rates:
    """What `chunked_matmul` and its plan may count on.

    Attributes:
        arithmetic: FLOP/s of a large product (a multiplication and an addition are two).
        read: bytes/s from files into host memory.
        write: bytes/s from host memory into files.
        copy: bytes/s from host memory to host memory (for a GPU: by several threads).
        to_device: bytes/s from page-locked host memory to the device; infinite on the CPU.
        from_device: bytes/s back.

    Raises ValueError for a rate that is not greater than 0.

    >>> Rates(arithmetic=5e13, to_device=2.5e10, from_device=2.5e10).read
    2000000000.0
    """

    arithmetic: float
    read: float = 2e9
    write: float = 1e9
    copy: float = 1e10
    to_device: float = math.inf
    from_device: float = math.inf

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, float) and math.isinf(value) and value > 0):
                value = check_real(f"Rates({field.name})", value, low=0.0, low_open=True)
            object.__setattr__(self, field.name, value)


def measure_rates(ops: Ops, dtype: DType, read_from: list[Path], write_to: Path | None) -> Rates:
    """The rates of this device and these files; each is measured once per process, in some hundredths of a second.

    Files are read at places spread over them, so that it shows whether they lie in the system's cache. Writing is
    measured in a temporary file beside the one to be written.
    """
    with _lock:
        room = _room(ops)
        sample = _power_of_two(room // 2, _LEAST_SAMPLE, SAMPLE)  # copying takes a source and a place to copy to
        to_device, from_device = _bus(ops, sample) if ops.asynchronous else (math.inf, math.inf)
        reads = [rate for path in read_from if (rate := _reading(*_identity(path))) is not None]
        written = None if write_to is None else _writing(str(write_to.resolve().parent), _is_on_disk(write_to))
        default = Rates(1.0)
        return Rates(
            arithmetic=_arithmetic(ops, np.dtype(dtype).name, _largest_side(room, np.dtype(dtype).itemsize)),
            read=min(reads, default=default.read),
            write=default.write if written is None else written,
            copy=_copying(copying_threads() if ops.asynchronous else 1, sample),
            to_device=to_device,
            from_device=from_device,
        )


def _room(ops: Ops) -> int:
    """Bytes that measuring may take, on the host and on the device, each."""
    free = [n for n in (available_memory(), ops.free_memory()) if n is not None]
    return int(_SHARE_OF_FREE * min(free, default=2**40))


def _power_of_two(n: int, least: int, most: int) -> int:
    """The largest power of two up to n, between these two."""
    return max(least, min(most, 1 << max(0, n.bit_length() - 1)))


def _largest_side(room: int, itemsize: int) -> int:
    """Of square matrices, a power of two, of which three have room."""
    return _power_of_two(math.isqrt(room // (3 * itemsize)), 1, _LARGEST_SIDE)


@functools.cache
def _arithmetic(ops: Ops, dtype: str, largest: int) -> float:
    """FLOP/s of square products, each twice as wide as the one before, until they are the largest or take long."""
    side, best = min(_SMALLEST_SIDE, largest), 0.0
    while True:
        if ops.asynchronous:
            A, B, out = (ops.zeros((side, side), dtype) for _ in range(3))
            multiply = functools.partial(ops.gemm, A, B, out, 1.0, 1.0)
        else:
            A, B, out = (np.zeros((side, side), dtype) for _ in range(3))
            multiply = functools.partial(accumulate_product, A, B, out, 1.0)
        multiply()
        seconds = _seconds(ops, multiply, 3)
        best = max(best, 2.0 * side**3 / seconds)
        if side >= largest or 8 * seconds > (_LONG if side >= _TELLING_SIDE else _TOO_LONG):
            return best
        side *= 2


def _seconds(ops: Ops, work: Callable[[], object], n: int) -> float:
    """The shortest of n."""
    times = []
    for _ in range(n):
        ops.synchronize()
        start = time.perf_counter()
        work()
        ops.synchronize()
        times.append(time.perf_counter() - start)
    return max(1e-9, min(times))


@functools.cache
def _copying(n_threads: int, sample: int) -> float:
    source, out = np.ones(sample, np.uint8), np.ones(sample, np.uint8)
    places = [slice(sample * i // n_threads, sample * (i + 1) // n_threads) for i in range(n_threads)]
    with ThreadPoolExecutor(n_threads) as threads:
        for _ in range(2):  # the first time threads are begun
            start = time.perf_counter()
            list(threads.map(lambda place: np.copyto(out[place], source[place]), places))
            seconds = time.perf_counter() - start
    return sample / max(1e-9, seconds)


def copying_threads() -> int:
    """Threads that fill page-locked memory, or empty it: one alone copies more slowly than a bus does."""
    return max(1, min(8, read_cpu().cores // 2))


@functools.cache
def _bus(ops: Ops, sample: int) -> tuple[float, float]:
    side = ops.side_stream()
    host, device = side.host_buffer((sample,), np.uint8), ops.empty(sample, np.uint8)
    host.fill(0)
    rates = []
    for copy in (functools.partial(side.copy, host, device), functools.partial(side.copy_back, device, host)):
        seconds = math.inf
        for _ in range(2):
            side.wait(side.record_compute())
            start = time.perf_counter()
            copy()
            side.synchronize(side.record())
            seconds = min(seconds, time.perf_counter() - start)
        rates.append(sample / max(1e-9, seconds))
    return rates[0], rates[1]


def _identity(path: Path) -> tuple[str, int, int]:
    """A file as it is now: one that was written anew is measured anew."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return str(path), status.st_mtime_ns, status.st_size
    return str(path), 0, 0


@functools.lru_cache(maxsize=64)
def _reading(path: str, _changed: int, size: int, seconds: float = 0.1) -> float | None:
    """Bytes/s from eight places of a file; None where there is too little of it to tell."""
    piece = min(SAMPLE // 8, size // 8)
    if piece < 4096:
        return None
    out = np.empty(piece, np.uint8)
    out.fill(0)
    done, start = 0, time.perf_counter()
    with NumberFile(path) as file:
        for i in range(8):
            file.read(i * (size // 8), out)
            done += piece
            if time.perf_counter() - start > seconds:
                break
    return done / max(1e-9, time.perf_counter() - start)


def _is_on_disk(path: Path) -> bool:
    """Whether a file has its room on the disk already: writing it anew is much faster than making it longer."""
    try:
        status = path.stat()
    except OSError:
        return False
    return 512 * getattr(status, "st_blocks", 0) >= status.st_size


@functools.lru_cache(maxsize=64)
def _writing(folder: str, again: bool) -> float | None:
    """Bytes/s into a new file of a folder, or over what is there; None where none can be made there."""
    values: Any = np.zeros(SAMPLE // 8, np.uint8)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(1 + again):
                file.seek(0)
                start, done = time.perf_counter(), 0
                while done < SAMPLE // 2 and time.perf_counter() - start < 0.1:
                    done += os.write(file.fileno(), values)
                seconds = time.perf_counter() - start
            return done / max(1e-9, seconds)
    except OSError:
        return None
