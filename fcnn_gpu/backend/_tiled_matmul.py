"""How the tiled product of kernels/matmul.cu is launched: orders, leading dimensions and tile size from the arrays."""

from __future__ import annotations

import math

import numpy as np

from .._types import Array
from ._kernels import Launcher

# From how many large tiles on they keep a GPU busy (132 processors on an H100, 128 on an RTX 4090). A large tile reads
# each operand half as often; with fewer of them, small tiles that fill the GPU are the better choice.
_ENOUGH_LARGE_TILES = 128


def tiled_matmul(
    launcher: Launcher,
    A: Array,
    B: Array,
    out: Array,
    *,
    bias: Array | None = None,
    activation: str | int = "IDENTITY",
    alpha: float = 0.0,
    addend: Array | None = None,
) -> None:
    """out = f(A·B + addend + bias), on the launcher's device.

    Args:
        launcher: where to run.
        A: (m, k), with one axis of unit stride.
        B: (k, n), likewise, of A's dtype.
        out: (m, n), likewise, of A's dtype; or, for half-precision A, float32 (a sum that later chunks are added to).
        bias: m elements, float64 for float64 and float32 otherwise.
        activation: f, a name or number of the enum in kernels/activation.cuh.
        alpha: f's parameter (leaky ReLU, ELU).
        addend: (m, n) in the order and with the leading dimension of out, float64 for float64 and float32 otherwise.
            It may be out itself. In a sum over chunks of the inner dimension it is the sum so far, and bias and
            activation belong to the last chunk.

    Raises:
        ValueError, TypeError: shapes, dtypes or orders do not fit together.
    """
    for name, matrix in (("A", A), ("B", B), ("out", out)):
        if len(getattr(matrix, "shape", ())) != 2:
            raise ValueError(f"tiled_matmul expects {name} to be a matrix, got {_shape(matrix)}.")
    if A.shape[1] != B.shape[0] or out.shape != (A.shape[0], B.shape[1]):
        raise ValueError(
            f"tiled_matmul expects A (m, k), B (k, n) and out (m, n), got {A.shape}, {B.shape} and {out.shape}."
        )
    if A.dtype != B.dtype:
        raise TypeError(f"tiled_matmul expects A and B of one dtype, got {A.dtype} and {B.dtype}.")
    order_out, ldc = _order("out", out, prefer="F")
    if order_out == "C":
        # (A·B)ᵀ = Bᵀ·Aᵀ is F-ordered. A bias runs along m, which the kernel would then take for n.
        if bias is not None:
            raise ValueError("tiled_matmul adds a bias only where out is F-ordered, got a C-ordered out.")
        A, B, out, addend = B.T, A.T, out.T, None if addend is None else addend.T
    order_a, lda = _order("A", A, prefer="C")
    order_b, ldb = _order("B", B, prefer="F")
    m, n, k = A.shape[0], B.shape[1], A.shape[1]
    tile = _tile_size(A.dtype, m, n)
    launcher.launch(
        "matmul",
        "matmul",
        (A.dtype, out.dtype, tile, f"{order_a}_ORDER", f"{order_b}_ORDER"),
        [m, n, k, lda, ldb, ldc, launcher.constant("matmul", activation), alpha, A, B, addend, bias, out],
        blocks=math.ceil(m / tile) * math.ceil(n / tile),
    )


def _tile_size(dtype: np.dtype[np.generic], m: int, n: int) -> int:
    if dtype == np.float64:
        return 64  # a thread's 64 sums would take all its registers
    if dtype.itemsize == 2:
        return 128
    return 128 if math.ceil(m / 128) * math.ceil(n / 128) >= _ENOUGH_LARGE_TILES else 64


def _order(name: str, matrix: Array, *, prefer: str) -> tuple[str, int]:
    """C or F, and the elements from one row (C) or column (F) to the next; `prefer` where the matrix is both."""
    (rows, columns), item = matrix.shape, matrix.dtype.itemsize
    found = {}
    for order, fast, slow, slow_stride, fast_stride in (
        ("C", columns, rows, matrix.strides[0], matrix.strides[1]),
        ("F", rows, columns, matrix.strides[1], matrix.strides[0]),
    ):
        leading = slow_stride // item if slow > 1 else max(fast, 1)
        unit = fast <= 1 or fast_stride == item
        if matrix.size == 0 or (unit and slow_stride % item == 0 and leading >= fast):
            found[order] = max(fast, 1) if matrix.size == 0 else leading
    if not found:
        raise ValueError(
            f"tiled_matmul expects {name} with contiguous rows or columns, got shape {matrix.shape} with strides "
            f"{matrix.strides} bytes ({item} bytes an element)."
        )
    order = prefer if prefer in found else next(iter(found))
    return order, found[order]


def _shape(value: Array) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" if shape is None else f"shape {shape}"
