"""How much memory is alive, counted where it is handed out: what predictions of memory are compared with."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fcnn_gpu._types import Array
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.backend._ops._array import _constant_tiles

POOL_UNIT = 512


class Counter:
    """`n_allocations` so far, and the bytes of what is alive."""

    def __init__(self) -> None:
        self.n_allocations = 0
        self._alive: dict[int, int] = {}

    def note(self, array: Array) -> None:
        """`array` was just made, in memory of its own."""
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if id(root) not in self._alive:
            self.n_allocations += 1
            self._alive[id(root)] = -(-array.nbytes // POOL_UNIT) * POOL_UNIT
            weakref.finalize(root, self._alive.pop, id(root))

    @property
    def held(self) -> int:
        """Bytes that have not been given back yet, in the units of CuPy's memory pool; some may be garbage."""
        return sum(self._alive.values())

    @property
    def nbytes(self) -> int:
        """Bytes that are alive now."""
        gc.collect()
        return self.held


class _CountingLibrary:
    """The emulated array library, with every array that it makes noted."""

    def __init__(self, library: Any, counter: Counter) -> None:
        self._library, self._counter = library, counter

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        return _noting(function, self._counter) if callable(function) else function


def _noting(function: Callable[..., Any], counter: Counter) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        out = function(*args, **options)
        if isinstance(out, np.ndarray) and not any(out is x for x in args):
            counter.note(out)
        return out

    return call


def count_emulated_memory(ops: Any) -> Counter:
    """Count what freshly made emulated ops allocate on their device from now on."""
    counter = Counter()
    runtime = ops._runtime
    runtime.xp = ops.xp = _CountingLibrary(ops.xp, counter)
    runtime.to_device = _noting(runtime.to_device, counter)
    vars(ops)["copy"] = _noting(ops.copy, counter)
    return counter


@contextmanager
def counted_numpy_memory() -> Iterator[Callable[[], int]]:
    """Within, the result gives the bytes of NumPy arrays that were made here and are alive; new Ops have no scratch."""
    _constant_tiles.cache_clear()
    gc.collect()

    def nbytes() -> int:
        gc.collect()
        of_arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([of_arrays]).traces)

    tracemalloc.start()
    try:
        yield nbytes
    finally:
        tracemalloc.stop()


def fresh_emulated_ops() -> tuple[Ops, Counter]:
    """New emulated ops with cuBLAS's workspaces and nothing else, and the count of what they allocate."""
    from tests.support.emulated import make_emulated_ops

    ops = make_emulated_ops()
    counter = count_emulated_memory(ops)
    x = ops.empty((2, 2), np.float32)
    ops.gemm(x, x, ops.empty((2, 2), np.float32))
    return ops, counter
