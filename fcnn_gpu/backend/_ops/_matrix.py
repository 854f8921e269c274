"""Matrix products: the arithmetic of a fully-connected network."""

from __future__ import annotations

from typing import Self

from ..._checks import suggest
from ..._types import Array
from . import _numpy as np
from ._activation import ActivationOps

PRECISIONS = ("float32", "float64", "tf32", "bfloat16", "float16")
"""What products may be computed in: float32 and float64 as such, TF32 (float32 matrices, 10 bits of mantissa in the
factors), and 16-bit matrices; the last three add up in float32, on tensor cores."""


_ADDED_AT_ONCE = 2**19
"""Elements of a product that is added to a matrix, block by block: in smaller blocks the products are slower, and in
larger ones, which leave the cache, the additions. 4096 × 4096 with 128 samples: 18 ms, in one block 16, without the
addition 12."""


class MatrixOps(ActivationOps):
    precisions: tuple[str, ...] = ("float32", "float64")
    """What models of this backend may compute in."""

    def with_precision(self, precision: str | None) -> Self:
        """The primitives of this device for models of a precision; None is that of the matrices themselves.

        Only "tf32" makes a difference to the primitives: it lets float32 matrices be multiplied by TF32 tensor cores.
        The other names say what the matrices are, which their dtype says already.

        Raises ValueError for an unknown name, and on NumPy for any but float32 and float64.
        """
        check_precision(precision)
        if precision is not None and precision not in self.precisions:
            raise ValueError(
                f"precision={precision!r} needs the tensor cores of a GPU, and this is NumPy, whose products are fast "
                "in float32 and float64 only. Leave precision out, or take backend='cupy' on a CUDA machine."
            )
        return self

    def gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        """out = α·A·B + β·out.

        A (m, k) and B (k, n) may be C- or F-ordered; out (m, n) is contiguous in either order and shares memory
        with neither. With β = 0 out is not read, so it may hold anything, NaN included. A and B have one dtype, and so
        has out, except that on a GPU 16-bit matrices may be multiplied into float32. The three products of a Dense
        layer are gemm(W, A0, Z), gemm(dZ, A0ᵀ, dW), gemm(Wᵀ, dZ, dA0).
        """
        if beta:
            if beta != 1:
                np.multiply(out, beta, out=out)
            if out.flags.c_contiguous:
                self._add_product(A, B, out, alpha)
            else:
                self._add_product(B.T, A.T, out.T, alpha)
            return
        if out.flags.c_contiguous:
            np.product(A, B, out=out)
        else:  # NumPy multiplies without a copy only into C order, and (A·B)ᵀ = Bᵀ·Aᵀ
            np.product(B.T, A.T, out=out.T)
        if alpha != 1:
            np.multiply(out, alpha, out=out)

    def batched_gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0) -> None:
        """out_g = α·A_g·B_g for the matrices of A (groups, m, k), B (groups, k, n) and out (groups, m, n), as `gemm`.

        Those of each lie equally far apart.
        """
        for g in range(out.shape[0]):
            self.gemm(A[g], B[g], out[g], alpha)

    def _add_product(self, A: Array, B: Array, out: Array, alpha: float) -> None:
        """out += α·A·B, out C-ordered: some of its rows at a time, so that the product needs little memory."""
        n_rows, n_columns = out.shape
        rows = max(1, min(n_rows, _ADDED_AT_ONCE // max(1, n_columns)))
        product = self.scratch("gemm", rows * n_columns, out.dtype).reshape(rows, n_columns)
        for start in range(0, n_rows, rows):
            stop = min(start + rows, n_rows)
            part = product[: stop - start]
            self.gemm(A[start:stop], B, part, alpha)
            np.add(out[start:stop], part, out=out[start:stop])

    def dense_forward(
        self,
        W: Array,
        A0: Array,
        b: Array | None,
        kind: str,
        alpha: float,
        Z: Array,
        out: Array,
        gain: float = 1.0,
    ) -> None:
        """Z = gain·W·A₀ + b, then out = f(Z): a fully-connected layer with an elementwise activation.

        W (n_out, n_in), A0 (n_in, batch), b (n_out, 1) or None, Z and out (n_out, batch) F-ordered. out may be Z if f's
        derivative can be had from its output (`ELEMENTWISE[kind].from_output`), and if it is not, then Z holds nothing
        of use afterwards; for the other activations they differ, and Z is kept for the backward pass.
        """
        self.gemm(W, A0, Z, gain)
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
        add_to_dW: bool = False,
        gain: float = 1.0,
    ) -> None:
        """dZ = dA ⊙ f′, dW = gain·dZ·A₀ᵀ, db = dZ·1, dA₀ = gain·Wᵀ·dZ: the gradients of `dense_forward`.

        dA, saved and dZ (n_out, batch) F-ordered; saved is what the forward pass left in out where `from_output`, else
        Z. dZ may be dA. db (n_out, 1) and dA0 (n_in, batch) may be None, and are then not computed. With `add_to_dW`
        it is dW += gain·dZ·A₀ᵀ, without a second matrix of that size.
        """
        self.activation_backward(dA, saved, kind, alpha, dZ, db)
        self.gemm(dZ, A0.T, dW, gain, 1.0 if add_to_dW else 0.0)
        if dA0 is not None:
            self.gemm(W.T, dZ, dA0, gain)

    def grouped_dense_forward(
        self,
        W: Array,
        A0: Array,
        b: Array | None,
        kind: str,
        alpha: float,
        Z: Array,
        out: Array,
        groups: int,
        gain: float = 1.0,
    ) -> None:
        """Z_g = gain·W_g·A₀_g + b_g for g = 1 ... groups, then out = f(Z): fully-connected layers side by side.

        Group g has columns (g − 1)·n_in ... g·n_in − 1 of W (n_out, groups·n_in), which is F-ordered, and so many rows
        of A0 (groups·n_in, batch), Z and out (groups·n_out, batch), all F-ordered, and b (groups·n_out, 1) or None.
        out may be Z as in `dense_forward`.
        """
        n_out, n_in = W.shape[0], W.shape[1] // groups
        for g in range(groups):
            inputs, units = slice(g * n_in, (g + 1) * n_in), slice(g * n_out, (g + 1) * n_out)
            np.matmul(A0[inputs].T, W[:, inputs].T, out=Z[units].T)
        if gain != 1.0:
            np.multiply(Z, gain, out=Z)
        self.bias_activation(Z, b, kind, alpha, out)

    def grouped_dense_backward(
        self,
        dA: Array,
        saved: Array,
        kind: str,
        alpha: float,
        W: Array,
        A0: Array,
        dZ: Array,
        dW: Array,
        groups: int,
        db: Array | None = None,
        dA0: Array | None = None,
        add_to_dW: bool = False,
        gain: float = 1.0,
    ) -> None:
        """dZ = dA ⊙ f′, dW_g = gain·dZ_g·A₀_gᵀ, db = dZ·1, dA₀_g = gain·W_gᵀ·dZ_g: the gradients of
        `grouped_dense_forward`, with its shapes and the rest as in `dense_backward`."""
        self.activation_backward(dA, saved, kind, alpha, dZ, db)
        n_out, n_in = W.shape[0], W.shape[1] // groups
        for g in range(groups):
            inputs, units = slice(g * n_in, (g + 1) * n_in), slice(g * n_out, (g + 1) * n_out)
            of_group = dW[:, inputs].T
            product = self.scratch("gemm", n_in * n_out, dW.dtype).reshape(n_in, n_out) if add_to_dW else of_group
            np.matmul(A0[inputs], dZ[units].T, out=product)
            if gain != 1.0:
                np.multiply(product, gain, out=product)
            if add_to_dW:
                np.add(of_group, product, out=of_group)
            if dA0 is not None:
                np.matmul(dZ[units].T, W[:, inputs], out=dA0[inputs].T)
        if dA0 is not None and gain != 1.0:
            np.multiply(dA0, gain, out=dA0)

    def repeat_units(self, X: Array, out: Array) -> None:
        """out = X, X, ..., X, one below the other: a batch for each member of an ensemble.

        X (n, batch) and out (k·n, batch) F-ordered.
        """
        n = X.shape[0]
        for start in range(0, out.shape[0], n):
            np.copyto(out[start : start + n], X)

    def sum_repeats(self, dA: Array, out: Array) -> None:
        """out_ij = Σ_g dA_(g·n+i)j in the order of g: the gradient of `repeat_units`.

        dA (k·n, batch) and out (n, batch) F-ordered.
        """
        n = out.shape[0]
        np.copyto(out, dA[:n])
        for start in range(n, dA.shape[0], n):
            np.add(out, dA[start : start + n], out=out)

    def take_units(self, X: Array, first: int, out: Array) -> None:
        """out_ij = X_(first + i)j: some units that follow one another, X (m, batch) and out (n, batch) F-ordered."""
        np.copyto(out, X[first : first + out.shape[0]])

    def put_units(self, X: Array, out: Array, first: int) -> None:
        """out_(first + i)j = X_ij, the other units of out as they are: X (n, batch) and out (m, batch) F-ordered."""
        np.copyto(out[first : first + X.shape[0]], X)

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
        self.gemm(A, B, out, beta=1.0 if accumulate else 0.0)
        if last:
            self.bias_activation(out, bias, kind, alpha, out)


def check_precision(precision: str | None) -> None:
    """ValueError unless `precision` is None or one of `PRECISIONS`."""
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"with_precision does not know {precision!r}. {suggest(precision, PRECISIONS)}")
