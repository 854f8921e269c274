"""Numbers in files, read and written where they lie: never mapped, so that only the caller's buffers are resident.

A memory map brings pages of the file into the process as they are touched, and the process seems to need all of them.
Reading at a position leaves them in the operating system's cache, which gives them up when memory is wanted.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._types import HostArray


class StorageError(OSError):
    """A file of numbers cannot be read or written; the message names the file, the fault and what to try."""


class NumberFile:
    """A file of numbers: `read` and `write` at a byte position, from any thread.

    Args:
        path: the file. Mode "r" and "r+" expect it to be there, "x" makes it and expects it not to be.
        mode: "r" to read, "r+" and "x" to read and write.

    Raises `StorageError` where it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "r+", "x"] = "r") -> None:
        self.path = Path(path)
        flags = {"r": os.O_RDONLY, "r+": os.O_RDWR, "x": os.O_RDWR | os.O_CREAT | os.O_EXCL}[mode]
        self._lock = threading.Lock()
        self._closed = True  # for __del__, if the next line fails
        try:
            self._descriptor = os.open(
                self.path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0), 0o666
            )
        except OSError as error:
            raise StorageError(error.errno, f"{self.path} cannot be opened: {error.strerror}.") from error
        self._closed = False

    @property
    def nbytes(self) -> int:
        """The file's size now."""
        return os.fstat(self._descriptor).st_size

    def read(self, position: int, out: HostArray) -> None:
        """out, contiguous in either order, = the bytes from `position` on. `StorageError` if the file ends before."""
        view = _bytes_of(out)
        done = 0
        while done < len(view):
            try:
                n = self._read_some(position + done, view[done:])
            except OSError as error:
                raise StorageError(
                    error.errno,
                    f"{self.path} cannot be read at byte {position + done:,}: {error.strerror}. "
                    "Is its disk still there and sound?",
                ) from error
            if n == 0:
                raise StorageError(
                    errno.EIO,
                    f"{self.path} ends at byte {self.nbytes:,}, but {len(view):,} bytes from byte {position:,} on are "
                    "needed. Something has cut it short: restore it, or write it anew.",
                )
            done += n

    def write(self, position: int, values: HostArray) -> None:
        """The bytes from `position` on = values, contiguous in either order. `StorageError` if the disk is full."""
        view = _bytes_of(values)
        done = 0
        while done < len(view):
            try:
                done += self._write_some(position + done, view[done:])
            except OSError as error:
                raise self._not_written(error, len(view)) from error

    def read_lines(self, position: int, step: int, out: HostArray) -> None:
        """Row i of out, C-ordered, = the bytes from position + i·step on: many short stretches, each by one call."""
        self._each_line(getattr(os, "preadv", None), self.read, position, step, out)

    def write_lines(self, position: int, step: int, values: HostArray) -> None:
        """The bytes from position + i·step on = row i of values, C-ordered."""
        self._each_line(getattr(os, "pwritev", None), self.write, position, step, values)

    def _each_line(self, move: Any, carefully: Any, position: int, step: int, lines: HostArray) -> None:
        """By `move`; what it does not do wholly, `carefully` does, or says why not."""
        view = _bytes_of(lines)
        length = len(view) // max(1, len(lines))
        for start in range(0, len(view), max(1, length)):
            part = view[start : start + length]
            try:
                done = 0 if move is None else move(self._descriptor, [part], position)
            except OSError:
                done = 0
            if done != length:
                carefully(position, np.frombuffer(part, np.uint8))
            position += step

    def reserve(self, nbytes: int) -> None:
        """Make the file `nbytes` long, with room for all of them on the disk: a full disk is found now, not later.

        New bytes are 0.
        """
        try:
            if nbytes > self.nbytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._descriptor, 0, nbytes)
            os.truncate(self._descriptor, nbytes)
        except OSError as error:
            raise self._not_written(error, nbytes) from error

    def sync(self) -> None:
        """Return when all that was written is on the disk, whatever happens to the machine."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._descriptor)
        except OSError as error:
            raise self._not_written(error, self.nbytes) from error

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        """Whether this very file lies at `path`, and not another that has taken its place."""
        return os.path.samestat(os.stat(path), os.fstat(self._descriptor))

    def close(self) -> None:
        """Let go of the file, also where the system says that something written to it is lost: `StorageError`."""
        if not self._closed:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, -1  # the number may soon be that of another file
            try:
                os.close(descriptor)
            except OSError as error:
                raise StorageError(error.errno, f"{self.path} cannot be closed: {error.strerror}.") from error

    def __enter__(self) -> NumberFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _read_some(self, position: int, view: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [view], position)
        with self._lock:
            os.lseek(self._descriptor, position, os.SEEK_SET)
            content = os.read(self._descriptor, min(len(view), 2**24))
            view[: len(content)] = content
            return len(content)

    def _write_some(self, position: int, view: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._descriptor, view, position)
        with self._lock:
            os.lseek(self._descriptor, position, os.SEEK_SET)
            return os.write(self._descriptor, view)

    def _not_written(self, error: OSError, nbytes: int) -> StorageError:
        hint = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = f" {nbytes:,} bytes were to be written. Free room there, or choose a folder on another disk."
        return StorageError(error.errno, f"{self.path} cannot be written: {error.strerror}.{hint}")


def place_in_file(array: Any, private: bool = False) -> tuple[Path, int] | None:
    """The file that an array is mapped from and the position of its first element; None for any other array.

    Also None for a map that keeps what is written to itself (mode "c"), unless `private`: the file may not have its
    numbers.
    """
    mapped = _map_of(array, private)
    if mapped is None or mapped.filename is None:
        return None
    # A view of a map keeps the whole map's offset, so its place follows from the addresses.
    return Path(mapped.filename), mapped.offset + _address(array) - _address(mapped)


class MappedFile:
    """The file behind a mapped array, which must stay as long as it was: to touch what is missing ends the process."""

    def __init__(self, array: Any) -> None:
        mapped = _map_of(array)
        self._path, self._end = Path(mapped.filename), mapped.offset + mapped.size * mapped.itemsize
        status = os.stat(self._path)
        self._file = status.st_dev, status.st_ino

    def check(self) -> None:
        """`StorageError` if it has been cut short. A file that is deleted or replaced is kept by its map."""
        try:
            status = os.stat(self._path)
        except OSError:
            return
        if (status.st_dev, status.st_ino) == self._file and status.st_size < self._end:
            raise StorageError(
                errno.EIO,
                f"{self._path}, which is mapped, has been cut short to {status.st_size:,} bytes of {self._end:,}. "
                "Restore it, or write it anew and map it again.",
            )

    @classmethod
    def of(cls, array: Any) -> MappedFile | None:
        """That of an array, or None for one that is not mapped, or whose file has gone by now."""
        found = place_in_file(array)
        return cls(array) if found is not None and found[0].exists() else None


def is_mapped(array: Any) -> bool:
    """Whether an array is a view of a memory map whose pages `let_go_of_pages` may give back."""
    return _map_of(array) is not None


def let_go_of_pages(array: Any) -> None:
    """Give the pages of a mapped array back to the system, which reads them anew where they are touched again."""
    mapped = _map_of(array)
    if mapped is not None and hasattr(mmap.mmap, "madvise"):
        mapped.base.madvise(mmap.MADV_DONTNEED)


def _map_of(array: Any, private: bool = False) -> Any:
    """The `np.memmap` that an array is a view of, if what is in it is what is in its file, or `private`."""
    found = array if isinstance(array, np.ndarray) else None
    while found is not None and not (isinstance(found, np.memmap) and isinstance(found.base, mmap.mmap)):
        found = getattr(found, "base", None)
    return None if found is None or (found.mode == "c" and not private) else found


def _address(array: HostArray) -> int:
    return int(array.__array_interface__["data"][0])


def _bytes_of(array: HostArray) -> memoryview:
    """The memory of a contiguous array as bytes; ValueError for any other: a copy of it would be read into."""
    flat = array if array.flags.c_contiguous else array.T
    if not flat.flags.c_contiguous:
        raise ValueError(f"A file is read and written through contiguous arrays; this one has strides {array.strides}.")
    raw: Any = flat.reshape(-1).view(np.uint8)
    return memoryview(raw)
