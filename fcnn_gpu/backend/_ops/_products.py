"""Matrix products on the host: a small one as one call of BLAS, a large one in parts that threads share.

Where a product is cut depends on its shape and dtype alone, and BLAS computes each part on one thread. So the number of
threads, and what else the machine does, change no bit of the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy

from ..._blas_threads import blas_threads
from ..._types import HostArray
from .._helpers import share

_PART = 2**25
"""Operations in float32 (a multiplication and an addition are two) that a part has at least: a quarter of a millisecond
on a fast core, five times what it takes to wake a thread. Those in float64 count twice."""
_WIDE, _NARROW, _FEW = 256, 64, 4
"""How wide parts are: 256 columns, or 64 where there would be fewer than four of them. BLAS copies the factors of each
part into an order of its own, which narrow parts repay the less. Where columns are not cut, the same of rows."""
_ROWS = 1024
"""Where columns are cut, so many rows stay together, and four times as many operations."""
_INNER = 16
"""np.matmul is slow where the inner dimension is 1, and a product with a few is bound by memory."""
_ALIGNED = 64
"""Parts begin at multiples of so many rows and columns."""
_TYPES = {numpy.dtype("float32"), numpy.dtype("float64")}


def product(A: HostArray, B: HostArray, out: HostArray) -> None:
    """out = A·B: A (m, k), B (k, n), out (m, n) C-ordered."""
    if 2 * out.shape[0] * out.shape[1] * A.shape[1] < _PART or not isinstance(out, numpy.ndarray):
        numpy.dot(A, B, out=out)  # of two matrices the same as np.matmul, which takes 0.4 µs longer to begin
    else:
        planned(A, B, out)()


def planned(A: HostArray, B: HostArray, out: HostArray) -> Callable[[], object]:
    """`product` as a function without arguments."""
    (m, k), n = A.shape, B.shape[1]
    parts = parts_of(m, n, k, out.itemsize)
    if len(parts) < 2 or not _are_readable(A, B, out):
        return partial(numpy.dot, A, B, out)
    # np.dot would write into nothing but whole rows.
    return partial(share, [partial(numpy.matmul, A[r], B[:, c], out[r, c]) for r, c in parts])


def parts_of(m: int, n: int, k: int, itemsize: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the parts of a product (m, k)·(k, n), C-ordered; one part where it is small.

    Columns are cut before rows, which costs BLAS less. Where nobody can keep BLAS from taking threads of its own, it is
    one part whatever the size.
    """
    if k < _INNER or blas_threads() is None:
        return [(slice(0, m), slice(0, n))]
    most = 2 * m * n * k * itemsize // (4 * _PART)
    n_columns = _power_of_two(min(most, _n_wide(n)))
    n_rows = _power_of_two(min(most, _n_wide(m)) if n_columns == 1 else min(most // (4 * n_columns), m // _ROWS))
    return list(itertools.product(_cut(m, n_rows), _cut(n, n_columns)))


def _n_wide(size: int) -> int:
    return max(size // _WIDE, min(_FEW, size // _NARROW))


def _power_of_two(n: int) -> int:
    """The largest up to n, and at least 1: then two, four or eight threads have equally many parts."""
    return 1 << max(0, n.bit_length() - 1)


def _cut(size: int, n: int) -> list[slice]:
    ends = [0, *(round(i * size / (n * _ALIGNED)) * _ALIGNED for i in range(1, n)), size]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _are_readable(A: HostArray, B: HostArray, out: HostArray) -> bool:
    """Whether BLAS reads parts of the factors where they lie."""
    types = {x.dtype for x in (A, B, out)}
    return len(types) == 1 and types <= _TYPES and all(x.itemsize in x.strides for x in (A, B))
