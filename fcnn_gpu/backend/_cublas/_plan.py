"""Matrix products through a column-major BLAS (cuBLAS) without copying an operand.

BLAS computes C = op(A)·op(B) on column-major matrices, op the identity or the transpose. A C-ordered matrix is the
transpose of a column-major one, and a C-ordered result is had from outᵀ = Bᵀ·Aᵀ; so every product of C- and F-ordered
matrices is one call. `plan_gemm` works out its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..._types import Array

_LARGEST = 2**31 - 1  # cuBLAS's sizes are 32-bit integers


@dataclass(frozen=True)
class GemmPlan:
    """The arguments of one BLAS call: C (m, n) = op(first)·op(second) with inner dimension k.

    `swapped`: first is B and second is A, because outᵀ is computed. The leading dimensions are in elements.
    """

    swapped: bool
    transpose_first: bool
    transpose_second: bool
    m: int
    n: int
    k: int
    ld_first: int
    ld_second: int
    ld_out: int


def plan_gemm(A: Array, B: Array, out: Array) -> GemmPlan:
    """The BLAS call that writes A·B into out.

    A (m, k), B (k, n), out (m, n), each with one axis of unit stride; the other stride may be larger than the matrix
    (a slice of rows or columns). out has the dtype of A and B, or is float32 for 16-bit A and B. Raises ValueError for
    other layouts and for shapes that do not fit, TypeError for dtypes that do not.

    >>> import numpy as np
    >>> W, A0, Z = np.empty((50, 100)), np.empty((32, 100)).T, np.empty((32, 50)).T
    >>> plan_gemm(W, A0, Z)
    GemmPlan(swapped=False, transpose_first=True, transpose_second=False, m=50, n=32, k=100, ld_first=100, ...)
    """
    if not (A.ndim == B.ndim == out.ndim == 2 and A.shape[1] == B.shape[0] and out.shape == (A.shape[0], B.shape[1])):
        raise ValueError(
            f"gemm expects A (m, k), B (k, n) and out (m, n), got {A.shape}, {B.shape} and {out.shape}. "
            "Is one of them transposed?"
        )
    if A.dtype != B.dtype or not (out.dtype == A.dtype or (A.dtype.itemsize == 2 and out.dtype == "float32")):
        raise TypeError(
            f"gemm expects one dtype (or 16-bit A and B with a float32 out), got A {A.dtype}, B {B.dtype} and "
            f"out {out.dtype}."
        )
    ld_a, c_ordered_a = _leading_dimension("A", A)
    ld_b, c_ordered_b = _leading_dimension("B", B)
    ld_out, c_ordered_out = _leading_dimension("out", out)
    (m, k), n = A.shape, B.shape[1]
    if max(m, n, k, ld_a, ld_b, ld_out) > _LARGEST:
        raise ValueError(f"gemm: a matrix of shape {A.shape} or {B.shape} is too large for one product. Split it.")
    if c_ordered_out:  # outᵀ = Bᵀ·Aᵀ
        return GemmPlan(True, not c_ordered_b, not c_ordered_a, n, m, k, ld_b, ld_a, ld_out)
    return GemmPlan(False, c_ordered_a, c_ordered_b, m, n, k, ld_a, ld_b, ld_out)


def _leading_dimension(name: str, x: Array) -> tuple[int, bool]:
    """(leading dimension, whether C-ordered): elements from one column to the next, or from one row to the next."""
    rows, columns = x.shape
    row_stride, column_stride = (stride // x.dtype.itemsize for stride in x.strides)
    if x.size == 0:
        return max(1, rows), False
    # A dimension of one element is never stepped along: its stride means nothing.
    if rows == 1 or row_stride == 1:
        leading = rows if columns == 1 else column_stride
        if leading >= rows:
            return leading, False
    if columns == 1 or column_stride == 1:
        leading = columns if rows == 1 else row_stride
        if leading >= columns:
            return leading, True
    raise ValueError(
        f"gemm expects {name} in C or F order (or a slice of rows or columns of one), got shape {x.shape} with "
        f"strides {x.strides} bytes. Copy it into a contiguous array first."
    )
