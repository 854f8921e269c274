"""Matrices that need not be in memory, gone through in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._types import DType, HostArray

BLOCK_BYTES = 2**24
"""Bytes of a block of rows where a matrix is gone through on the host: large enough to read at full speed."""


def blocks_of_rows(shape: tuple[int, int], dtype: DType) -> Iterator[slice]:
    """Blocks of rows that cover a matrix in order."""
    rows = rows_of_block(shape, dtype)
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def rows_of_block(shape: tuple[int, int], dtype: DType) -> int:
    """The rows of one block."""
    return max(1, BLOCK_BYTES // max(1, shape[1] * dtype.itemsize))


class BlockMatrix:
    """A matrix (n, m) whose numbers come in blocks of rows; `numpy.asarray(matrix)` brings all of it into memory.

    Whoever has one sets `shape` and `dtype` and says what the blocks are.
    """

    ndim = 2
    shape: tuple[int, int]
    dtype: DType

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def blocks(self) -> Iterator[tuple[slice, HostArray]]:
        """(rows, their numbers) in order; a block lasts until the next one is asked for."""
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:
        if copy is False:
            raise ValueError(f"{self!r} can only be copied into an array: it is not in memory.")
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for rows, block in self.blocks():
            out[rows] = block
        return out
