"""Matrix products through cuBLAS or our tiled kernel, and sums over the samples."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from ..._types import Array
from .._autotune import Problem, Question
from .._cublas import MOST_ALGORITHMS
from .._ops._matrix import PRECISIONS, check_precision
from .._tiled_matmul import tiled_matmul
from ._device import DeviceOps, chunks_of, tiles

LT_NAMES = ["cublasLt", *(f"cublasLt {n}" for n in range(2, MOST_ALGORITHMS + 1))]
"""The algorithms that cuBLASLt proposes, best first."""

WITHOUT_TENSOR_CORES = 2**30
"""Multiplications up to which our tiled product, which has no tensor cores, may be the faster one."""


class MatrixKernels(DeviceOps):
    precisions = PRECISIONS

    def with_precision(self, precision: str | None) -> Self:
        check_precision(precision)
        products = self._products.with_precision(precision)
        if products is self._products:
            return self
        if self._twin is None:
            self._twin = type(self)(self._runtime, self._launcher, products, self._tuner)
            self._twin._twin = self
        return self._twin

    def gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        if not (A.shape[-1] and out.size):  # an empty sum, or nothing at all
            if beta == 0:
                self.fill(out, 0.0)
            elif beta != 1:
                self.scale(out, beta, out)
        elif alpha == 1 and beta == 0 and _contiguous(out):
            arrays = (A, B, out)
            problem = ("gemm", self._products.tf32, *self._described(*arrays))
            self._run_gemm(self._choose(problem, partial(self._gemm_question, problem, *arrays)), *arrays)
        else:
            self._cublas(A, B, out, alpha, beta)

    def _gemm_question(self, problem: Problem, A: Array, B: Array, out: Array) -> Question:
        names = ["cublas", *LT_NAMES]
        if multiplications(A, B) <= WITHOUT_TENSOR_CORES:
            names.append("tiled")
        kind = (*problem[:2], A.dtype.name, out.dtype.name, A.strides, B.strides, out.strides)
        # The batch is the last dimension of W·A₀ and Wᵀ·dZ, and the inner one of dZ·A₀ᵀ.
        families = (((*kind, A.shape), B.shape[1]), ((*kind, out.shape), A.shape[1]))
        ways = {name: partial(self._run_gemm, name) for name in names}
        return Question(ways, lambda: (A, B, self._like(out)), families)

    def _run_gemm(self, way: str, A: Array, B: Array, out: Array) -> None:
        if way == "cublas":
            self._cublas(A, B, out)
        elif way == "tiled":
            tiled_matmul(self._launcher, A, B, out)
        else:
            self._cublaslt(A, B, out, choice=LT_NAMES.index(way))

    def _cublas(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        self._launcher.keep(A, B, out)
        self._products.gemm(A, B, out, alpha, beta)

    def _cublaslt(self, A: Array, B: Array, out: Array, choice: int, alpha: float = 1.0, **epilogue: Any) -> None:
        self._launcher.keep(A, B, out, *epilogue.values())
        self._products.matmul(A, B, out, choice=choice, alpha=alpha, **epilogue)

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


def multiplications(A: Array, B: Array) -> int:
    """Of numbers, in A·B."""
    return int(A.shape[0] * A.shape[1] * B.shape[1])


def _contiguous(x: Array) -> bool:
    return bool(x.flags.c_contiguous or x.flags.f_contiguous)
