"""Matrix products through cuBLAS or our tiled kernel, and sums over the samples."""

from __future__ import annotations

from typing import Self

from ..._types import Array
from .._ops._matrix import check_precision
from .._tiled_matmul import tiled_matmul
from ._device import DeviceOps, chunks_of, tiles


class MatrixKernels(DeviceOps):
    def with_precision(self, precision: str | None) -> Self:
        check_precision(precision)
        products = self._products.with_precision(precision)
        if products is self._products:
            return self
        if self._twin is None:
            self._twin = type(self)(self._runtime, self._launcher, products)
            self._twin._twin = self
        return self._twin

    def gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        if A.shape[-1] and out.size:
            self._launcher.keep(A, B, out)
            self._products.gemm(A, B, out, alpha, beta)
        elif beta == 0:  # an empty sum
            self.fill(out, 0.0)
        elif beta != 1:
            self.scale(out, beta, out)

    def dense_forward(
        self, W: Array, A0: Array, b: Array | None, kind: str, alpha: float, Z: Array, out: Array
    ) -> None:
        self.gemm(W, A0, Z)
        self.bias_activation(Z, b, kind, alpha, out)

    def dense_backward(
        self,
        dA: Array,
        saved: Array,
        kind: str,
        alpha: float,
        W: Array,
        A0: Array,
        dZ: Array,
        dW: Array,
        db: Array | None = None,
        dA0: Array | None = None,
    ) -> None:
        self.activation_backward(dA, saved, kind, alpha, dZ, db)
        self.gemm(dZ, A0.T, dW)
        if dA0 is not None:
            self.gemm(W.T, dZ, dA0)

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
        partial = self._partial("partial", out, n_chunks)
        self._launcher.launch(
            "row_sum",
            "row_sum",
            (X.dtype,),
            [n, batch, chunk, n_chunks, X, partial],
            blocks=tiles(n, n_chunks, X.dtype),
        )
        self._sum_chunks(partial, n_chunks, out)
