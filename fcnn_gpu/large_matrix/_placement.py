"""Where a matrix lies, and its blocks read from there and written there: device memory, host memory or a file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._types import Array, DType, HostArray
from ..files import NumberFile, StorageError, place_in_file

Place = Literal["device", "host", "file"]
Order = Literal["C", "F", ""]

SCRATCH_BYTES = 2**16
"""For a file whose numbers lie apart in both directions: a stretch of it, from which the numbers are picked."""


@dataclass(frozen=True)
class Layout:
    """What a plan needs to know of a matrix.

    Attributes:
        rows, columns: its shape.
        dtype: of its numbers.
        place: "device", "host" or "file".
        order: "C" where the numbers of a row lie side by side, "F" where those of a column do, "" where neither.
        whole: whether nothing lies between one row (C) or column (F) and the next.
        streams: whether blocks of it are copied for the product, which otherwise works on it where it lies.
    """

    rows: int
    columns: int
    dtype: DType
    place: Place
    order: Order = "C"
    whole: bool = True
    streams: bool = True

    @property
    def nbytes(self) -> int:
        return self.rows * self.columns * self.dtype.itemsize

    @property
    def block_order(self) -> Literal["C", "F"]:
        """The order of copies of its blocks."""
        return "F" if self.order == "F" else "C"

    def pieces(self, rows: Any, columns: Any) -> Any:
        """How many contiguous stretches a block of so many rows and columns is; takes arrays of sizes, too."""
        if self.order == "C":
            return np.where(self.whole & (np.asarray(columns) == self.columns), 1, rows)
        if self.order == "F":
            return np.where(self.whole & (np.asarray(rows) == self.rows), 1, columns)
        return rows * np.maximum(1, np.asarray(columns) // 64)

    def describe(self) -> str:
        """In words, for the table of a plan."""
        gaps = "" if self.whole or not self.order else ", with gaps"
        return f"{self.place}, {self.order}-ordered{gaps}" if self.order else f"{self.place}, strided"


class Matrix:
    """An operand or the result, with its layout: `read` and `write` copy blocks between it and host memory.

    Args:
        name: "A", "B" or "out", for errors.
        array: NumPy's (memory maps and views of them included) or the device's.
        place: where its memory is.
        in_place: whether the product can work on it where it lies.
    """

    def __init__(self, name: str, array: Array, place: Place, in_place: bool) -> None:
        self.name, self.array = name, array
        self._file: NumberFile | None = None
        self.path: Path | None = None
        self._position = 0
        found = place_in_file(array) if place == "host" and array.size else None
        if found is not None:
            self.path, self._position = found
            place, in_place = "file", False
        order, whole = _order(array)
        rows, columns = array.shape
        self.layout = Layout(rows, columns, np.dtype(array.dtype), place, order, whole, not in_place)

    def describe(self) -> str:
        """Its name and, where it has one, its file's."""
        return self.name if self.path is None else f"{self.name} ({self.path})"

    def open(self, to_write: bool = False) -> None:
        """Open its file, if it lies in one, and check that the file is as long as it has to be. StorageError if not."""
        if self.path is None:
            return
        self._file = NumberFile(self.path, "r+" if to_write else "r")
        first, last = self._bounds()
        if first < 0 or last > self._file.nbytes:
            size = self._file.nbytes
            self.close()
            raise StorageError(
                5,
                f"{self.path} has {size:,} bytes, but {self.name} needs those up to byte {last:,}. Something has cut "
                "the file short since it was mapped: restore it, or write it anew.",
            )

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def block(self, rows: slice, columns: slice) -> Array:
        """A view, for a product in place."""
        return self.array[rows, columns]

    def read(self, rows: slice, columns: slice, out: HostArray, scratch: HostArray | None = None) -> None:
        """out ← the block; out is contiguous, or a slice of rows (C) or columns (F), in the layout's `block_order`."""
        if self._file is None:
            np.copyto(out, self.array[rows, columns])
            return
        position, between, step, lines = self._lines(rows, columns, out)
        if step == lines.itemsize or lines.shape[1] == 1:
            self._file.read_lines(position, between, lines)
            return
        for i, line in enumerate(lines):
            for start, low, stretch, picked in _spans(position + i * between, step, line, scratch):
                self._file.read(start, stretch)
                np.copyto(line[low : low + len(picked)], picked)

    def write(self, rows: slice, columns: slice, values: HostArray, scratch: HostArray | None = None) -> None:
        """The block ← values, which is contiguous, or a slice of rows (C) or columns (F), in `block_order`."""
        if self._file is None:
            np.copyto(self.array[rows, columns], values)
            return
        position, between, step, lines = self._lines(rows, columns, values)
        if step == lines.itemsize or lines.shape[1] == 1:
            self._file.write_lines(position, between, lines)
            return
        for i, line in enumerate(lines):
            for start, low, stretch, picked in _spans(position + i * between, step, line, scratch):
                self._file.read(start, stretch)  # what lies between the numbers stays as it is
                np.copyto(picked, line[low : low + len(picked)])
                self._file.write(start, stretch)

    def _lines(self, rows: slice, columns: slice, block: HostArray) -> tuple[int, int, int, HostArray]:
        """(where a block begins in the file, bytes from line to line and from number to number, the block's lines)"""
        by_row, by_column = self.array.strides
        position = self._position + rows.start * by_row + columns.start * by_column
        between, step, lines = by_row, by_column, block
        if self.layout.block_order == "F":
            between, step, lines = step, between, block.T
        if step == lines.itemsize and between == lines.shape[1] * step:
            lines = lines.reshape(1, -1)  # one stretch of the file
        return position, between, step, lines

    def _bounds(self) -> tuple[int, int]:
        """The first byte of the file and the one after the last that hold its numbers."""
        ends = [(n - 1) * stride for n, stride in zip(self.array.shape, self.array.strides, strict=True)]
        first = self._position + sum(end for end in ends if end < 0)
        return first, self._position + sum(end for end in ends if end > 0) + self.array.itemsize


