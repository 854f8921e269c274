"""Making, filling and moving arrays; scratch memory; the cache-sized tiles that elementwise passes go over."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ..._blas_threads import OneBlasThread
from ..._types import Array, DType, HostArray
from . import _numpy as np
from ._tape import CapturedOver, Replay, Tape

BLOCK = 32_768
"""Elements in one tile of an elementwise pass: 128 KiB in float32, so that a tile and its scratch stay in L2."""
FEW_CLASSES = 32
"""Up to so many classes, what goes over the classes of each sample works on a transposed copy."""
_UFUNC_BUFFER = 1024
"""Elements of the buffer that NumPy allocates for each operand it broadcasts. Its own default, 8192, costs 32 KiB a
call and up to half of the speed where rows are long: with fewer elements than a row has, nothing is copied."""
_KEPT_TILES = 1024
"""Views of scratch that a thread keeps: far more than one network's shapes, and a bound for those of many."""


@contextmanager
def quiet_arithmetic() -> Iterator[None]:
    """Within, in this thread, NumPy warns of no overflow or NaN (`check_finite` decides) and takes small buffers.

    And in all threads its BLAS computes on one thread.
    """
    with OneBlasThread(), np.errstate(all="ignore"):  # leaving the latter sets the old buffer size again
        np.setbufsize(_UFUNC_BUFFER)
        yield


