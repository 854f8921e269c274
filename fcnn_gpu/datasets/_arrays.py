"""NumPy's .npy and .npz files, read without pickle and without trust in what their headers claim."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from typing import IO

import numpy as np

from .._types import DType, HostArray
from ._files import DataFileError, StrPath, existing_file, read_up_to

_NPY_MAGIC = b"\x93NUMPY"
_MAX_BYTES = 2**63 - 1
ZIP_FAULTS = (  # what zipfile raises on damaged archives; ValueError is a name that cannot be decoded
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def read_npy(path: StrPath) -> HostArray:
    """The array in a .npy file.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: it is no .npy file, is truncated or too long, or holds Python objects, which are never loaded.
    """
    path = existing_file(path, "a .npy file")
    with open(path, "rb") as file:
        return _read_array(file, path, "")


def read_npz(path: StrPath) -> dict[str, HostArray]:
    """The arrays in a .npz file by name.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: it is no zip archive, is truncated or damaged, or holds something other than arrays.
    """
    path = existing_file(path, "a .npz file")
    arrays: dict[str, HostArray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.header_offset < 0 for info in archive.infolist()):
                raise zipfile.BadZipFile("a member begins before the file does")
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise DataFileError(path, f"holds {member!r}, which is no .npy array: not a .npz file.")
                with archive.open(member) as stream:
                    arrays[member.removesuffix(".npy")] = _read_array(stream, path, f"{member}: ")
    except DataFileError:
        raise
    except ZIP_FAULTS as error:
        raise DataFileError(path, f"not a whole .npz file ({error}). Was it cut off or damaged?") from error
    return arrays


def read_npy_header(stream: IO[bytes], path: StrPath, member: str) -> tuple[tuple[int, ...], bool, DType]:
    """(shape, whether in Fortran order, dtype) of the array that begins here; the stream is then at its first byte.

    DataFileError, with `member` before the fault, for anything but an array of real numbers or text.
    """
    magic = bytes(read_up_to(stream, 8))
    if magic[:6] != _NPY_MAGIC or len(magic) < 8:
        raise DataFileError(path, f"{member}not a .npy array: it starts with {magic!r} instead of {_NPY_MAGIC!r}.")
    version = (magic[6], magic[7])
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataFileError(path, f"{member}.npy version {version[0]}.{version[1]} is not known; 1.0 and 2.0 are.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a header that NumPy can only read by mending it is damaged too
            shape, fortran_order, dtype = readers[version](stream)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, Warning) as error:
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
    if min(shape, default=0) < 0 or math.prod(size for size in shape if size) * dtype.itemsize > _MAX_BYTES:
        raise DataFileError(path, f"{member}the header promises {promise}, which no memory can hold.")
    return shape, fortran_order, dtype


def _read_array(stream: IO[bytes], path: StrPath, member: str) -> HostArray:
    shape, fortran_order, dtype = read_npy_header(stream, path, member)
    promise = f"shape {shape} of {dtype}"
    n_bytes = math.prod(shape) * dtype.itemsize
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
    return array.astype(dtype.newbyteorder("="), copy=False)
