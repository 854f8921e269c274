"""Rows that can be read from anywhere: .npy files, files of bare numbers, arrays and memory maps."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from .._arrays import as_array, column_names
from .._checks import check_integer
from .._types import DType, HostArray
from ..files import NumberFile, StorageError, place_in_file
from ._arrays import check_elements, read_npy_header
from ._files import DataFileError, StrPath, existing_file, naming
from ._source import Beside, BlockSource, Piece, join

BLOCK_BYTES = 2**20
"""Features of a block where the format leaves its size open: a longer one reads no faster from a disk without heads."""

Paths: TypeAlias = StrPath | Sequence[StrPath]


class Rows(Protocol):
    """An array of at least one dimension, of which runs of rows are read."""

    shape: tuple[int, ...]
    dtype: DType

    def read(self, start: int, stop: int) -> HostArray:
        """Rows `start` up to `stop`: read-only, or memory of its own."""

    def place(self, row: int) -> str:
        """Where a row is, for errors."""


class Unchanged:
    """A file as it was when it was opened: an epoch must not go on over another one's contents."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._now(os.stat(path))

    def check(self) -> None:
        """`DataFileError` if the file has been written to since; `StorageError` if it is gone."""
        try:
            now = self._now(os.stat(self.path))
        except OSError as error:
            raise StorageError(
                error.errno, f"{self.path} was there when it was opened as a data set and is gone: {error.strerror}."
            ) from error
        if now != self._stamp:
            raise DataFileError(
                self.path,
                f"has changed since it was opened as a data set: it had {self._stamp[0]:,} bytes and now has "
                f"{now[0]:,}. Open it again when it is complete.",
            )

    @staticmethod
    def _now(status: os.stat_result) -> tuple[int, int]:
        return status.st_size, status.st_mtime_ns


class FileRows:
    """Rows of C order in a file, from a byte position on."""

    def __init__(self, path: Path, dtype: DType, shape: tuple[int, ...], position: int, member: str = "") -> None:
        self.path, self.dtype, self.shape, self._position, self._member = path, dtype, shape, position, member
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._unchanged = Unchanged(path)

    def read(self, start: int, stop: int) -> HostArray:
        self._unchanged.check()
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
        with NumberFile(self.path) as file:
            file.read(self._position + start * self._row_bytes, rows)
        if not self.dtype.isnative:
            rows = rows.astype(self.dtype.newbyteorder("="))
        check_elements(rows, self.path, self._member, start)
        return rows

    def place(self, row: int) -> str:
        return f"{self.path}, row {row}"


class ArrayRows:
    """Rows of an array that is in memory, or of a map in an order that only NumPy reads."""

    def __init__(self, array: HostArray) -> None:
        self.dtype, self.shape, self._array = array.dtype, array.shape, array

    def read(self, start: int, stop: int) -> HostArray:
        return self._array[start:stop]

    def place(self, row: int) -> str:
        return f"row {row}"


def rows_of(x: Any, what: str) -> Rows:
    """What a user calls an array: the path of a .npy file, or an array, mapped or not."""
    if isinstance(x, str | os.PathLike):
        return npy_rows(x)
    array = as_array(x, what)
    if array.ndim == 0:
        raise ValueError(f"{what} expects the path of a .npy file or an array with a row per sample, got {x!r}.")
    found = place_in_file(array)
    if found is not None and array.flags.c_contiguous:
        return FileRows(found[0], array.dtype, array.shape, found[1])
    return ArrayRows(array)


def npy_rows(path: StrPath) -> Rows:
    """The array in a .npy file; its size is checked now, its numbers when they are read."""
    path = existing_file(path, "a .npy file")
    with naming(path), open(path, "rb") as file:
        shape, fortran_order, dtype = read_npy_header(file, path, "")
        position = file.tell()
    if not shape:
        raise DataFileError(path, "holds a single number; expected an array with a row per sample.")
    if fortran_order and len(shape) > 1:
        raise DataFileError(
            path,
            "is in Fortran order, in which a sample's numbers lie far apart. Save it with np.save(path, "
            "np.ascontiguousarray(X)).",
        )
    _check_size(path, dtype, shape, position, exact=True)
    return FileRows(path, dtype, shape, position)


def _check_size(path: Path, dtype: DType, shape: tuple[int, ...], position: int, exact: bool) -> None:
    n_bytes, there = math.prod(shape) * dtype.itemsize, os.path.getsize(path) - position
    if there < n_bytes or (exact and there > n_bytes):
        fault = "truncated" if there < n_bytes else "trailing bytes"
        raise DataFileError(
            path,
            f"{fault}: shape {shape} of {dtype} is {n_bytes:,} bytes from byte {position} on; the file has {there:,}.",
        )


