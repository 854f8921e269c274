"""IDX files: the format of MNIST and its relatives, plain or gzip.

An IDX file is a four-byte magic number (0, 0, type code, number of dimensions), one big-endian unsigned 32-bit
size per dimension, and the elements in C order, big-endian
(http://yann.lecun.com/exdb/mnist, section "the IDX file format").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import IO

import numpy as np

from .._arrays import refuse_masked
from .._types import DType, HostArray
from ..files import atomic_replacement
from ._files import DataFileError, StrPath, existing_file, expands, length, naming, read_up_to

IDX_TYPES: dict[int, DType] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
"""Element types by the third byte of the magic number."""

_CODES = {dtype.newbyteorder("="): code for code, dtype in IDX_TYPES.items()}
_MAX_DIMENSIONS = 64  # NumPy's limit; the format's own is 255
_MAX_BYTES = 2**63 - 1
_GZIP_MAGIC = b"\x1f\x8b"
_EXPECTED = "an IDX file (plain or gzip)"


def read_idx(path: StrPath) -> HostArray:
    """The array in an IDX file, in the machine's byte order. Gzip is recognised by content, not by name.

    Memory grows with what the file holds, never with what its header claims.

    Args:
        path: the file.

    Returns:
        An array of the header's shape; uint8, int8, int16, int32, float32 or float64.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: the file is empty, not IDX, truncated, longer than its header says, or bad gzip.
    """
    path = existing_file(path, _EXPECTED)
    with naming(path), open(path, "rb") as file:
        if file.peek(2)[:2] != _GZIP_MAGIC:
            return _elements(file, path, *_header(file, path))
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                shape, dtype = _header(stream, path)
                n_bytes = math.prod(shape) * dtype.itemsize
                if expands(n_bytes, path):
                    _check_length(path, shape, dtype, length(stream, n_bytes))
                    stream.seek(0)
                    _header(stream, path)
                return _elements(stream, path, shape, dtype)
        except EOFError as error:
            raise DataFileError(path, "truncated: the gzip stream ends before its end marker.") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataFileError(path, f"bad gzip data ({error}). Was the file damaged on its way?") from error


def write_idx(path: StrPath, array: HostArray) -> None:
    """Write an array as an IDX file, gzip if the name ends in .gz.

    The file is written beside its target and renamed. A gzip header carries no time and no name: the same array
    gives the same bytes.

    Args:
        path: the file to write; an existing one is replaced.
        array: 1 to 64 dimensions; uint8, int8, int16, int32, float32 or float64.

    Raises:
        TypeError: IDX has no type for the array's dtype.
        ValueError: the array has no dimension, or one of 2³² or more.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.gz"
    >>> write_idx(path, np.array([5, 0, 4], dtype=np.uint8))
    >>> read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    refuse_masked(array, "write_idx: the array")
    array = np.asarray(array)
    header = idx_header(array)
    elements = np.ascontiguousarray(array, dtype=IDX_TYPES[header[2]]).reshape(-1).view(np.uint8).data
    with atomic_replacement(path) as part, open(part, "wb") as file:
        if str(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as stream:
                stream.write(header)
                stream.write(elements)
        else:
            file.write(header)
            file.write(elements)


def idx_header(array: HostArray) -> bytes:
    """The magic number and the sizes that stand before an array's elements."""
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _CODES:
        known = ", ".join(str(known) for known in _CODES)
        raise TypeError(f"IDX has no type for {array.dtype}; it has {known}. Convert with array.astype(...).")
    if not 1 <= array.ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"An IDX file holds 1 to {_MAX_DIMENSIONS} dimensions, got {array.ndim}.")
    if max(array.shape) >= 2**32:
        raise ValueError(f"An IDX dimension is less than 2³², got shape {array.shape}.")
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, _CODES[dtype], array.ndim, *array.shape)


def _header(stream: IO[bytes] | gzip.GzipFile, path: StrPath) -> tuple[tuple[int, ...], DType]:
    """The shape and the type that stand at the beginning; the stream is then at the first element."""
    magic = bytes(read_up_to(stream, 4))
    if len(magic) < 4:
        raise DataFileError(path, f"truncated: {len(magic)} bytes, but the IDX magic number takes 4.")
    zero, code, n_dimensions = magic[:2], magic[2], magic[3]
    if zero != b"\0\0" or code not in IDX_TYPES or not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        codes = ", ".join(f"0x{code:02x} {dtype.newbyteorder('=')}" for code, dtype in IDX_TYPES.items())
        raise DataFileError(
            path,
            f"wrong magic number 0x{magic.hex()}: not {_EXPECTED}, which starts with two zero bytes, a type "
            f"({codes}) and a number of dimensions of 1 to {_MAX_DIMENSIONS}.",
        )
    sizes = bytes(read_up_to(stream, 4 * n_dimensions))
    if len(sizes) < 4 * n_dimensions:
        raise DataFileError(
            path, f"truncated: its {n_dimensions} dimension sizes take {4 * n_dimensions} bytes, got {len(sizes)}."
        )
    shape = struct.unpack(f">{n_dimensions}I", sizes)
    dtype = IDX_TYPES[code]
    if math.prod(size for size in shape if size) * dtype.itemsize > _MAX_BYTES:
        raise DataFileError(
            path, f"wrong counts: the header promises {_promise(shape, dtype)}, which no memory can hold."
        )
    return shape, dtype


def _elements(stream: IO[bytes] | gzip.GzipFile, path: StrPath, shape: tuple[int, ...], dtype: DType) -> HostArray:
    n_bytes = math.prod(shape) * dtype.itemsize
    content = read_up_to(stream, n_bytes)
    # On gzip, reading past the last element also checks the stream's CRC.
    _check_length(path, shape, dtype, len(content) + len(stream.read(1)))
    return np.frombuffer(content, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _check_length(path: StrPath, shape: tuple[int, ...], dtype: DType, there: int) -> None:
    n_bytes = math.prod(shape) * dtype.itemsize
    promised = f"the header promises {_promise(shape, dtype)} = {n_bytes} bytes, the file holds"
    if there < n_bytes:
        raise DataFileError(path, f"truncated: {promised} {there}.")
    if there > n_bytes:
        raise DataFileError(path, f"trailing bytes: {promised} more.")


def _promise(shape: tuple[int, ...], dtype: DType) -> str:
    return f"{' × '.join(map(str, shape))} elements of {dtype.newbyteorder('=')}"
