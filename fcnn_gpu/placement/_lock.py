"""One process at a time for a folder: a lock that the system lets go of when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from pathlib import Path

from ..files import StorageError, is_at, try_to_lock, unlock
from ._typed import storage_errors

LOCK = "lock"
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_ATTEMPTS = 100


class FolderLock:
    """The file `lock` of a folder and, where the system locks folders, the folder itself, locked until `release`.

    The folder is what counts: the file, which says who has it, may be removed. Where a folder cannot be locked
    (Windows, where the file cannot be removed meanwhile, and some network file systems), `check` notices that the file
    has gone. A folder in which nothing can be written is locked for reading, together with others who read.

    `StorageError` where another network holds it. A process that is forked from this one has no part in the lock, so
    that it cannot outlast its holder there.

    Args:
        folder: it must exist.
        mark: what stands in the file before the name of the process.
    """

    def __init__(self, folder: Path, mark: str = "") -> None:
        self._folder, self._path, self._owner = folder, folder / LOCK, os.getpid()
        self._descriptors: list[int] = []
        self._locked: set[int] = set()
        self._file: int | None = None
        self._locks_folder = False
        self.read_only = False
        """Whether nothing can be written there, and so others may read as well."""
        try:
            with storage_errors(folder):
                self._take(mark)
        except BaseException:
            with contextlib.suppress(OSError):  # the error that is under way says what went wrong first
                self.release()
            raise
        _held.add(self)

    def _take(self, mark: str) -> None:
        self.read_only = not os.access(self._folder, os.W_OK)
        file = self._open_file()
        if os.name == "posix":
            folder = self._open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            self._locks_folder = self._lock(folder, optional=True)
            if self._locks_folder and not is_at(folder, self._folder):
                raise StorageError(f"{self._folder} has been removed or replaced while it was being opened.")
        for _ in range(_ATTEMPTS):
            if file is None:
                break
            self._lock(file)
            if is_at(file, self._path):  # and not removed, or replaced, since it was opened
                break
            self._close(file)
            file = self._open_file()
        else:
            raise StorageError(f"{self._path} is removed again and again while it is being opened.")
        self._file = file
        if file is not None and not self.read_only:
            # For the messages of others; a full disk is no reason not to open a network.
            with contextlib.suppress(OSError):
                os.ftruncate(file, 0)
                os.write(file, f"{mark}process {os.getpid()}\n".encode())

    def _open_file(self) -> int | None:
        """A descriptor of the file, made if it is not there; None where it is not and nothing can be written."""
        if not self.read_only:
            try:
                return self._open(self._path, os.O_RDWR | os.O_CREAT)
            except StorageError as error:
                if error.errno not in _REFUSED:
                    raise
                self.read_only = True
        try:
            return self._open(self._path, os.O_RDONLY)
        except StorageError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def _open(self, path: Path, flags: int) -> int:
        try:
            descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise StorageError(error.errno, f"{path} cannot be opened: {error.strerror}.") from error
        self._descriptors.append(descriptor)
        return descriptor

    def _lock(self, descriptor: int, optional: bool = False) -> bool:
        """Lock it; False where the system does not lock such a thing, if that is `optional`."""
        try:
            taken = try_to_lock(descriptor, shared=self.read_only)
        except OSError as error:
            if optional:
                return False
            raise StorageError(error.errno, f"{self._path} cannot be locked: {error.strerror}.") from error
        if not taken:
            holder = self._holder()
            raise StorageError(
                f"The network in {self._folder} is in use{f' by {holder}' if holder else ''}. Two cannot train it at a "
                "time: end the other, call its model.close(), or choose another folder.",
            )
        self._locked.add(descriptor)
        return True

    def _holder(self) -> str:
        """What its file says of the one who has it, if it can be read."""
        try:
            with open(self._path, "rb") as file:
                return file.read(100).decode(errors="replace").strip()
        except OSError:
            return ""

    def check(self) -> None:
        """`StorageError` where somebody else may have taken the folder since: the file has been removed."""
        if self._file is None or self._locks_folder:
            return
        if not is_at(self._file, self._path):
            raise StorageError(
                f"{self._path} has been removed or replaced while the network was in use: another process may have "
                "opened it. Nothing is written any more. Close the network, and open it anew."
            )

    def release(self) -> None:
        """Let others have the folder. What cannot be closed is let go of all the same, and said."""
        self._file, failed = None, None
        for descriptor in self._descriptors:  # all before any is closed: an interrupt may leave one open
            self._unlock(descriptor)
        while self._descriptors:
            descriptor = self._descriptors.pop()  # whatever becomes of it, the number may soon be that of another file
            try:
                os.close(descriptor)
            except OSError as error:
                failed = error
        if failed is not None:
            raise StorageError(failed.errno, f"{self._path} could not be closed: {failed.strerror}.") from failed

    def _close(self, descriptor: int) -> None:
        self._unlock(descriptor)
        self._descriptors.remove(descriptor)
        os.close(descriptor)

    def _unlock(self, descriptor: int) -> None:
        """Also for a process that has just been forked and not closed it yet."""
        if descriptor in self._locked and os.getpid() == self._owner:
            with contextlib.suppress(OSError):  # closing does it as well
                unlock(descriptor)
        self._locked.discard(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_descriptors"):
            self.release()


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()
"""The locks of this process."""


def _leave_to_parent() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
