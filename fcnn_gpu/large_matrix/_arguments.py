"""The arguments of `chunked_matmul`: what they may be, and how they lie, found out before anything is computed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Array, DType, HostArray
from ..backend import Ops, as_array, library_of, on_cuda, resolve_backend
from ..backend._cublas._plan import plan_gemm
from ..files import NumberFile, StorageError, place_in_file
from ._host_product import can_multiply_in_place
from ._placement import Matrix

WHO = "chunked_matmul"
_OVERLAP_WORK: Any = 10_000
"""Steps that finding out whether two views share an element may take; where they do not suffice, they do share one."""


class ArrayToBe:
    """Stands for an array that will be made, C-ordered."""

    def __init__(self, shape: tuple[int, int], dtype: DType) -> None:
        self.shape, self.dtype = shape, dtype
        self.size = shape[0] * shape[1]
        self.strides = (shape[1] * dtype.itemsize, dtype.itemsize)


def ops_for_arrays(backend: str | Ops | None, *arrays: Any) -> Ops:
    """The given backend's primitives, or those of the device that an array lies on."""
    if backend is None:
        found = next((x for x in arrays if on_cuda(x)), None)
        if found is not None:
            return resolve_backend(f"cupy:{_device_number(found)}")
    ops = resolve_backend(backend)
    if not ops.asynchronous:
        found = next((x for x in arrays if on_cuda(x)), None)
        if found is not None:
            raise TypeError(
                f"{WHO}(backend={backend!r}) computes on the CPU, and a {library_of(found)} lies on a CUDA device. "
                "Leave backend out, or pass a copy on the host."
            )
    return ops


def _device_number(x: Any) -> int:
    if getattr(type(x), "__dlpack_device__", None) is not None:
        return int(x.__dlpack_device__()[1])
    return int(getattr(getattr(x, "device", None), "id", 0))


def operand(ops: Ops, name: str, x: Any) -> Matrix:
    if isinstance(x, str | os.PathLike):
        x = _opened(name, Path(x))
    on_device = ops.adopt(x, f"{WHO}({name})")
    array: Any = on_device
    if on_device is None:
        if not isinstance(x, np.ndarray):
            raise TypeError(
                f"{WHO}({name}) expects a NumPy array, a memory map, an array of a CUDA device or the path of a .npy "
                f"file, got {type(x).__name__}. np.asarray makes an array of a sequence."
            )
        array = as_array(x, f"{WHO}({name})")
    if array.ndim != 2:
        raise ValueError(f"{WHO}({name}) expects a matrix, got shape {array.shape}.")
    if on_device is None:
        return Matrix(name, array, "host", not ops.asynchronous and can_multiply_in_place(array))
    _check_unit_stride(name, array)
    return Matrix(name, array, "device", True)


def _check_unit_stride(name: str, array: Array) -> None:
    if not array.size:
        return
    try:  # as a product that gives one column
        plan_gemm(array, array[:1].T, array[:, :1])
    except ValueError as error:
        raise ValueError(
            f"{WHO}({name}) on a device lies in C or F order or is a slice of rows or columns of such, got shape "
            f"{array.shape} with strides {array.strides} bytes. Copy it into a contiguous array first."
        ) from error


