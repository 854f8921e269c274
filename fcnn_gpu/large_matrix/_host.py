"""Products on the host: BLAS on buffers that a thread fills, or on the matrices where they lie."""

from __future__ import annotations

from collections.abc import Callable

from .._types import HostArray
from ..backend import BLOCK, Ops, quiet_arithmetic
from ._host_product import accumulate_product
from ._placement import Matrix, block_view, scratch_bytes
from ._plan import MatmulPlan
from ._planner import ALIGN
from ._schedule import Load, Step


class Epilogue:
    """f(Z + bias) on finished tiles.

    Args:
        bias: (m, 1), or None.
        kind, slope: f and its parameter, as the primitives know them.
    """

    def __init__(self, bias: HostArray | None, kind: str, slope: float) -> None:
        self.bias, self.kind, self.slope = bias, kind, slope

    @property
    def is_nothing(self) -> bool:
        return self.bias is None and self.kind == "identity"

    def scratch_bytes(self, itemsize: int) -> int:
        """On the host: two tiles of scratch and one of a constant, of the size in which passes go over memory."""
        return 0 if self.is_nothing else 3 * BLOCK * itemsize


class HostEngine:
    """See `Engine`."""

    def __init__(self, plan: MatmulPlan, A: Matrix, B: Matrix, out: Matrix, epilogue: Epilogue) -> None:
        self._plan, self._matrices, self._epilogue = plan, (A, B, out), epilogue
        self._ops = Ops()  # of its own, whose scratch memory goes with it
        self.bytes_read = self.bytes_written = 0
        self._buffers: tuple[list[HostArray], ...] = ([], [], [])
        self._scratch: dict[str, HostArray] = {}

    def __enter__(self) -> HostEngine:
        (tm, tn, tk), cut, align = self._plan.tile, self._plan.cut, ALIGN[False]
        A, B, out = self._matrices
        self._scratch = {
            "read": self._ops.empty(scratch_bytes(A.layout, B.layout), "uint8"),
            "write": self._ops.empty(scratch_bytes(out.layout), "uint8"),
        }
        shapes = (tm * tk, tk * tn, tm * tn)
        sizes = [n * -(-size * x.layout.dtype.itemsize // align) * align for n, size, x in self._each(shapes)]
        arena = self._ops.empty(sum(sizes), "uint8")
        start = 0
        for buffers, n, size in zip(self._buffers, cut.buffers, sizes, strict=True):
            buffers.extend(arena[start + i * size // n : start + (i + 1) * size // n] for i in range(n))
            start += size
        return self

    def _each(self, sizes: tuple[int, int, int]) -> list[tuple[int, int, Matrix]]:
        return list(zip(self._plan.cut.buffers, sizes, self._matrices, strict=True))

    def __exit__(self, *_: object) -> None:
        self._buffers, self._scratch = ([], [], []), {}
        self._ops.release_memory()

    def load(self, load: Load, step: Step) -> None:
        rows, columns = (step.rows, step.inner) if load.operand == "A" else (step.inner, step.columns)
        matrix = self._matrices["AB".index(load.operand)]
        out = self._block("AB".index(load.operand), rows, columns, load.buffer)
        matrix.read(rows, columns, out, self._scratch["read"])
        self.bytes_read += out.nbytes

    def _block(self, which: int, rows: slice, columns: slice, buffer: int) -> HostArray:
        matrix = self._matrices[which]
        if buffer < 0:
            return matrix.block(rows, columns)
        shape, layout = (rows.stop - rows.start, columns.stop - columns.start), matrix.layout
        return block_view(self._buffers[which][buffer], shape, layout.block_order, layout.dtype)

    def multiply(self, step: Step) -> None:
        a, b, c = step.buffers
        out = self._block(2, step.rows, step.columns, c)
        if step.inner.stop == step.inner.start:
            out.fill(0)
            return
        A, B = self._block(0, step.rows, step.inner, a), self._block(1, step.inner, step.columns, b)
        accumulate_product(A, B, out, 0.0 if step.is_first else 1.0)

    def finish(self, step: Step) -> None:
        f = self._epilogue
        if f.is_nothing:
            return
        out = self._block(2, step.rows, step.columns, step.buffers[2])
        bias = None if f.bias is None else f.bias[step.rows]
        with quiet_arithmetic():
            if abs(out.strides[0]) <= abs(out.strides[1]):
                self._ops.bias_activation(out, bias, f.kind, f.slope, out)
                return
            # The primitive goes over the columns of F-ordered matrices. The bias of a row is one number for all of it.
            n = max(1, BLOCK // max(1, out.shape[1]))
            for start in range(0, len(out), n):
                part = out[start : start + n].T
                if bias is not None:
                    self._ops.add(part, bias[start : start + n].T, part)
                if f.kind != "identity":
                    self._ops.bias_activation(part, None, f.kind, f.slope, part)

    def write(self, step: Step, release: Callable[[], None]) -> None:
        tile = self._block(2, step.rows, step.columns, step.buffers[2])
        self._matrices[2].write(step.rows, step.columns, tile, self._scratch["write"])
        self.bytes_written += tile.nbytes
        release()

    def finish_all(self) -> None:
        """Nothing is left: all threads have ended."""
