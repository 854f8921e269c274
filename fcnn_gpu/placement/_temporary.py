"""Temporary folders of networks, and those that killed processes have left."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..files import StorageError, leftovers
from ._lock import LOCK, FolderLock
from ._record import RECORD

MATRICES = "*.generation[01].npy"
_PREFIX = "fcnn_gpu-"
_MARK = "temporary folder of "
_logger = logging.getLogger("fcnn_gpu")


def make_temporary_folder() -> tuple[Path, FolderLock]:
    """A new folder where the system keeps temporary files, and its lock. What killed processes have left there goes."""
    try:
        parent = Path(tempfile.gettempdir())
        remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise StorageError(error.errno, f"A temporary folder cannot be made: {error.strerror or error}.") from error
    try:
        return folder, FolderLock(folder, _MARK)
    except BaseException:
        for path in (folder / LOCK, folder):
            _remove(path)
        raise


def remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders there whose process has ended without doing so.

    Only those of this user, that their lock says are temporary, that nobody holds; and in them only files of ours.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        if not _is_temporary(folder):
            continue
        try:
            lock = FolderLock(folder, _MARK)
        except StorageError:  # somebody trains there, or removes it as well
            continue
        try:
            for path in [*files_of_network(folder), folder / RECORD]:
                _remove(path)
        finally:
            lock.release()
        for path in (folder / LOCK, folder):
            _remove(path)
        _logger.info("Removed %s, which a process that was killed had left.", folder)


def files_of_network(folder: Path) -> Iterator[Path]:
    """All matrices, those of steps and snapshots that were cut short included, and records that were being written."""
    yield from folder.glob(MATRICES)
    yield from leftovers(folder / RECORD)


def _is_temporary(folder: Path) -> bool:
    """Whether a folder of this user was made by `make_temporary_folder`."""
    try:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            return False
        if not stat.S_ISREG(os.lstat(folder / LOCK).st_mode):
            return False
        with open(folder / LOCK, "rb") as file:
            return file.read(len(_MARK)) == _MARK.encode()
    except OSError:  # it has gone meanwhile, or on Windows somebody has locked it
        return False


def _remove(path: Path) -> None:
    """Remove a file or an empty folder, unless somebody else has, or has put something there."""
    try:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    except OSError as error:
        _logger.debug("%s stays: %s", path, error)
