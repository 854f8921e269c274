"""Locks on files and folders that the system lets go of when the process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path


def try_to_lock(descriptor: int, shared: bool = False) -> bool:
    """Lock what a descriptor stands for, together with others where it is `shared`; False if somebody else has it.

    OSError where the system does not lock such a thing. Windows has no lock for several: there all may share.
    """
    try:
        import fcntl
    except ImportError:
        import msvcrt

        if not shared:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            except OSError:
                return False
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let go of a lock while the descriptor stays open. On Windows closing does it."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether what a descriptor stands for is what lies at `path`, or where a link there points."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
