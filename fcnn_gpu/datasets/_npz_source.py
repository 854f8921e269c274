"""Data sets in .npz shards: read in runs of rows, or from its beginning where a shard was compressed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from .._types import DType, HostArray
from ._archive import Member, open_archive
from ._arrays import check_elements, check_size, read_npy_header
from ._files import DataFileError, length
from ._rows import BLOCK_BYTES, FileRows, Paths, RowSource, Unchanged, check_is_numbers, matching
from ._source import BlockSource, Piece, join


def open_npz(
    paths: Paths,
    X: str = "X",
    y: str | None = "y",
    sample_weight: str | None = None,
    *,
    block_size: int | None = None,
) -> BlockSource:
    """A data set in .npz files, each with some of the samples, as `np.savez` or `np.savez_compressed` write them.

    Opening reads the arrays of `np.savez` once to compare their checksums; those of `np.savez_compressed` are compared
    at the end of each pass over them.

    Args:
        paths: a file, a list of files, or a pattern such as "train-*.npz", in the order of the names.
        X: the name of the samples' array, (n, n_features) or (n, height, width), in upper or lower case.
        y: that of the targets' array; None: there is none.
        sample_weight: that of the weights' array; None: there is none.
        block_size: samples per block. (default: 1 MiB of X) A compressed file is one block, whatever this is.

    Raises:
        FileNotFoundError: a file is not there.
        DataFileError: a file is no .npz file, is damaged, lacks an array, or holds something other than numbers.
        ValueError: the files do not fit together.
    """
    return join([_shard(path, (X, y, sample_weight), block_size) for path in matching(paths, "a .npz file")])


def _shard(path: Path, keys: tuple[str, str | None, str | None], block_size: int | None) -> BlockSource:
    unchanged = Unchanged(path)
    with open_archive(path) as members:
        names = [None if key is None else _name(list(members), path, key) for key in keys]
        used = [None if name is None else members[name] for name in names]
        arrays = [None if name is None else _Array(path, name, members[name]) for name in names]
        stored = all(member is None or member.stored for member in used)
        if stored:
            for member, array in zip(used, arrays, strict=True):
                if member is not None and array is not None:
                    array.find(member)
    unchanged.check()
    if not stored:
        return CompressedShard(path, arrays)
    X, targets, weights = (None if array is None else array.rows() for array in arrays)
    assert X is not None
    return RowSource(X, targets, weights, block_size)


class _Array:
    """What the header of an array in an archive says, checked against the archive's own."""

    def __init__(self, path: Path, name: str, member: Member) -> None:
        self.path, self.name, self.position = path, name, 0
        with member.open() as stream:
            self.shape, self.dtype = self.header(stream)
            check_size(path, f"{name}.npy", self.shape, self.dtype, member.n_bytes - stream.tell())

    def header(self, stream: IO[bytes]) -> tuple[tuple[int, ...], DType]:
        """The shape and dtype that stand at the beginning; the stream is then at the first number."""
        shape, fortran_order, dtype = read_npy_header(stream, self.path, f"{self.name}.npy: ")
        if not shape:
            raise DataFileError(
                self.path, f"{self.name}.npy holds a single number; expected an array with a row per sample."
            )
        if fortran_order and len(shape) > 1:
            raise DataFileError(
                self.path,
                f"{self.name}.npy is in Fortran order: a sample's numbers lie far apart. Save np.ascontiguousarray(X).",
            )
        return shape, dtype

    def find(self, member: Member) -> None:
        """Read a stored member to its end, where its checksum is compared, and keep where its numbers are."""
        with member.open() as stream:
            self.header(stream)
            self.position = member.position() + stream.tell()
            length(stream, member.n_bytes)

    def rows(self) -> FileRows:
        """Its rows where they lie."""
        return FileRows(self.path, self.dtype, self.shape, self.position, f"{self.name}.npy: ")


class CompressedShard(BlockSource):
    """One compressed .npz file as one block, which is decompressed piece by piece."""

    def __init__(self, path: Path, arrays: list[_Array | None]) -> None:
        self._path, self._unchanged = path, Unchanged(path)
        self._arrays = arrays
        X, *beside = arrays
        assert X is not None
        n_features = math.prod(X.shape[1:])
        for array in arrays:
            if array is not None:
                check_is_numbers(path, array.name, array.dtype)
        if len(X.shape) < 2 or n_features == 0 or X.shape[0] == 0:
            raise DataFileError(path, f"X has shape {X.shape}; expected (n_samples, n_features), none of them 0.")
        for array in beside:
            if array is not None and array.shape[:1] != X.shape[:1]:
                raise DataFileError(path, f"{array.name}.npy has shape {array.shape}, X has {X.shape[0]:,} samples.")
        self._piece = max(1, BLOCK_BYTES // (n_features * X.dtype.itemsize))
        super().__init__(
            n_features,
            X.dtype.newbyteorder("="),
            [X.shape[0]],
            has_targets=arrays[1] is not None,
            has_weights=arrays[2] is not None,
            piece_size=self._piece,
        )

    def read(self, block: int) -> Iterator[Piece]:
        for X, targets, weights in self._pieces((True, True, True)):
            assert X is not None
            yield X.reshape(len(X), -1), targets, weights

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        for _, targets, weights in self._pieces((False, True, True)):
            yield targets, weights

    def place(self, sample: int) -> str:
        return f"{self._path}, row {sample}"

    def _pieces(self, wanted: tuple[bool, ...]) -> Iterator[list[HostArray | None]]:
        self._unchanged.check()
        arrays = [array if want else None for want, array in zip(wanted, self._arrays, strict=True)]
        with ExitStack() as ends:
            members = ends.enter_context(open_archive(self._path))
            streams = [None if array is None else ends.enter_context(members[array.name].open()) for array in arrays]
            for array, stream in zip(arrays, streams, strict=True):
                if array is not None and stream is not None and array.header(stream) != (array.shape, array.dtype):
                    raise DataFileError(self._path, f"{array.name}.npy has changed since the file was opened.")
            for first in range(0, len(self), self._piece):
                n = min(self._piece, len(self) - first)
                yield [
                    None if array is None or stream is None else self._rows(array, stream, first, n)
                    for array, stream in zip(arrays, streams, strict=True)
                ]
            for stream in streams:
                if stream is not None and stream.read(1):  # at its end zipfile compares the checksum
                    raise DataFileError(self._path, "an array has trailing bytes.")

    def _rows(self, array: _Array, stream: IO[bytes], first: int, n: int) -> HostArray:
        n_bytes = n * math.prod(array.shape[1:]) * array.dtype.itemsize
        content = stream.read(n_bytes)
        if len(content) < n_bytes:
            raise DataFileError(
                self._path, f"{array.name}.npy: truncated: shape {array.shape} ends before its header says."
            )
        rows = np.frombuffer(content, array.dtype).reshape(n, *array.shape[1:])
        rows = rows.astype(array.dtype.newbyteorder("="), copy=False)
        check_elements(rows, self._path, f"{array.name}.npy: ", first)
        return rows


def _name(names: list[str], path: Path, key: str) -> str:
    found = [name for name in names if name == key] or [name for name in names if name.lower() == key.lower()]
    if len(found) != 1:
        fault = "has no array" if not found else "has more than one array"
        raise DataFileError(path, f"{fault} {key!r}; its arrays: {', '.join(names) or '(none)'}.")
    return found[0]
