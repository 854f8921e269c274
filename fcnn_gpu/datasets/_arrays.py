"""NumPy's .npy and .npz files, read without pickle and without trust in what their headers claim."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from .._types import DType, HostArray
from ._archive import open_archive
from ._files import DataFileError, StrPath, existing_file, expands, length, naming, read_up_to

_NPY_MAGIC = b"\x93NUMPY"
_MAX_BYTES = 2**63 - 1
_MAX_DIMENSIONS = 64  # NumPy's
_LONGEST_HEADER = 10_000  # NumPy's own limit, below which Python's parser is safe
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: StrPath) -> HostArray:
    """The array in a .npy file.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: it is no .npy file, is truncated or too long, or holds Python objects, which are never loaded.
    """
    path = existing_file(path, "a .npy file")
    with naming(path), open(path, "rb") as file:
        return _read_array(file, path, "")


class NpzArrays(Mapping[str, HostArray]):
    """The arrays of a .npz file by name, each unpacked when it is asked for, and checked by its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: it is no zip archive, or holds something other than arrays. When an array is asked for: it is
            truncated, damaged or not of the size that its header says.
    """

    def __init__(self, path: StrPath) -> None:
        self._path = existing_file(path, "a .npz file")
        with open_archive(self._path) as members:
            self._names = tuple(members)

    def __getitem__(self, name: str) -> HostArray:
        if name not in self._names:
            raise KeyError(name)
        with open_archive(self._path) as members:
            member = members[name]
            if expands(member.n_bytes, self._path):
                with member.open() as stream:
                    length(stream, member.n_bytes)  # compares the checksum before memory is taken
            with member.open() as stream:
                return _read_array(stream, self._path, f"{name}.npy: ", member.n_bytes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """What an array's header says, without the array."""
        with open_archive(self._path) as members, members[name].open() as stream:
            return read_npy_header(stream, self._path, f"{name}.npy: ")[0]


def read_npz(path: StrPath) -> NpzArrays:
    """The arrays in a .npz file by name."""
    return NpzArrays(path)


def read_npy_header(stream: IO[bytes], path: StrPath, member: str) -> tuple[tuple[int, ...], bool, DType]:
    """(shape, whether in Fortran order, dtype) of the array that begins here; the stream is then at its first byte.

    DataFileError, with `member` before the fault, for anything but an array of real numbers or text.
    """
    magic = bytes(read_up_to(stream, 8))
    if magic[:6] != _NPY_MAGIC or len(magic) < 8:
        raise DataFileError(path, f"{member}not a .npy array: it starts with {magic!r} instead of {_NPY_MAGIC!r}.")
    version = (magic[6], magic[7])
    if version not in _READERS:
        raise DataFileError(path, f"{member}.npy version {version[0]}.{version[1]} is not known; 1.0 and 2.0 are.")
    stated = bytes(read_up_to(stream, _LENGTH_BYTES[version]))
    n = int.from_bytes(stated, "little")
    if n > _LONGEST_HEADER:  # NumPy would read all of it before it looks
        raise DataFileError(path, f"{member}damaged .npy header: it says that it is {n:,} bytes long.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a header that NumPy can only read by mending it is damaged too
            shape, fortran_order, dtype = _READERS[version](io.BytesIO(stated + read_up_to(stream, n)))
    except Exception as error:  # NumPy evaluates the text as Python, whose parser raises whatever it likes
        raise DataFileError(path, f"{member}damaged or truncated .npy header ({error}).") from error
    if dtype.hasobject:
        raise DataFileError(
            path,
            f"{member}holds Python objects (dtype {dtype}), which only unsafe pickle can load. Save numbers or "
            "strings: array.astype(np.float32), or array.astype(str) for labels.",
        )
    if dtype.kind not in "biufUS" or dtype.itemsize == 0:
        raise DataFileError(path, f"{member}holds {dtype} elements; expected real numbers, or text for labels.")
    promise = f"shape {shape} of {dtype}"
    if len(shape) > _MAX_DIMENSIONS:
        raise DataFileError(path, f"{member}has {len(shape)} dimensions; expected at most {_MAX_DIMENSIONS}.")
    if min(shape, default=0) < 0 or math.prod(size for size in shape if size) * dtype.itemsize > _MAX_BYTES:
        raise DataFileError(path, f"{member}the header promises {promise}, which no memory can hold.")
    return shape, fortran_order, dtype


def check_size(path: Path, name: str, shape: tuple[int, ...], dtype: DType, there: int) -> None:
    """DataFileError unless an archive says that an array has as many bytes as its header says."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != there:
        fault = "truncated" if there < n_bytes else "trailing bytes"
        raise DataFileError(
            path, f"{name}: {fault}: shape {shape} of {dtype} is {n_bytes:,} bytes, the archive holds {there:,}."
        )


def check_elements(array: HostArray, path: StrPath, member: str, first_row: int = 0) -> None:
    """DataFileError for elements that no program writes: booleans beyond 1, and text of what are no characters."""
    if array.dtype.kind == "b":
        bad = np.asarray(array.view(np.uint8) > 1)
    elif array.dtype.kind == "U":
        codes = np.ascontiguousarray(array).view(np.uint32).reshape(*array.shape, -1)
        bad = np.asarray(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any(axis=-1))
    else:
        return
    if bad.any():
        row = first_row + (int(np.argmax(bad)) // bad[:1].size if bad.ndim else 0)
        what = "a byte that is neither True nor False" if array.dtype.kind == "b" else "text of what are no characters"
        raise DataFileError(path, f"{member}row {row} holds {what}: the file is damaged.")


def _read_array(stream: IO[bytes], path: Path, member: str, there: int | None = None) -> HostArray:
    """The array that begins here and ends with the stream, which has `there` bytes if an archive says so."""
    shape, fortran_order, dtype = read_npy_header(stream, path, member)
    promise = f"shape {shape} of {dtype}"
    n_bytes = math.prod(shape) * dtype.itemsize
    if there is not None:
        check_size(path, member.removesuffix(": "), shape, dtype, there - stream.tell())
    content = read_up_to(stream, n_bytes)
    if len(content) < n_bytes:
        raise DataFileError(
            path,
            f"{member}truncated: the header promises {promise} = {n_bytes} bytes, the file holds {len(content)}.",
        )
    if stream.read(1):
        raise DataFileError(path, f"{member}trailing bytes after {promise} = {n_bytes} bytes.")
    array: HostArray = np.frombuffer(content, dtype=dtype, count=math.prod(shape))
    array = array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    check_elements(array, path, member)
    return array
