"""The matrices that a folder's record names: whether they are those of its step, and whether their numbers are."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._types import DType, HostArray
from ..files import NumberFile, StorageError, blocks_of_rows
from ._stamp import LONGEST_STAMP, UNKNOWN, Stamp, row_sums, stamp_bytes

_LOOKED_AT = 2**22
"""Bytes of each matrix that are compared with their sums when a folder is opened: all of a small one."""
_HEADER = 1024
"""Bytes in which the header of a .npy file of ours ends."""


@dataclass
class SavedMatrix:
    """A matrix of a folder, in the file that counts.

    Attributes:
        path: the file.
        generation: which of the two it is.
        size: its bytes.
        stamp: the one that it must have; None for a folder of a release that wrote none, whose sums are unknown.
        checked: (n,) which rows have been compared with their sums; None until some have.
    """

    path: Path
    generation: int
    size: int
    stamp: Stamp | None
    checked: HostArray | None = None

    def check(self, whole: bool = False, finite: bool = False) -> None:
        """`StorageError` where the file is missing, another one, cut short or damaged.

        Numbers are compared with their sums where that is cheap: all of a small matrix, rows all over a large one, or
        all rows of any with `whole`. With `finite`, those that are read must be neither NaN nor infinite.
        """
        try:
            found = os.stat(self.path).st_size
        except FileNotFoundError:
            raise StorageError(
                f"{self.path} is missing: something has removed it. Restore the folder from a copy."
            ) from None
        except OSError as error:
            raise StorageError(error.errno, f"{self.path} cannot be looked at: {error.strerror}.") from error
        with NumberFile(self.path) as file:
            self._check_size(file, found)
            if self.stamp is not None:
                self._check_sums(file, whole, finite)
            elif whole:
                raise StorageError(
                    f"{self.path} was written by an older fcnn_gpu, which kept no sums that it could be compared with. "
                    "Open the folder without verify=True; the next training step writes them."
                )

    def _check_size(self, file: NumberFile, found: int) -> None:
        end = np.zeros(min(found, LONGEST_STAMP), np.uint8)
        file.read(found - len(end), end)
        stamp = Stamp.unpack(end.tobytes())
        if self.stamp is None:
            # What the numbers end with is being added in the first step of this release.
            if not self.size <= found <= self.size + LONGEST_STAMP + 8 * self.size:
                raise self._wrong_size(found)
            return
        difference = None if stamp is None else stamp.difference(self.stamp)
        if difference is not None:
            raise StorageError(f"{self.path} {difference}. Restore the folder from a copy.")
        if found != self.size:
            raise self._wrong_size(found)
        if stamp is None:
            raise StorageError(
                f"{self.path} is damaged: it does not end with the stamp of {self.stamp.name}, commit "
                f"{self.stamp.commit}, that was saved with it. Restore the folder from a copy."
            )

    def _wrong_size(self, found: int) -> StorageError:
        return StorageError(
            f"{self.path} has {found:,} bytes and should have {self.size:,}: something has cut it short or written to "
            "it. Restore the folder from a copy."
        )

    def _check_sums(self, file: NumberFile, whole: bool, finite: bool) -> None:
        assert self.stamp is not None
        shape, dtype, start = self._layout(file)
        n_rows, row = shape[0], shape[1] * dtype.itemsize
        sums = np.empty(n_rows, np.uint64)
        file.read(start + n_rows * row, sums)
        self.checked = np.zeros(n_rows, bool)
        if whole or n_rows * row <= _LOOKED_AT:
            parts = list(blocks_of_rows(shape, dtype))
        else:
            n_looked_at = min(n_rows, max(2, _LOOKED_AT // row))
            parts = [slice(int(i), int(i) + 1) for i in np.linspace(0, n_rows - 1, n_looked_at).astype(int)]
        for part in parts:
            values = np.empty((part.stop - part.start, shape[1]), dtype)
            position = start + part.start * row
            file.read(position, values)
            check_sums(self.path, part.start, values, sums, position)
            if finite and not np.isfinite(values).all():
                row = part.start + int(np.argwhere(~np.isfinite(values))[0, 0])
                raise StorageError(f"{self.path} holds NaN or infinity in row {row:,}, as it was saved.")
            self.checked[part] = True

    def _layout(self, file: NumberFile) -> tuple[tuple[int, int], DType, int]:
        """(shape, dtype, where the numbers begin) of the .npy file, which is of the size that these give."""
        head = np.empty(min(_HEADER, self.size), np.uint8)
        file.read(0, head)
        text = io.BytesIO(head.tobytes())
        try:
            np.lib.format.read_magic(text)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(text, max_header_size=_HEADER)
        except Exception as error:  # NumPy evaluates it as Python, and lets whatever that raises through
            raise StorageError(
                f"{self.path} is damaged: it has no .npy header ({error}). Restore the folder."
            ) from error
        assert self.stamp is not None
        sound = len(shape) == 2 and not fortran and dtype in (np.float32, np.float64) and min(shape) > 0
        if sound:
            end = text.tell() + math.prod(shape) * dtype.itemsize + 8 * shape[0] + stamp_bytes(self.stamp.name)
            sound = end == self.size and head.tobytes().startswith(npy_header((shape[0], shape[1]), dtype))
        if not sound:
            raise StorageError(
                f"{self.path} is damaged: its .npy header says {dtype} {shape}, which does not go with its "
                f"{self.size:,} bytes. Restore the folder from a copy."
            )
        return (shape[0], shape[1]), dtype, text.tell()


def check_sums(path: Path, start: int, values: HostArray, sums: HostArray, position: int) -> None:
    """`StorageError` where a row of `values`, read from `position` on, does not have its sum; sums are of all rows."""
    expected = sums[start : start + len(values)]
    wrong = (row_sums(values) != expected) & (expected != UNKNOWN)
    if wrong.any():
        row = int(wrong.argmax())
        first = position + row * values.strides[0]
        raise StorageError(
            f"{path} is damaged: row {start + row:,} (bytes {first:,} to {first + values.strides[0] - 1:,}) does not "
            "have the sum that was saved with it. Restore the folder from a copy."
        )


def npy_header(shape: tuple[int, int], dtype: DType) -> bytes:
    """The first bytes of a .npy file of such a matrix."""
    text = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(text, described)
    return text.getvalue()
