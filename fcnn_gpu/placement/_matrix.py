"""Matrices that are not in memory, read and written like arrays: only what is asked for comes into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .._arrays import as_array, refuse_masked
from .._types import Array, HostArray
from ..backend import Ops
from ..files import BlockMatrix, blocks_of_rows
from ..memory import human
from ._store import Rows


class LazyMatrix(BlockMatrix):
    """A matrix (n, m) whose rows come into memory when they are asked for: `matrix[rows, columns]` is a NumPy array.

    Any index that NumPy takes may be used. `numpy.asarray(matrix)` brings all of it into memory; `blocks()` goes over
    it in blocks of rows.
    """

    def __len__(self) -> int:
        return self.shape[0]

    def _rows(self, start: int, stop: int) -> HostArray:
        """A few rows (stop − start, m)."""
        raise NotImplementedError

    def _each_row(self, rows: Iterable[int]) -> Iterator[HostArray]:
        """One row (m,) after the other; each lasts until the next one is asked for."""
        return (self._rows(row, row + 1)[0] for row in rows)

    def __getitem__(self, key: Any) -> Any:
        basic = _basic(key, self.shape)
        if basic is None:
            return self._picked(key)
        rows, columns = basic
        if isinstance(rows, int):
            return np.array(self._rows(rows, rows + 1)[0, columns])[()]
        numbers = range(self.shape[0])[rows]
        out = np.empty((len(numbers), *np.empty((0, self.shape[1]))[:, columns].shape[1:]), self.dtype)
        for i, row in enumerate(self._each_row(numbers)):
            out[i] = row[columns]
        return out

    def _picked(self, key: Any) -> Any:
        """Elements by lists of numbers or masks: row by row, whatever the order they are asked for in."""
        rows, columns = _places(key, self.shape)
        out = np.empty(rows.shape, self.dtype)
        flat, flat_rows, flat_columns = out.reshape(-1), rows.reshape(-1), columns.reshape(-1)
        places = list(_by_row(flat_rows))
        for (_, where), numbers in zip(places, self._each_row(row for row, _ in places), strict=True):
            flat[where] = numbers[flat_columns[where]]
        return out[()]


class StoredMatrix(LazyMatrix):
    """A layer's weights that lie on the host or on disk: reading brings what is asked for into memory.

    Assignment writes: `W[...] = values` all of it (on disk as one step: a crash leaves the old weights or the new), and
    `W[rows, columns] = values` in place. `values` of the whole matrix may be another `StoredMatrix`. A product that a
    GPU has been asked for is computed with the weights of its time, though it may not have begun: writing waits for it.
    """

    def __init__(self, rows: Rows) -> None:
        self.stored = rows
        self.shape, self.dtype = rows.shape, rows.dtype

    def __repr__(self) -> str:
        n_rows, n_columns = self.shape
        return f"<{n_rows}×{n_columns} {self.dtype} weights, {human(self.nbytes)}, on {self.stored.place}>"

    def blocks(self) -> Iterator[tuple[slice, HostArray]]:
        buffer: HostArray | None = None
        for rows in blocks_of_rows(self.shape, self.dtype):
            if buffer is None:
                buffer = np.empty((rows.stop - rows.start, self.shape[1]), self.dtype)
            block = buffer[: rows.stop - rows.start]
            self.stored.read(rows.start, block)
            yield rows, block

    def _rows(self, start: int, stop: int) -> HostArray:
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        self.stored.read(start, out)
        return out

    def __setitem__(self, key: Any, values: Any) -> None:
        basic = _basic(key, self.shape)
        if basic == (slice(None), slice(None)):
            self._replace(values)
            return
        rows, columns = _places(key, self.shape)
        flat_rows, flat_columns = rows.reshape(-1), columns.reshape(-1)
        flat = np.broadcast_to(as_array(values, repr(self)), rows.shape).reshape(-1)
        for row, where in _by_row(flat_rows):
            numbers = self._rows(row, row + 1)
            numbers[0, flat_columns[where]] = flat[where]
            self.stored.write(row, numbers)

    def _replace(self, values: Any) -> None:
        source = values if isinstance(values, BlockMatrix) else as_array(values, repr(self))
        if isinstance(source, BlockMatrix) and source.shape != self.shape:
            raise ValueError(f"{self!r} cannot take the numbers of a matrix of shape {source.shape}.")
        given = source.blocks() if isinstance(source, BlockMatrix) else self._cut(source)
        self.stored.replace((rows.start, np.ascontiguousarray(block, self.dtype)) for rows, block in given)

    def _cut(self, values: HostArray) -> Iterator[tuple[slice, HostArray]]:
        whole = np.broadcast_to(values, self.shape)
        for rows in blocks_of_rows(self.shape, self.dtype):
            yield rows, whole[rows]

    def copy(self, order: Any = "C") -> StoredMatrix:
        """Another matrix of the same numbers, which lies where this one lies and goes when nobody holds it."""
        return StoredMatrix(self.stored.copy())


def assign_array(ops: Ops, out: Array | StoredMatrix, values: Any) -> None:
    """out[...] = values, wherever either lies. A ValueError where some are masked."""
    refuse_masked(values, "What replaces the weights")
    if isinstance(out, StoredMatrix):
        out[...] = values if isinstance(values, BlockMatrix) else ops.to_numpy(values)
    else:
        ops.assign(out, np.asarray(values) if isinstance(values, BlockMatrix) else values)


def copy_array(ops: Ops, array: Array | StoredMatrix) -> Any:
    """A copy that lies where `array` lies."""
    return array.copy() if isinstance(array, StoredMatrix) else ops.copy(array)


def is_finite(ops: Ops, array: Array | LazyMatrix) -> bool:
    """Whether all numbers are."""
    if isinstance(array, LazyMatrix):
        return all(bool(np.isfinite(block).all()) for _, block in array.blocks())
    return bool(np.isfinite(ops.to_numpy(array)).all())


def _basic(key: Any, shape: tuple[int, int]) -> tuple[int | slice, int | slice] | None:
    """An index of integers, slices and ... as one for rows and one for columns; None for any other."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (3 - len(keys))
    keys += [slice(None)] * (2 - len(keys))
    plain = all(isinstance(k, slice | int | np.integer) and not isinstance(k, bool) for k in keys)
    if len(keys) != 2 or not plain:
        return None
    found: list[int | slice] = []
    for k, n in zip(keys, shape, strict=True):
        if isinstance(k, slice):
            found.append(slice(None) if range(n)[k] == range(n) else k)
        else:
            found.append(range(n)[int(k)])
    return found[0], found[1]


def _places(key: Any, shape: tuple[int, int]) -> tuple[HostArray, HostArray]:
    """The row and the column of each element that NumPy's `array[key]` would give, as arrays of the result's shape."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return np.broadcast_to(rows, shape)[key], np.broadcast_to(columns, shape)[key]


def _by_row(rows: HostArray) -> Iterator[tuple[int, HostArray]]:
    """(row, the places in `rows` that name it), in the rows' order."""
    if not rows.size:
        return
    order = np.argsort(rows, kind="stable")
    found, starts = np.unique(rows[order], return_index=True)
    for row, where in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        yield int(row), where
