"""Data sets in .npz shards: read in runs of rows, or from its beginning where a shard was compressed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from .._types import DType, HostArray
from ._arrays import ZIP_FAULTS, read_npy_header
from ._files import DataFileError
from ._rows import BLOCK_BYTES, FileRows, Paths, RowSource, Unchanged, matching
from ._source import BlockSource, Piece, join

_LOCAL_HEADER = 30
"""Bytes of a member's own header in a zip archive before its name."""


def open_npz(
    paths: Paths,
    X: str = "X",
    y: str | None = "y",
    sample_weight: str | None = None,
    *,
    block_size: int | None = None,
) -> BlockSource:
    """A data set in .npz files, each with some of the samples, as `np.savez` or `np.savez_compressed` write them.

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
    with _archive(path) as archive:
        members = [None if key is None else _member(archive, path, key) for key in keys]
        stored = all(member is None or member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored:
            return CompressedShard(path, archive, members)
    X, targets, weights = (None if member is None else _stored_rows(path, member) for member in members)
    assert X is not None
    return RowSource(X, targets, weights, block_size)


class CompressedShard(BlockSource):
    """One compressed .npz file as one block, which is decompressed piece by piece."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo | None]) -> None:
        self._path, self._unchanged = path, Unchanged(path)
        self._members = members
        self._headers: list[tuple[tuple[int, ...], DType] | None] = []
        for member in members:
            if member is None:
                self._headers.append(None)
                continue
            with archive.open(member) as stream:
                self._headers.append(_header(stream, path, member.filename))
        assert self._headers[0] is not None
        shape, dtype = self._headers[0]
        n_features = math.prod(shape[1:])
        if len(shape) < 2 or n_features == 0 or shape[0] == 0:
            raise DataFileError(path, f"X has shape {shape}; expected (n_samples, n_features), none of them 0.")
        for member, header in zip(members[1:], self._headers[1:], strict=True):
            if header is not None and member is not None and header[0][:1] != shape[:1]:
                raise DataFileError(path, f"{member.filename} has shape {header[0]}, X has {shape[0]:,} samples.")
        self._piece = max(1, BLOCK_BYTES // (n_features * dtype.itemsize))
        super().__init__(
            n_features,
            dtype.newbyteorder("="),
            [shape[0]],
            has_targets=members[1] is not None,
            has_weights=members[2] is not None,
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
        with ExitStack() as ends, _archive(self._path) as archive:
            streams: list[IO[bytes] | None] = []
            for want, member, header in zip(wanted, self._members, self._headers, strict=True):
                stream = None if not want or member is None else ends.enter_context(archive.open(member))
                if stream is not None and member is not None and _header(stream, self._path, member.filename) != header:
                    raise DataFileError(self._path, f"{member.filename} has changed since the file was opened.")
                streams.append(stream)
            for first in range(0, len(self), self._piece):
                n = min(self._piece, len(self) - first)
                yield [
                    None if stream is None or header is None else self._rows(stream, n, *header)
                    for stream, header in zip(streams, self._headers, strict=True)
                ]
            for stream in streams:
                if stream is not None and stream.read(1):  # at its end zipfile compares the checksum
                    raise DataFileError(self._path, "an array has trailing bytes.")

    def _rows(self, stream: IO[bytes], n: int, shape: tuple[int, ...], dtype: DType) -> HostArray:
        n_bytes = n * math.prod(shape[1:]) * dtype.itemsize
        content = stream.read(n_bytes)
        if len(content) < n_bytes:
            raise DataFileError(self._path, f"truncated: an array of shape {shape} ends before its header says.")
        rows = np.frombuffer(content, dtype).reshape(n, *shape[1:])
        return rows.astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, whose faults name the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataFileError:
        raise
    except ZIP_FAULTS as error:
        raise DataFileError(path, f"not a whole .npz file ({error}). Was it cut off or damaged?") from error


def _member(archive: zipfile.ZipFile, path: Path, key: str) -> zipfile.ZipInfo:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    found = [name for name in names if name == key] or [name for name in names if name.lower() == key.lower()]
    if len(found) != 1:
        fault = "has no array" if not found else "has more than one array"
        raise DataFileError(path, f"{fault} {key!r}; its arrays: {', '.join(names) or '(none)'}.")
    return archive.getinfo(f"{found[0]}.npy")


def _header(stream: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], DType]:
    shape, fortran_order, dtype = read_npy_header(stream, path, f"{name}: ")
    if not shape:
        raise DataFileError(path, f"{name} holds a single number; expected an array with a row per sample.")
    if fortran_order and len(shape) > 1:
        raise DataFileError(
            path,
            f"{name} is in Fortran order: a sample's numbers lie far apart. Save np.ascontiguousarray(X).",
        )
    return shape, dtype


def _stored_rows(path: Path, member: zipfile.ZipInfo) -> FileRows:
    """The rows of a member that lies in the archive as it is."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER)
        if local[:4] != b"PK\x03\x04":
            raise DataFileError(path, f"not a whole .npz file: {member.filename} is not where the archive says.")
        lengths = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
        begin = member.header_offset + _LOCAL_HEADER + sum(lengths)
        file.seek(begin)
        shape, dtype = _header(file, path, member.filename)
        position = file.tell()
    n_bytes = math.prod(shape) * dtype.itemsize
    if position - begin + n_bytes != member.file_size:
        raise DataFileError(
            path,
            f"{member.filename}: shape {shape} of {dtype} is {n_bytes:,} bytes, the archive holds "
            f"{member.file_size - (position - begin):,}.",
        )
    return FileRows(path, dtype, shape, position)