class RowSource(BlockSource):
    """Blocks of rows that follow each other, all but the last of `block_size` samples (None: 1 MiB of X)."""

    def __init__(self, X: Rows, targets: Rows | None, weights: Rows | None, block_size: int | None = None) -> None:
        n = X.shape[0]
        for rows, what in ((targets, "targets"), (weights, "weights")):
            if rows is not None and rows.shape[0] != n:
                raise ValueError(
                    f"A data set has as many {what} as samples; got {rows.shape[0]:,} ({_file(rows)}) for {n:,} "
                    f"({_file(X)})."
                )
        for rows, what in ((X, "X"), (targets, "y"), (weights, "sample_weight")):
            if isinstance(rows, FileRows):
                check_is_numbers(rows.path, what, rows.dtype)
        n_features = math.prod(X.shape[1:])
        if len(X.shape) < 2 or n == 0 or n_features == 0:
            raise ValueError(
                f"A data set expects X of shape (n_samples, n_features) or (n_samples, height, width), none of them 0; "
                f"got {X.shape} ({_file(X)})."
            )
        if weights is not None and len(weights.shape) != 1:
            raise ValueError(f"Weights have shape (n_samples,); got {weights.shape} ({_file(weights)}).")
        if block_size is None:
            block_size = max(1, BLOCK_BYTES // (n_features * X.dtype.itemsize))
        self.block_size = check_integer("block_size", block_size, low=1)
        super().__init__(
            n_features,
            X.dtype.newbyteorder("="),
            np.diff(np.append(np.arange(0, n, self.block_size), n)),
            has_targets=targets is not None,
            has_weights=weights is not None,
        )
        self._X, self._targets, self._weights = X, targets, weights

    def read(self, block: int) -> Iterator[Piece]:
        start, stop = self._rows(block)
        X = self._X.read(start, stop)
        yield X.reshape(len(X), -1), *self._beside(start, stop)

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        yield self._beside(*self._rows(block))

    def place(self, sample: int) -> str:
        return self._X.place(sample)

    def _rows(self, block: int) -> tuple[int, int]:
        return int(self.starts[block]), int(self.starts[block + 1])

    def _beside(self, start: int, stop: int) -> tuple[HostArray | None, HostArray | None]:
        return (
            None if self._targets is None else self._targets.read(start, stop),
            None if self._weights is None else self._weights.read(start, stop),
        )


def check_is_numbers(path: Path, what: str, dtype: DType) -> None:
    """DataFileError unless an array in a file is of a kind that training takes."""
    if dtype.kind not in "biuf" and dtype.name != "bfloat16":
        hint = " Number the classes from 0." if what == "y" else ""
        raise DataFileError(path, f"{what} holds {dtype} values; expected real numbers.{hint}")


def _file(rows: Rows) -> str:
    return rows.place(0).rpartition(", ")[0] or "an array"


def open_npy(X: Any, y: Any = None, sample_weight: Any = None, *, block_size: int | None = None) -> BlockSource:
    """A data set in .npy files, read in runs of rows.

    Args:
        X: the file with the samples (n_samples, n_features) or (n_samples, height, width), or a list of such files
            whose samples follow each other, or a pattern such as "train-*.npy", in the order of the names.
        y: the files with the targets, one per file of X; or one array (or memory map) for all samples.
        sample_weight: the same, weights of the samples' losses.
        block_size: samples per block. (default: 1 MiB of X)

    Raises:
        FileNotFoundError: a file is not there.
        DataFileError: a file is no .npy file, is truncated, in Fortran order, or holds something other than numbers.
        ValueError: the files do not fit together.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "X.npy", np.zeros((1000, 784), np.uint8)), np.save(folder / "y.npy", np.zeros(1000, int))
    (None, None)
    >>> open_npy(folder / "X.npy", folder / "y.npy")
    RowSource: 1,000 samples of 784 features (uint8) with targets, in 1 block
    """
    paths = matching(X, "a .npy file")
    beside = [_one_each(y, paths, "y"), _one_each(sample_weight, paths, "sample_weight")]
    parts = []
    for i, path in enumerate(paths):
        targets, weights = (None if given is None else npy_rows(given[i]) for given in beside)
        parts.append(RowSource(npy_rows(path), targets, weights, block_size))
    source = join(parts)
    y, sample_weight = (None if files is not None else x for files, x in zip(beside, (y, sample_weight), strict=True))
    return with_arrays(source, y, sample_weight, "open_npy")


def open_raw(
    path: StrPath,
    dtype: Any,
    shape: tuple[int, ...],
    y: Any = None,
    sample_weight: Any = None,
    *,
    offset: int = 0,
    block_size: int | None = None,
) -> BlockSource:
    """A data set in a file of bare numbers in C order, as `ndarray.tofile` and `np.memmap` write them.

    Args:
        path: the file.
        dtype: of its numbers, byte order included (">f4").
        shape: (n_samples, n_features) or (n_samples, height, width).
        y: the path of a .npy file with the targets, or an array or memory map.
        sample_weight: the same, weights of the samples' losses.
        offset: bytes before the first number.
        block_size: samples per block. (default: 1 MiB of X)

    Raises:
        FileNotFoundError: the file is not there.
        DataFileError: it is too short.
    """
    path = existing_file(path, "a file of numbers")
    numbers = np.dtype(dtype)
    position = check_integer("open_raw(offset)", offset, low=0)
    if not isinstance(shape, Sequence):
        raise TypeError(f"open_raw(shape) expects a tuple such as (n_samples, n_features), got {shape!r}.")
    shape = tuple(check_integer("open_raw(shape)", n, low=1) for n in shape)
    _check_size(path, numbers, shape, position, exact=False)
    return open_arrays(FileRows(path, numbers, shape, position), y, sample_weight, block_size=block_size)


def open_arrays(X: Any, y: Any = None, sample_weight: Any = None, *, block_size: int | None = None) -> BlockSource:
    """A data set of arrays or memory maps, visited block by block instead of in a random order of all samples.

    Args:
        X: (n_samples, n_features) or more dimensions: an array, a table, whose columns keep their names, or an
            `np.memmap`, whose file is then read in runs of rows. Also the path of a .npy file.
        y: the targets, likewise.
        sample_weight: weights of the samples' losses, likewise.
        block_size: samples per block. (default: 1 MiB of X)
    """
    rows = X if isinstance(X, FileRows) else rows_of(X, "X")
    targets = None if y is None else rows_of(y, "y")
    weights = None if sample_weight is None else rows_of(sample_weight, "sample_weight")
    source = RowSource(rows, targets, weights, block_size)
    source.feature_names = column_names(X, "open_arrays")
    source.target_names = column_names(y, "open_arrays", "y")
    return source


def matching(paths: Any, what: str) -> list[Path]:
    """The files that a path, a pattern or a list of them names, at least one."""
    if isinstance(paths, str | os.PathLike):
        text = os.fspath(paths)
        if isinstance(text, str) and glob.has_magic(text) and not os.path.exists(text):
            found = sorted(glob.glob(text))
            if not found:
                raise FileNotFoundError(f"No file matches {text!r} (expected {what}).")
            return [existing_file(path, what) for path in found]
        return [existing_file(paths, what)]
    if not isinstance(paths, Sequence) or not paths:
        raise TypeError(f"Expected {what}, a pattern of names or a list of files, got {paths!r}.")
    return [path for entry in paths for path in matching(entry, what)]


def _one_each(given: Any, paths: Sequence[Path], what: str) -> list[Path] | None:
    """The files beside those of X; None where there are none but an array, or nothing."""
    listed = isinstance(given, list | tuple) and given and all(isinstance(x, str | os.PathLike) for x in given)
    if not isinstance(given, str | os.PathLike) and not listed:
        return None
    found = matching(given, f"a .npy file with {what}")
    if len(found) != len(paths):
        raise ValueError(f"{what} expects a file for each of the {len(paths)} files of X, got {len(found)}.")
    return found


def with_arrays(source: BlockSource, y: Any, sample_weight: Any, who: str) -> BlockSource:
    """The source with targets and weights from arrays; ValueError where their lengths differ or it has its own."""
    arrays: list[Any] = []
    for given, there, what in ((y, source.has_targets, "y"), (sample_weight, source.has_weights, "sample_weight")):
        if given is None:
            arrays.append(None)
            continue
        if there:
            raise ValueError(f"{who} got {what}, but the data set {source!r} has its own. Leave one out.")
        array = as_array(given, f"{who}: {what}")
        if array.ndim == 0 or len(array) != len(source):
            n = "a single value" if array.ndim == 0 else f"{len(array):,} rows"
            raise ValueError(f"{who} expects {what} with a row for each of the {len(source):,} samples, got {n}.")
        arrays.append(array)
    if y is None and sample_weight is None:
        return source
    beside = Beside(source, *arrays)
    if y is not None:
        beside.target_names = column_names(y, who, "y")
    return beside