class ArrayOps:
    """Arrays of one device. The base class is the host: NumPy."""

    name = "numpy"
    xp: Any = np
    asynchronous = False
    """Whether work is queued, so that reading a result waits for all of it."""
    steps_per_capture = 1
    """Training steps to capture as one program: more than one where beginning a program has a cost of its own."""
    records_python = True
    """Whether what `capture` records may hold calls of Python between the primitives (`called`)."""
    captures_over = False
    """Whether `capture_over` may give something."""
    steps_per_call = 1
    """Times that a captured step may be asked for at once: more than one where Python between two has a cost."""

    def __init__(self) -> None:
        self._per_thread = threading.local()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def describe(self) -> str:
        """One phrase for logs: the device and the library behind it."""
        return f"CPU (NumPy {np.__version__})"

    # Arrays

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """An uninitialized C-ordered array."""
        return self.xp.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """A C-ordered array of zeros."""
        return self.xp.zeros(shape, dtype)

    def matrix(self, n: int, batch: int, dtype: Any) -> Array:
        """An uninitialized (n, batch) matrix, F-ordered: each sample is contiguous."""
        return self.xp.empty((batch, n), dtype).T

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """`x` on this device, C-ordered, copied only if it is elsewhere or of another dtype or order."""
        return np.ascontiguousarray(x, dtype)

    def to_numpy(self, x: Array) -> HostArray:
        """`x` on the host; on NumPy the array itself."""
        return np.asarray(x)

    def assign(self, out: Array, x: Any) -> None:
        """out[...] = x, from the host or this device, cast to out's dtype."""
        np.copyto(out, x, casting="unsafe")

    def copy(self, x: Array) -> Array:
        """A copy of `x` on this device, in the same order."""
        return x.copy(order="K")

    def fill(self, out: Array, value: float) -> None:
        """out[...] = value"""
        out.fill(value)

    def add(self, x: Array, y: Array, out: Array) -> None:
        """out = x + y, elementwise; out may be x or y."""
        self.xp.add(x, y, out=out)

    def scale(self, x: Array, factor: float, out: Array) -> None:
        """out = factor·x, elementwise; out may be x."""
        self.xp.multiply(x, factor, out=out)

    def cast(self, x: Array, out: Array, scale: float = 1.0, shift: float = 0.0) -> None:
        """out = scale·x + shift, cast to out's dtype: x of any real dtype.

        x and out have one shape and one memory order. x is cast first; then comes a product and a sum, each rounded, as
        in `gather_rows`: a sample is the same numbers whichever way it enters the network.
        """
        np.copyto(out, x, casting="unsafe")
        if scale != 1.0:
            np.multiply(out, scale, out=out)
        if shift != 0.0:
            np.add(out, shift, out=out)

    def advance(self, counter: Array, by: int) -> None:
        """counter[0] += by, on the device: a replayed graph must not depend on a host number."""
        np.add(counter, by, out=counter)

    # Execution

    def synchronize(self) -> None:
        """Wait for the device. NumPy has nothing to wait for."""

    def stopwatch(self) -> Callable[[], float]:
        """Start a stopwatch on the device. Calling what it returns waits for the work since, and gives its seconds.

        Device time: on a GPU it runs between two events of the current stream, without the host's share.
        """
        start = time.perf_counter()
        return lambda: time.perf_counter() - start

    def capture(self, fn: Callable[[], None]) -> Replay:
        """A replayable form of `fn`, a function that calls primitives on arrays that stay the same.

        `replay(n)` is n calls of `fn`, `replay()` one. On NumPy the first call records the NumPy calls that `fn` leads
        to, and later ones make those calls again: the Python between them (and what `fn` does outside of the
        primitives) runs the first time only.
        """
        tapes: list[Tape] = []

        def run(n_times: int = 1) -> None:
            for _ in range(n_times):
                if tapes:
                    tapes[0].replay()
                    continue
                with np.recorded_calls() as tape:
                    fn()
                if tape.complete:
                    tapes.append(tape)

        return run

    def capture_over(self, fn: Callable[[Array], Array], x: Array, checks: bool) -> CapturedOver | None:
        """`fn`, which computes an array from `x` by primitives, for others in x's place; None where that is not had.

        They have x's shape, dtype and order. With `checks`, a number in them that is not finite is told of. `fn` may be
        called once. On NumPy a tape holds the array that it was recorded on.
        """
        return None

    # Scratch memory

    def gradients_lie_apart(self, bytes_per_sample: int, batch: int) -> bool:
        """Whether a layer's gradients have memory of their own: then no thread waits before it overwrites another's."""
        return False

    def scratch(self, tag: str, size: int, dtype: DType | type) -> Array:
        """`size` uninitialized elements, flat, that last until the next call with the same tag.

        One buffer per thread, tag and dtype; it grows to the largest size ever asked for, so a steady-state step
        allocates nothing and two models that train in two threads do not share it.
        """
        buffers: dict[tuple[str, DType], Array] = self._per_thread.__dict__.setdefault("scratch", {})
        key = (tag, np.dtype(dtype))
        buffer = buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = buffers[key] = self.xp.empty(size, dtype)
        return buffer[:size]

    def release_memory(self) -> None:
        """Let go of this thread's scratch memory, and of what the device's memory pool keeps for later."""
        self._per_thread.__dict__.clear()

    def ones(self, size: int, dtype: DType | type) -> Array:
        """A (1, size) row of ones, cached: sums over samples are products with it (BLAS is the fastest adder)."""
        rows: dict[DType, Array] = self._per_thread.__dict__.setdefault("ones", {})
        key = np.dtype(dtype)
        row = rows.get(key)
        if row is None or row.shape[1] < size:
            row = rows[key] = self.xp.ones((1, size), dtype)
        return row[:, :size]

    def _tiles(self, shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        """(rows, columns) slices of at most BLOCK elements that cover a C-ordered matrix in memory order."""
        n_rows, n_columns = shape
        if n_rows * n_columns == 0:
            return
        rows, columns = max(1, BLOCK // n_columns), min(n_columns, BLOCK)
        for r in range(0, n_rows, rows):
            for c in range(0, n_columns, columns):
                yield slice(r, min(r + rows, n_rows)), slice(c, min(c + columns, n_columns))

    def _class_scratch(self, tag: str, Z: Array) -> Array:
        """Scratch of Z's shape (n_classes, batch), C-ordered for few classes and F-ordered for many.

        NumPy works on one contiguous stretch at a time, so they should be long.
        """
        flat = self.scratch(tag, Z.size, Z.dtype)
        return flat.reshape(Z.shape) if Z.shape[0] <= FEW_CLASSES else flat.reshape(Z.shape[::-1]).T

    def _tile_scratch(self, tag: str, like: Array) -> Array:
        """Scratch of the shape and dtype of one tile, at most BLOCK elements.

        The views are kept: a step on small layers asks for dozens, and making them anew took a tenth of its time.
        """
        views: dict[tuple[str, tuple[int, ...], DType], Array] = self._per_thread.__dict__.setdefault("tiles", {})
        key = (tag, like.shape, like.dtype)
        view = views.get(key)
        if view is None:
            if len(views) >= _KEPT_TILES:
                views.clear()
            view = views[key] = self.scratch(tag, BLOCK, like.dtype)[: like.size].reshape(like.shape)
        return view


def constant_tile(value: float, shape: tuple[int, ...], dtype: DType) -> Array:
    """A read-only tile of one value, of at most BLOCK elements.

    NumPy finds the larger of two arrays' elements four times as fast as that of an array's elements and a number.
    """
    return _constant_tiles(value, dtype)(shape)


@lru_cache(maxsize=64)
def _constant_tiles(value: float, dtype: DType) -> Callable[[tuple[int, ...]], Array]:
    """The tiles of a value by shape. They go when the value goes: any one of them keeps its whole block."""
    block = np.full(BLOCK, value, dtype)
    block.flags.writeable = False

    @lru_cache(maxsize=_KEPT_TILES)
    def tile(shape: tuple[int, ...]) -> Array:
        return block[: math.prod(shape)].reshape(shape)

    return tile
