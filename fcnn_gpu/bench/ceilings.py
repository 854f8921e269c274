"""What a device can do at best: a large matrix product, copies, and the shortest call, measured where the cases run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..backend import resolve_backend
from ..backend._ops import Ops
from ._worker import call_apart
from .environment import worker_environment
from .results import Ceilings
from .settings import Settings

_PRODUCTS = {False: (1024, 2048), True: (4096, 8192)}
"""Rows and columns of large products, on a CPU and on a GPU; the faster counts."""
_COPIES = tuple(2**i for i in range(14, 29, 2))
"""Bytes that a copy moves, half read and half written: from what fits the first cache to what fits none."""
_CALLS = 1000
_LEAST_RUNS = 3


def measure(
    ops: Ops,
    dtype: Any = "float32",
    seconds: float = 0.5,
    threads: int = 1,
    products: tuple[int, ...] | None = None,
    copies: tuple[int, ...] = _COPIES,
) -> Ceilings:
    """The best of several runs of each, for about `seconds` for the products and as long for all copies.

    The products are square (`products`: their rows and columns), and their arrays have the orders of Dense's: W·A. The
    largest of a library's rates need not be that of its largest product, so the best of them is the ceiling. A copy is
    made by one thread or by `threads`, whichever is faster; its rate counts what is read and what is written.
    """
    dtype = np.dtype(dtype)
    sizes = _PRODUCTS[ops.asynchronous] if products is None else products
    rate, n = max((2.0 * n**3 / _product_seconds(ops, n, dtype, seconds / len(sizes)), n) for n in sizes)
    rates = [(size, size / _copy_seconds(ops, size, seconds / len(copies), threads)) for size in copies]
    return Ceilings(
        device=ops.describe(),
        dtype=dtype.name,
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
    return call_apart(_measure_on, backend, settings.dtype, seconds, threads, settings=settings, backend=backend)


def _measure_on(backend: str, dtype: str, seconds: float, threads: int) -> Ceilings:
    return measure(resolve_backend(backend), dtype, seconds, threads)


def _product_seconds(ops: Ops, n: int, dtype: np.dtype[Any], seconds: float) -> float:
    W, A, Z = ops.empty((n, n), dtype), ops.matrix(n, n, dtype), ops.matrix(n, n, dtype)
    values = np.random.default_rng(0).standard_normal((n, n), np.float32)
    ops.assign(W, values)
    ops.assign(A, values)
    return _best(ops, lambda: ops.gemm(W, A, Z), seconds)


def _copy_seconds(ops: Ops, size: int, seconds: float, threads: int) -> float:
    n = max(1, size // 2)
    source, target = ops.zeros(n, np.uint8), ops.zeros(n, np.uint8)
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
    """The shortest run, of as many as begin within `seconds` and at least three."""
    run()
    ops.synchronize()
    best = float("inf")
    n = 0
    end = time.perf_counter() + seconds
    while n < _LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        ops.synchronize()
        best = min(best, time.perf_counter() - start)
        n += 1
    return best
