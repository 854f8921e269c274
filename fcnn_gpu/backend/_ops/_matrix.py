"""Matrix products and sums: the arithmetic of a fully-connected network."""

from __future__ import annotations

import numpy as np

from ..._types import Array
from ._activation import ActivationOps


class MatrixOps(ActivationOps):
    def gemm(self, A: Array, B: Array, out: Array, accumulate: bool = False) -> None:
        """out = A·B, or out += A·B.

        A (m, k) and B (k, n) may be C- or F-ordered; out (m, n) is contiguous in either order and shares memory
        with neither. The three products of a Dense layer are gemm(W, A0, Z), gemm(dZ, A0ᵀ, dW), gemm(Wᵀ, dZ, dA0).
        """
        if accumulate:
            order = "C" if out.flags.c_contiguous else "F"
            product = self.scratch("gemm", out.size, out.dtype).reshape(out.shape, order=order)
            self.gemm(A, B, product)
            np.add(out, product, out=out)
        elif out.flags.c_contiguous:
            np.matmul(A, B, out=out)
        else:  # NumPy multiplies without a copy only into C order, and (A·B)ᵀ = Bᵀ·Aᵀ
            np.matmul(B.T, A.T, out=out.T)

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
        """out = f(A·B + bias), with A·B summed over several calls when the inner dimension comes in chunks.

        A (m, k) C-ordered, B (k, n) F-ordered, out (m, n) F-ordered, bias (m, 1) or None. `accumulate` adds to
        what out holds; `last` says that this is the last chunk, so that bias and activation apply.
        """
        self.gemm(A, B, out, accumulate=accumulate)
        if last:
            self.bias_activation(out, bias, kind, alpha, out)

    def row_sum(self, X: Array, out: Array) -> None:
        """out_i = Σ_j X_ij: X (n, batch) F-ordered, out (n, 1)."""
        np.matmul(self.ones(X.shape[1], X.dtype), X.T, out=out.T)
