"""Matrix products through cuBLAS or our tiled kernel, and sums over the samples."""

from __future__ import annotations

from ..._types import Array
from .._tiled_matmul import tiled_matmul
from ._device import DeviceOps, chunks_of, unit_tiles


class MatrixKernels(DeviceOps):
    def gemm(self, A: Array, B: Array, out: Array, accumulate: bool = False) -> None:
        self._gemm(A, B, out, accumulate)

    def tiled_matmul(
        self,
        A: Array,
        B: Array,
        out: Array,
        bias: Array | None = None,
        kind: str = "identity",
        alpha: float = 0.0,
        accumulate: bool = False,
        last: bool = True,
    ) -> None:
        tiled_matmul(
            self._launcher,
            A,
            B,
            out,
            bias=bias if last else None,
            activation=kind.upper() if last else "IDENTITY",
            alpha=alpha,
            addend=out if accumulate else None,
        )

    def row_sum(self, X: Array, out: Array) -> None:
        n, batch = X.shape
        chunk, n_chunks = chunks_of(batch)
        partial = out if n_chunks == 1 else self._partial("partial", out, n_chunks)
        self._launcher.launch(
            "row_sum",
            "row_sum",
            (X.dtype, partial.dtype),
            [n, batch, chunk, n_chunks, X, partial],
            blocks=unit_tiles(n, n_chunks),
        )
        self._sum_chunks(partial, n_chunks, out)