def _order(array: Array) -> tuple[Order, bool]:
    """The layout's `order` and `whole`; of an array that is both, as most arrays of one row are, C."""
    (rows, columns), item = array.shape, array.dtype.itemsize
    if not rows * columns:
        return "C", True
    by_row, by_column = array.strides
    c, f = columns == 1 or by_column == item, rows == 1 or by_row == item
    c_whole = c and (rows == 1 or by_row == columns * item)
    f_whole = f and (columns == 1 or by_column == rows * item)
    if c_whole or f_whole:
        return ("C" if c_whole else "F"), True
    return ("C" if c else "F" if f else ""), False


def _spans(
    position: int, step: int, part: HostArray, scratch: HostArray | None
) -> Iterator[tuple[int, int, HostArray, HostArray]]:
    """Numbers that lie `step` bytes apart, in stretches of the file that the scratch memory has room for.

    (position of the stretch, number of its first element, the stretch's bytes, those elements as a view of them)
    """
    assert scratch is not None
    item = part.itemsize
    most = 1 if abs(step) > len(scratch) - item else 1 + (len(scratch) - item) // max(1, abs(step))
    if step == 0:
        most = 1
    for low in range(0, len(part), most):
        n = min(most, len(part) - low)
        stretch = scratch[: (n - 1) * abs(step) + item]
        start = position + low * step + min(0, (n - 1) * step)
        offset = 0 if step > 0 else (n - 1) * abs(step)
        yield start, low, stretch, np.ndarray((n,), part.dtype, stretch.data, offset, (step,))


def scratch_bytes(*layouts: Layout) -> int:
    """What reading and writing of these layouts needs besides the blocks."""
    return SCRATCH_BYTES if any(x.place == "file" and not x.order for x in layouts) else 0


def block_view(buffer: HostArray | Array, shape: tuple[int, int], order: str, dtype: DType) -> Any:
    """The front of a flat buffer of bytes as a matrix."""
    flat = buffer[: math.prod(shape) * dtype.itemsize].view(dtype)
    return flat.reshape(shape) if order == "C" else flat.reshape(shape[::-1]).T
