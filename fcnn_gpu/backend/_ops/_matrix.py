"""Matrix products: the arithmetic of a fully-connected network."""

from __future__ import annotations

from ..._types import Array
from . import _numpy as np
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
            np.dot(A, B, out=out)  # of two matrices the same as np.matmul, which takes 0.4 µs longer to begin
        else:  # NumPy multiplies without a copy only into C order, and (A·B)ᵀ = Bᵀ·Aᵀ
            np.dot(B.T, A.T, out=out.T)

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
