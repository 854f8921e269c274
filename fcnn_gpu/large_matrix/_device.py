"""Products on a GPU: chunks go through page-locked memory and a stream of copies, tiles come back on another.

::

    reading thread   file or host ─► page-locked 0    ... ─► page-locked 1    ...
    copies there                  ─► chunk 0 of A and B      ─► chunk 1
    compute                                    tile += chunk 0       tile += chunk 1 ... bias, activation │ next tile
    copies back                                                                            band 0, band 1 ...
    writing thread                                                                     page-locked ─► file or host

A chunk is copied when the product on what was in its buffer is done, and multiplied when its copy is done: marks in the
streams, for which no thread of the host waits. The host waits where it would overwrite page-locked memory that is
still being copied from, or read what is still being copied to.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from .._types import Array, HostArray
from ..backend import Ops
from ._host import Epilogue
from ._placement import Matrix, block_view, scratch_bytes
from ._plan import MatmulPlan, ones_bytes
from ._planner import ALIGN, page_locked_buffers
from ._rates import copying_threads
from ._schedule import Load, Step

_BYTES_PER_HELPER = 2**21
"""What a share must be worth: less is copied before another thread has begun."""


class _Buffer:
    """A chunk's or tile's memory on the device. `free`: the compute stream's mark behind its last use; `copied`: the
    mark behind the copy there or back."""

    def __init__(self, memory: Array, free: Any) -> None:
        self.memory, self.free, self.copied = memory, free, None


class DeviceEngine:
    """See `Engine`."""

    def __init__(self, ops: Ops, plan: MatmulPlan, A: Matrix, B: Matrix, out: Matrix, epilogue: Epilogue) -> None:
        self._ops, self._plan, self._matrices, self._epilogue = ops, plan, (A, B, out), epilogue
        self.bytes_read = self.bytes_written = 0
        self._there, self._back = ops.side_stream(), ops.side_stream()
        self._buffers: tuple[list[_Buffer], ...] = ([], [], [])
        self._page_locked: dict[str, list[HostArray]] = {}
        self._loads = {"A": 0, "B": 0}
        self._scratch: dict[str, HostArray] = {}
        self._n_threads = copying_threads()
        self._helpers = ThreadPoolExecutor(2 * self._n_threads, "fcnn_gpu copying")
        self._ones: Array | None = None
        self._bias: Array | None = None

    def __enter__(self) -> DeviceEngine:
        ops, plan = self._ops, self._plan
        problem, (tm, tn, tk) = plan.problem, plan.tile
        numbers = (tm * tk, tk * tn, tm * tn)
        sizes = [_up(n * x.layout.dtype.itemsize) for n, x in zip(numbers, self._matrices, strict=True)]
        ones = ones_bytes(problem, tn)
        total = sum(n * size for n, size in zip(plan.cut.buffers, sizes, strict=True)) + _up(ones)
        arena = ops.empty(total, "uint8") if total else None
        if self._epilogue.bias is not None:
            self._bias = ops.asarray(self._epilogue.bias)
        if ones:
            assert arena is not None
            self._ones = arena[total - _up(ones) :][:ones].view(problem.out.dtype).reshape(1, -1)
            ops.fill(self._ones, 1.0)
        free = self._there.record_compute()  # the memory may have been freed with work on it still under way
        start = 0
        for buffers, n, size in zip(self._buffers, plan.cut.buffers, sizes, strict=True):
            for _ in range(n):
                assert arena is not None
                buffers.append(_Buffer(arena[start : start + size], free))
                start += size
        for name, (n, size) in page_locked_buffers(problem, plan.cut).items():
            stream = self._back if name == "out" else self._there
            self._page_locked[name] = [stream.host_buffer((size,), "uint8") for _ in range(n)]
        self._scratch = {  # one for each thread that may read
            "read": np.empty(scratch_bytes(problem.A, problem.B), np.uint8),
            "write": np.empty(scratch_bytes(problem.out), np.uint8),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._helpers.shutdown()
        for stream in (self._there, self._back):
            stream.synchronize(stream.record())
        self._ops.synchronize()
        self._buffers, self._page_locked, self._ones, self._bias = ([], [], []), {}, None, None
        del self._there, self._back  # an error on its way may hold this engine

    def load(self, load: Load, step: Step) -> None:
        which = "AB".index(load.operand)
        matrix, buffer = self._matrices[which], self._buffers[which][load.buffer]
        rows, columns = (step.rows, step.inner) if which == 0 else (step.inner, step.columns)
        page_locked = self._page_locked[load.operand][self._loads[load.operand] % len(self._page_locked[load.operand])]
        self._loads[load.operand] += 1
        self._there.before_writing(page_locked)
        shape, layout = (rows.stop - rows.start, columns.stop - columns.start), matrix.layout
        host = block_view(page_locked, shape, layout.block_order, layout.dtype)
        self._in_shares(matrix, rows, columns, host, write=False)
        self._there.wait(buffer.free)
        device = block_view(buffer.memory, shape, layout.block_order, layout.dtype)
        self._there.copy(*_c_ordered(layout.block_order, host, device))
        buffer.copied = self._there.record()
        self.bytes_read += host.nbytes

    def _in_shares(self, matrix: Matrix, rows: slice, columns: slice, host: HostArray, write: bool) -> None:
        """Read or write a block in several threads, each some of its lines."""
        scratch = self._scratch["write" if write else "read"]
        move: Any = matrix.write if write else matrix.read
        by_column = matrix.layout.block_order == "F"
        lines = host.shape[1 if by_column else 0]
        n_shares = 1 if len(scratch) else max(1, min(self._n_threads, lines, host.nbytes // _BYTES_PER_HELPER))
        shares: list[Any] = []
        for i in range(n_shares):
            part = slice(lines * i // n_shares, lines * (i + 1) // n_shares)
            first = (columns if by_column else rows).start
            place = slice(first + part.start, first + part.stop)
            shares.append((rows, place, host[:, part]) if by_column else (place, columns, host[part]))
        others = [self._helpers.submit(partial(move, *share, scratch)) for share in shares[1:]]
        try:
            move(*shares[0], scratch)
        finally:
            for other in others:
                other.exception()  # none goes on with memory that is used anew
        for other in others:
            other.result()

    def _block(self, which: int, rows: slice, columns: slice, buffer: int) -> Array:
        matrix = self._matrices[which]
        if buffer < 0:
            return matrix.block(rows, columns)
        shape, layout = (rows.stop - rows.start, columns.stop - columns.start), matrix.layout
        return block_view(self._buffers[which][buffer].memory, shape, layout.block_order, layout.dtype)

    def multiply(self, step: Step) -> None:
        ops, (a, b, c) = self._ops, step.buffers
        out = self._block(2, step.rows, step.columns, c)
        if step.is_first:
            if c >= 0 and self._buffers[2][c].copied is not None:
                self._back.compute_waits(self._buffers[2][c].copied)
            # A product that adds to zeros, because β = 0 would ask the tuner, which makes an out of its own.
            ops.fill(out, 0.0)
        if step.inner.stop == step.inner.start:
            return
        for load in step.loads:
            self._there.compute_waits(self._buffers["AB".index(load.operand)][load.buffer].copied)
        A, B = self._block(0, step.rows, step.inner, a), self._block(1, step.inner, step.columns, b)
        ops.gemm(A, B, out, 1.0, 1.0)
        done = self._there.record_compute()
        for which, buffer in ((0, a), (1, b)):
            if buffer >= 0:
                self._buffers[which][buffer].free = done

    def finish(self, step: Step) -> None:
        buffer = step.buffers[2]
        if buffer < 0:
            return  # bias and activation go over all of out at the end: its tiles are not contiguous
        tile = self._block(2, step.rows, step.columns, buffer)
        self._apply(tile, step.rows)
        if self._matrices[2].layout.place == "device":
            self._ops.assign(self._matrices[2].block(step.rows, step.columns), tile)
        self._buffers[2][buffer].free = self._back.record_compute()

    def _apply(self, tile: Array, rows: slice) -> None:
        """tile ← f(tile + bias), contiguous. A C-ordered tile gets its bias as the product bias·1ᵀ."""
        ops, f = self._ops, self._epilogue
        bias = None if self._bias is None else self._bias[rows]
        if self._matrices[2].layout.block_order == "C":
            if bias is not None:
                assert self._ones is not None
                ops.gemm(bias, self._ones[:, : tile.shape[1]], tile, 1.0, 1.0)
            tile, bias = tile.T, None
        ops.bias_activation(tile, bias, f.kind, f.slope, tile)

    def write(self, step: Step, release: Callable[[], None]) -> None:
        out, number = self._matrices[2], step.buffers[2]
        buffer, layout = self._buffers[2][number], out.layout
        if layout.place == "device":
            release()
            return
        side, back = self._back, self._page_locked["out"]
        shape = step.rows.stop - step.rows.start, step.columns.stop - step.columns.start
        by_column = layout.block_order == "F"
        lines, length = shape[::-1] if by_column else shape
        n = max(1, len(back[0]) // (length * layout.dtype.itemsize))
        tile = self._block(2, step.rows, step.columns, number)
        side.wait(buffer.free)
        coming: tuple[slice, slice, HostArray, Any] | None = None
        for i, start in enumerate(range(0, lines, n)):
            part = slice(start, min(lines, start + n))
            band = tile[:, part] if by_column else tile[part]
            host = block_view(back[i % len(back)], band.shape, layout.block_order, layout.dtype)
            if len(back) == 1:
                self._arrived(coming)
                coming = None
            side.copy_back(*_c_ordered(layout.block_order, band, host))
            place = slice(
                part.start + (step.columns if by_column else step.rows).start,
                part.stop + (step.columns if by_column else step.rows).start,
            )
            buffer.copied = side.record()
            self._arrived(coming)
            coming = ((step.rows, place) if by_column else (place, step.columns)) + (host, buffer.copied)
        release()
        self._arrived(coming)

    def _arrived(self, coming: tuple[slice, slice, HostArray, Any] | None) -> None:
        """Write a band that has been copied back, when it is there."""
        if coming is not None:
            rows, columns, host, copied = coming
            self._back.synchronize(copied)
            self._in_shares(self._matrices[2], rows, columns, host, write=True)
            self.bytes_written += host.nbytes

    def finish_all(self) -> None:
        if self._plan.cut.buffers[2] == 0 and self._plan.problem.out.nbytes and not self._epilogue.is_nothing:
            self._apply(self._matrices[2].array, slice(None))
        self._ops.synchronize()


def _up(n_bytes: int) -> int:
    return -(-n_bytes // ALIGN[True]) * ALIGN[True]


def _c_ordered(order: str, *blocks: Any) -> tuple[Any, ...]:
    """Contiguous blocks of one order as C-ordered ones: F-ordered ones transposed."""
    return blocks if order == "C" else tuple(block.T for block in blocks)