def _opened(name: str, path: Path) -> HostArray:
    """The array in a .npy file, mapped."""
    try:
        return np.load(path, mmap_mode="r")
    except OSError as error:
        raise StorageError(error.errno, f"{WHO}({name}): {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ValueError(f"{WHO}({name}): {path} is no .npy file of numbers: {error}") from error


def bias_column(ops: Ops, bias: Any, m: int, dtype: DType) -> HostArray:
    """A copy as an (m, 1) column, wherever it lies."""
    on_device = ops.adopt(bias, f"{WHO}(bias)")
    values = as_array(bias if on_device is None else ops.to_numpy(on_device), f"{WHO}(bias)")
    if values.shape not in ((m,), (m, 1)):
        raise ValueError(f"{WHO}(bias) expects shape ({m},) or ({m}, 1), one number for each row, got {values.shape}.")
    if values.dtype.kind not in "fiu" and values.dtype.name != "bfloat16":
        raise TypeError(f"{WHO}(bias) expects real numbers, got {values.dtype}.")
    return np.array(values.reshape(m, 1), dtype, order="C")


def result(ops: Ops, x: Any, shape: tuple[int, int], dtype: DType, operands: tuple[Matrix, Matrix]) -> Matrix:
    on_device = ops.adopt(x, f"{WHO}(out)")
    array: Any = on_device
    if on_device is None and isinstance(x, np.ndarray):
        array = as_array(x, f"{WHO}(out)")
    elif on_device is None:
        raise TypeError(
            f"{WHO}(out) expects a NumPy array, a memory map, an array of a CUDA device or the path of a new .npy "
            f"file, got {type(x).__name__}."
        )
    if array.shape != shape:
        raise ValueError(f"{WHO}(out) expects shape {shape}, got {array.shape}.")
    if array.dtype != dtype or not array.dtype.isnative:
        raise TypeError(f"{WHO}(out) expects {dtype}, got {array.dtype}.")
    if on_device is not None:
        contiguous = bool(array.flags.c_contiguous or array.flags.f_contiguous)
        matrix = Matrix("out", array, "device", contiguous)
    else:
        if not array.flags.writeable:
            raise ValueError(f"{WHO}(out) cannot be written to. Map it with mode 'r+', or pass another array.")
        if array.size and 0 in [stride for stride, n in zip(array.strides, array.shape, strict=True) if n > 1]:
            raise ValueError(f"{WHO}(out) has elements that share memory: strides {array.strides}.")
        matrix = Matrix("out", array, "host", not ops.asynchronous and can_multiply_in_place(array))
    for factor in operands:
        if _overlap(factor, matrix):
            raise ValueError(f"{WHO}: out overlaps {factor.describe()}, which is still read while out is written.")
    return matrix


def _overlap(one: Matrix, other: Matrix) -> bool:
    """Whether writing to `other` may change `one`: they have memory, or a part of a file, in common."""
    if not (one.array.size and other.array.size):
        return False
    if (one.layout.place == "device") != (other.layout.place == "device"):
        return False
    # A private map shows what is written to its file as well, wherever it has not been written to itself.
    found = place_in_file(one.array, private=True) if other.path is not None else None
    if found is not None and other.path is not None and not np.may_share_memory(one.array, other.array):
        first, last = (end - one._position + found[1] for end in one._bounds())
        start, stop = other._bounds()
        return _same_file(found[0], other.path) and first < stop and start < last
    if one.layout.place == "device":
        (first, last), (start, stop) = _device_range(one.array), _device_range(other.array)
        return first < stop and start < last
    try:
        return bool(np.shares_memory(one.array, other.array, max_work=_OVERLAP_WORK))
    except np.exceptions.TooHardError:
        return True


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return a == b


def _device_range(x: Any) -> tuple[int, int]:
    """The first byte, and the one after the last, that an array of a device has."""
    start = int(x.__cuda_array_interface__["data"][0])
    ends = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    return start + sum(end for end in ends if end < 0), start + sum(end for end in ends if end > 0) + x.dtype.itemsize


def new_file(path: Path, shape: tuple[int, int], dtype: DType) -> Matrix:
    """A new .npy file as out, with room on the disk for all of it. StorageError where it cannot be made."""
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    first = np.frombuffer(header.getvalue(), np.uint8)
    with NumberFile(path, "x") as file:
        try:
            file.reserve(len(first) + shape[0] * shape[1] * dtype.itemsize)
            file.write(0, first)
            matrix = Matrix("out", np.load(path, mmap_mode="r+"), "host", False)
            matrix.open(to_write=True)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return matrix
