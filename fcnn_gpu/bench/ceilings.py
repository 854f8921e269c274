"""What a device can do at best: a large matrix product, copies, and the shortest call, measured where the cases run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..backend import Ops, resolve_backend
from ._worker import call_apart
from .environment import worker_environment
from .operations import numpy_dtype
from .results import Ceilings
from .settings import Settings

_PRODUCTS = {False: (1024, 2048), True: (4096, 8192)}
"""Rows and columns of large products, on a CPU and on a GPU; the faster counts."""
_COPIES = {False: tuple(2**i for i in range(14, 29, 2)), True: tuple(2**i for i in range(14, 31, 2))}
"""Bytes that a copy moves, half read and half written: from what fits the first cache to what fits none."""
_STRETCH_SECONDS = 5e-3
"""On a GPU so many runs are timed together, between two events: waiting for a single one would count as its time."""
_CALLS = 1000
_LEAST_RUNS = 3


def measure(
    ops: Ops,
    dtype: str = "float32",
    seconds: float = 0.5,
    threads: int = 1,
    products: tuple[int, ...] | None = None,
    copies: tuple[int, ...] | None = None,
) -> Ceilings:
    """The best of several runs of each, for about `seconds` for the products and as long for all copies.

    The products are square (`products`: their rows and columns), and their arrays have the orders of Dense's: W·A. The
    largest of a library's rates need not be that of its largest product, so the best of them is the ceiling. A copy is
    made by one thread or by `threads`, whichever is faster; its rate counts what is read and what is written.
    `dtype` may also be a precision of the products alone: "tf32", "bfloat16" or "float16".
    """
    sizes = _PRODUCTS[ops.asynchronous] if products is None else products
    copies = _COPIES[ops.asynchronous] if copies is None else copies
    stored = numpy_dtype(dtype)
    multiplying = ops.with_precision(dtype) if dtype == "tf32" else ops
    rate, n = max((2.0 * n**3 / _product_seconds(multiplying, n, stored, seconds / len(sizes)), n) for n in sizes)
    rates = [(size, size / _copy_seconds(ops, size, seconds / len(copies), threads)) for size in copies]
    return Ceilings(
        device=ops.describe(),
        dtype=dtype,
        product_flops_per_second=rate,
        product_shape=f"{n} × {n} × {n}",
        copy_bytes_per_second=rates[-1][1],
        copy_bytes=rates[-1][0],
        call_seconds=_call_seconds(ops, seconds / 5),
        copy_rates=rates,
    )


def measure_apart(settings: Settings, backend: str = "numpy", seconds: float = 0.5) -> Ceilings:
    """`measure` in a process with the environment of the benchmark's workers."""
    threads = worker_environment(settings, backend).threads
    dtype = settings.precision or settings.dtype
    return call_apart(_measure_on, backend, dtype, seconds, threads, settings=settings, backend=backend)


def _measure_on(backend: str, dtype: str, seconds: float, threads: int) -> Ceilings:
    return measure(resolve_backend(backend), dtype, seconds, threads)


def _product_seconds(ops: Ops, n: int, dtype: np.dtype[Any], seconds: float) -> float:
    W, A, Z = (ops.matrix(n, n, dtype) for _ in range(3))
    values = np.random.default_rng(0).standard_normal((n, n), np.float32)
    ops.assign(W, values)
    ops.assign(A, values)
    return _best(ops, lambda: ops.gemm(W, A, Z), seconds)


def _copy_seconds(ops: Ops, size: int, seconds: float, threads: int) -> float:
    n = max(1, size // 8)
    source, target = ops.zeros(n, np.float32), ops.zeros(n, np.float32)
    ops.fill(source, 1)  # zeroed memory may be one page that was never written
    ops.fill(target, 1)
    best = _best(ops, lambda: ops.assign(target, source), seconds / 2)
    if threads == 1 or ops.asynchronous:
        return best
    bounds = [n * i // threads for i in range(threads + 1)]
    parts = [slice(bounds[i], bounds[i + 1]) for i in range(threads)]

    def copy(part: slice) -> None:
        ops.assign(target[part], source[part])

    with ThreadPoolExecutor(threads) as pool:
        return min(best, _best(ops, lambda: list(pool.map(copy, parts)), seconds / 2))


def _call_seconds(ops: Ops, seconds: float) -> float:
    """The shortest call: of NumPy on one element, or the launch of one kernel for one thread."""
    counter, x = ops.zeros(1, np.int64), ops.zeros(1, np.float32)

    def launches() -> None:
        for _ in range(_CALLS):
            ops.advance(counter, 1)

    def numpy_calls() -> None:
        add = np.add
        for _ in range(_CALLS):
            add(x, x, x)

    return _best(ops, launches if ops.asynchronous else numpy_calls, seconds) / _CALLS


def _best(ops: Ops, run: Callable[[], Any], seconds: float) -> float:
    """The shortest run, of as many as begin within `seconds` and at least three; on a GPU the least mean of several."""
    run()
    ops.synchronize()
    together = 1
    if ops.asynchronous:
        together = max(1, min(_CALLS, math.ceil(_STRETCH_SECONDS / max(_stretch(ops, run, 1), 1e-9))))
    best = float("inf")
    n = 0
    end = time.perf_counter() + seconds
    while n < _LEAST_RUNS or time.perf_counter() < end:
        best = min(best, _stretch(ops, run, together))
        n += 1
    return best


def _stretch(ops: Ops, run: Callable[[], Any], n: int) -> float:
    """Seconds of one of n runs."""
    read = ops.stopwatch()
    for _ in range(n):
        run()
    return read() / n
