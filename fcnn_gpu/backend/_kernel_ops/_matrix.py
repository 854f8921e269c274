"""Matrix products through cuBLAS or our tiled kernel, and sums over the samples."""

from __future__ import annotations

import numpy as np

from ..._types import Array, DType
from .._ops import ELEMENTWISE
from ._device import DeviceOps, chunks_of, unit_tiles

_ACTIVATION_NUMBER = {kind: number for number, kind in enumerate(ELEMENTWISE)}
_BLOCKS_WORTH_LARGE_TILES = 256


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
        (m, k), n = A.shape, B.shape[1]
        tile = _tile(m, n, out.dtype)
        item = out.dtype.itemsize
        lda = A.strides[0] // item if m > 1 else max(1, k)
        ldb = B.strides[1] // item if n > 1 else max(1, k)
        ldc = out.strides[1] // item if n > 1 else max(1, m)
        self._launcher.launch(
            "matmul",
            "matmul",
            (A.dtype, out.dtype, tile, "C_ORDER", "F_ORDER"),
            [
                *(m, n, k, lda, ldb, ldc),
                _ACTIVATION_NUMBER[kind if last else "identity"],
                alpha,
                A,
                B,
                out if accumulate else None,
                bias if last else None,
                out,
            ],
            blocks=-(-m // tile) * -(-n // tile),
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


def _tile(m: int, n: int, dtype: DType) -> int:
    """Side of the square of `out` that a block computes: 128 where that leaves every multiprocessor a few, else 64."""
    if dtype == np.float64:
        return 64
    return 128 if dtype.itemsize < 4 or -(-m // 128) * -(-n // 128) >= _BLOCKS_WORTH_LARGE_TILES else 64
