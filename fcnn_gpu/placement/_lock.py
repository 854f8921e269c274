"""One process at a time for a folder: a lock that the system lets go of when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

from ..files import StorageError


class FolderLock:
    """The file `lock` of a folder, locked until `release`. `StorageError` where another network holds it.

    A process that is forked from this one has no part in the lock, so that it cannot outlast its holder there.
    """

    def __init__(self, folder: Path) -> None:
        path, self._owner = folder / "lock", os.getpid()
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise StorageError(error.errno, f"{path} cannot be opened: {error.strerror}.") from error
        if not _try_to_lock(self._descriptor):
            holder = os.read(self._descriptor, 100).decode(errors="replace").strip()
            os.close(self._descriptor)
            self._descriptor = -1
            raise StorageError(
                f"The network in {folder} is in use{f' by {holder}' if holder else ''}. Two cannot train it at a time: "
                "end the other, call its model.close(), or choose another folder.",
            )
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"process {os.getpid()}\n".encode())
        _held.add(self)

    def release(self) -> None:
        """Let others have the folder."""
        if self._descriptor >= 0:
            if os.getpid() == self._owner:
                _unlock(self._descriptor)  # also for a process that has just been forked and not closed it yet
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.release()


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()
"""The locks of this process."""


def _leave_to_parent() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _try_to_lock(descriptor: int) -> bool:
    """Whether the lock could be had."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    with contextlib.suppress(ImportError):  # elsewhere nobody forks, and closing does it
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
