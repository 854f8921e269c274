"""A matrix in two .npy files of a folder, of which one counts."""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from .._types import DType, HostArray
from ..files import NumberFile, StorageError, blocks_of_rows, rows_of_block
from ._saved import SavedMatrix, check_sums, npy_header
from ._stamp import UNKNOWN, Stamp, row_sums, stamp_bytes


class Store(Protocol):
    """What a matrix asks of its folder (`FolderStore`)."""

    @property
    def folder(self) -> Path: ...
    @property
    def read_only(self) -> bool: ...
    def commit_alone(self) -> None: ...
    def check_writable(self) -> None: ...
    def why_closed(self) -> str: ...


class FileRows:
    """A matrix in two .npy files, of which one counts (`generation`); see `FolderStore`.

    Behind the numbers stand a sum of each row and a stamp (`Stamp`), which a commit writes. A row of a file that was
    there already is compared with its sum when it is read for the first time.
    """

    place = "disk"

    def __init__(self, store: Store, name: str, shape: tuple[int, int], dtype: DType, generation: int = 0) -> None:
        self.store, self.name = store, name
        self.shape, self.dtype, self.generation = shape, dtype, generation
        self.paths = [store.folder / f"{name}.generation{i}.npy" for i in range(2)]
        self._header = npy_header(shape, dtype)
        self._row = shape[1] * dtype.itemsize
        self._files: dict[int, NumberFile] = {}
        self._sums = [np.zeros(shape[0], np.uint64) for _ in range(2)]
        self._unchecked: HostArray | None = None
        self._closed = False
        self.stamp: Stamp | None = None
        """That of the generation that counts; None before its first commit."""
        self.written = False
        """Whether the other generation has been written and counts with the next commit."""

    @property
    def nbytes(self) -> int:
        """Bytes of each of the two files."""
        return self._end + 8 * self.shape[0] + stamp_bytes(self.name)

    @property
    def _end(self) -> int:
        """Where the numbers end and the sums begin."""
        return len(self._header) + self.shape[0] * self._row

    def create(self) -> None:
        """Make both files, full of zeros, with room on the disk for all that will be written."""
        for generation, path in enumerate(self.paths):
            self._files[generation] = file = NumberFile(path, "x")
            self._lay_out(file)

    def open(self, saved: SavedMatrix) -> None:
        """Open files that are there already, of which `saved` counts and has been checked.

        `StorageError` where that is another matrix. The other one will be written anew, and need not be sound. Files of
        a release that kept no sums are read once for them.
        """
        path, other = self.paths[self.generation], self.paths[1 - self.generation]
        self._files[self.generation] = NumberFile(path, "r" if self.store.read_only else "r+")
        found = np.empty(len(self._header), np.uint8)
        self._files[self.generation].read(0, found)
        if found.tobytes() != self._header:
            raise StorageError(
                f"{path} is not the .npy file of {self.shape} {self.dtype} that it was. Restore the folder."
            )
        self.stamp = saved.stamp
        if self.stamp is None:
            for start, block in self._blocks():
                self._sums[self.generation][start : start + len(block)] = row_sums(block)
        else:
            self._files[self.generation].read(self._end, self._sums[self.generation])
            self._unchecked = np.ones(self.shape[0], bool) if saved.checked is None else ~saved.checked
        if self.store.read_only:
            return
        if self.stamp is None:
            self._files[self.generation].reserve(self.nbytes)
        if not other.exists() or other.stat().st_size != self.nbytes:
            other.unlink(missing_ok=True)
            with NumberFile(other, "x") as file:
                self._lay_out(file)
        self._files[1 - self.generation] = NumberFile(other, "r+")
        self.check()
        self._files[1 - self.generation].write(0, np.frombuffer(self._header, np.uint8))

    def _lay_out(self, file: NumberFile) -> None:
        """Zeros, with room on the disk for all that will be written."""
        file.reserve(self.nbytes)
        file.write(0, np.frombuffer(self._header, np.uint8))

    def check(self) -> None:
        """`StorageError` where one of the files has been removed, replaced or cut short since it was opened."""
        self._require_open()
        for generation, file in self._files.items():
            path = self.paths[generation]
            try:
                there = os.stat(path)
            except OSError as error:
                raise StorageError(
                    error.errno, f"{path} has gone: {error.strerror}. It is a part of the network; restore it."
                ) from error
            if there.st_size != self.nbytes:
                raise StorageError(
                    f"{path} has {there.st_size:,} bytes and should have {self.nbytes:,}: something has cut it short "
                    "or written to it. Restore the folder from a copy.",
                )
            if not file.is_at(path):
                raise StorageError(f"{path} has been replaced by another file while it was in use.")

    def view(self, start: int, stop: int) -> HostArray | None:
        return None

    def read(self, start: int, out: HostArray) -> None:
        self._require_open()
        generation, unchecked = self.generation, self._unchecked
        self._files[generation].read(self._at(start), out)
        if unchecked is None or not unchecked[start : start + len(out)].any():
            return
        check_sums(self.paths[generation], start, out, self._sums[generation], self._at(start))
        unchecked[start : start + len(out)] = False
        if not unchecked.any():
            self._unchecked = None

    def write(self, start: int, values: HostArray) -> None:
        self._require_own()
        file, sums = self._files[self.generation], self._sums[self.generation][start : start + len(values)]
        sums[:] = UNKNOWN
        if self.stamp is not None:  # a process that opens the folder is going to compare
            file.write(self._end + 8 * start, sums)
        file.write(self._at(start), values)
        sums[:] = row_sums(values)
        if self.stamp is not None:
            file.write(self._end + 8 * start, sums)

    def write_next(self, start: int, values: HostArray) -> None:
        self._require_own()
        self._files[1 - self.generation].write(self._at(start), values)
        self._sums[1 - self.generation][start : start + len(values)] = row_sums(values)
        self.written = True

    def replace(self, blocks: Iterable[tuple[int, HostArray]]) -> None:
        try:
            for start, values in blocks:
                self.write_next(start, values)
            self.store.commit_alone()
        except BaseException:
            self.written = False
            raise

    def copy(self) -> FileRows:
        self._require_own()
        rows = FileRows(self.store, f"{self.name}.copy{secrets.token_hex(4)}", self.shape, self.dtype)
        rows.paths = rows.paths[:1]
        try:
            rows.create()
            for start, block in self._blocks():
                rows.write(start, block)
        except BaseException:
            rows.delete()
            raise
        weakref.finalize(rows, _delete_own, rows._files, rows.paths, os.getpid())
        return rows

    def _blocks(self) -> Iterable[tuple[int, HostArray]]:
        """(first row, rows), each until the next one is asked for."""
        buffer = np.empty((min(self.shape[0], rows_of_block(self.shape, self.dtype)), self.shape[1]), self.dtype)
        for part in blocks_of_rows(self.shape, self.dtype):
            block = buffer[: part.stop - part.start]
            self.read(part.start, block)
            yield part.start, block

    def put_stamp(self, stamp: Stamp) -> None:
        """Write the sums and this stamp behind the numbers that count with the commit under way."""
        generation = self.generation ^ int(self.written)
        sums = self._sums[generation].view(np.uint8)
        self._files[generation].write(self._end, np.concatenate([sums, stamp.pack()]))

    def count(self, stamp: Stamp) -> None:
        """The commit has taken place: what has been written counts, under this stamp."""
        if self.written:
            self._unchecked = None
        self.generation ^= int(self.written)
        self.stamp, self.written = stamp, False

    def sync(self, generation: int) -> None:
        """Return when this generation is on the disk, whatever happens to the machine."""
        self._files[generation].sync()

    def close(self) -> None:
        """Let go of the files; to read or write them is an error from now on."""
        self._closed = True
        for file in self._files.values():
            file.close()

    def delete(self) -> None:
        """Close and remove the files."""
        self._closed = True
        delete_files(self.paths, self._files)

    def _at(self, row: int) -> int:
        """The byte where a row begins."""
        return len(self._header) + row * self._row

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self.name} cannot be read or written: {self.store.why_closed()}")

    def _require_own(self) -> None:
        self._require_open()
        self.store.check_writable()


def delete_files(paths: Sequence[Path], files: dict[int, NumberFile] | None = None) -> None:
    """Remove them, those that are open closed first."""
    for file in (files or {}).values():
        file.close()
    for path in paths:
        path.unlink(missing_ok=True)


def _delete_own(files: dict[int, NumberFile], paths: Sequence[Path], owner: int) -> None:
    """The same, but in a process that was forked from their owner, which has them still."""
    delete_files(paths if os.getpid() == owner else (), files)
