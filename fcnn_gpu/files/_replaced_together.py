"""Several files of a folder replaced together: those of one run, and never some of two.

The new files are written into a fresh folder first. Where the system can exchange two folders in one step (Linux and
macOS), the fresh one is beside the old one, takes its place, and is whole at every moment: a kill leaves all of the old
files or all of the new ones. Other people's files in the folder are in both by then, as hard links.

Where it cannot (Windows, some file systems, a mount point, a folder of somebody else, one that this process works in,
one with folders in it, or with a link in the place of a run's file, a parent that cannot be written to), the fresh
folder is inside, the old files are removed, and the new ones are renamed to their places, the first of them before all
others; what a link points to is replaced, and the link stays. A kill then leaves files of one run, of which, if it
comes within those few calls, some are missing.

What a killed process leaves of its fresh folder goes with the next replacement; a lock tells whose process is dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ._lock import is_at
from ._replacement import atomic_replacement, force_names, lock

_PART = re.compile(r"\..*\.[0-9a-f]{16}\.part", re.DOTALL)
"""What a process that is killed while it writes a file leaves of it."""

_OLD_SECONDS = 86400.0
"""Where nothing tells whether a process is dead, its fresh folder is taken for left over after so long."""

_AT_FDCWD = -100
_RENAME_EXCHANGE, _RENAME_SWAP = 2, 2  # of Linux's renameat2 and of macOS's renamex_np


@contextmanager
def replaced_together(folder: str | os.PathLike[str], first: str, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """`with replaced_together(folder, ...) as fresh:` write files into `fresh`, which then are those of `folder`.

    Args:
        folder: an existing folder.
        first: the file that matters most.
        is_ours: tells names of files that belong to a run. All such files in the folder go when the new ones come;
            others stay.

    An error or Ctrl-C in the block leaves the folder as it was. Raises IsADirectoryError where a file of a run would
    replace a folder, and the system's OSError, which names the file in `folder`, for all else.
    """
    final = Path(os.path.realpath(folder))
    _clear(final, is_ours)
    check_replaceable(Path(folder), is_ours)
    exchanging = _can_exchange(final, is_ours)
    fresh, held = _fresh_folder(final, exchanging)
    try:
        if exchanging:
            os.chmod(fresh, stat.S_IMODE(final.stat().st_mode))
        yield fresh
        force_names(fresh, fresh)
        if not (exchanging and _exchanged(fresh, final, is_ours)):
            _move(fresh, final, first, is_ours)
        for changed in (final, final.parent) if exchanging else (final,):
            force_names(changed, final)
    except OSError as error:
        if isinstance(error.filename, str) and error.filename.startswith(str(fresh)):
            error.filename, error.filename2 = str(folder) + error.filename[len(str(fresh)) :], None
        raise
    finally:
        if fresh.exists():
            _absorb(fresh, final, is_ours)
        if held is not None:
            os.close(held)


def check_replaceable(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """IsADirectoryError where what has the name of a run's file is a folder: nobody knows what lies in that."""
    for entry in _entries(folder):
        if is_ours(entry.name) and entry.is_dir(follow_symlinks=False):
            raise IsADirectoryError(
                f"{folder / entry.name} is a folder, and a file of that name is to be written. Move it away."
            )


def _fresh_folder(final: Path, exchanging: bool) -> tuple[Path, int | None]:
    """An empty folder and a descriptor that locks it, where folders can be locked."""
    prefix = _prefix(final) if exchanging else "."
    fresh = (final.parent if exchanging else final) / f"{prefix}{secrets.token_hex(8)}.run"
    fresh.mkdir()
    if sys.platform == "win32":
        return fresh, None
    try:
        held = os.open(fresh, os.O_RDONLY)
    except BaseException as error:
        fresh.rmdir()
        if isinstance(error, OSError):
            error.filename = str(final)  # nobody has heard of the other
        raise
    lock(held)
    return fresh, held


def _prefix(final: Path) -> str:
    return f".{os.fsencode(final.name)[:80].decode(errors='ignore')}."


def _can_exchange(final: Path, is_ours: Callable[[str], bool]) -> bool:
    if sys.platform == "win32" or _exchange_call() is None:
        return False
    status = final.stat()
    return (
        not os.path.ismount(final)
        and status.st_uid == os.geteuid()
        and os.access(final.parent, os.W_OK | os.X_OK)
        and not os.path.samestat(status, os.stat(os.curdir))
        and not any(
            entry.is_symlink() if is_ours(entry.name) else entry.is_dir(follow_symlinks=False)
            for entry in _entries(final)
        )
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _exchanged(fresh: Path, final: Path, is_ours: Callable[[str], bool]) -> bool:
    """Let the fresh folder take the other's place, and have what else is in that; False where that does not go."""
    linked = []
    try:
        for entry in _entries(final):
            if not is_ours(entry.name):
                os.link(entry.path, fresh / entry.name, follow_symlinks=False)
                linked.append(fresh / entry.name)
        exchange = _exchange_call()
        if exchange is not None and exchange(os.fsencode(fresh), os.fsencode(final)):
            return True
    except OSError:  # no hard links here: then file by file
        pass
    for link in linked:
        link.unlink()
    return False


def _move(fresh: Path, final: Path, first: str, is_ours: Callable[[str], bool]) -> None:
    """File by file: the old ones go, then the new ones come, `first` first and over its old one."""
    new = sorted(os.listdir(fresh), key=lambda name: name != first)
    links = {entry.name for entry in _entries(final) if entry.is_symlink()}
    for name in os.listdir(final):
        if is_ours(name) and not (name in new and (name == first or name in links)):
            (final / name).unlink()
    for name in new:
        if name in links:  # which stays, and what it points to is replaced
            with atomic_replacement(final / name) as beside:
                shutil.copyfile(fresh / name, beside)
        else:
            os.replace(fresh / name, final / name)


def _absorb(old: Path, final: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove what is left of a fresh folder, or of the one whose place it took. What is of others goes to `final`."""
    with contextlib.suppress(FileNotFoundError):
        for entry in _entries(old):
            there = final / entry.name
            if (
                (is_ours(entry.name) and not entry.is_dir(follow_symlinks=False))
                or _PART.fullmatch(entry.name)
                or (there.exists() and os.path.samestat(os.lstat(there), os.lstat(entry.path)))
            ):
                os.unlink(entry.path)
            elif not os.path.lexists(there):
                os.rename(entry.path, there)
        if not os.listdir(old):
            old.rmdir()


def _clear(final: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove fresh folders of processes that have died."""
    found = [(final, "."), *([(final.parent, _prefix(final))] if os.access(final.parent, os.W_OK | os.R_OK) else [])]
    for where, prefix in found:
        for name in os.listdir(where):
            if not re.fullmatch(re.escape(prefix) + r"[0-9a-f]{16}\.run", name):
                continue
            path = where / name
            with contextlib.suppress(OSError):  # what cannot be removed harms nobody
                if sys.platform == "win32":
                    if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                        _absorb(path, final, is_ours)
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if lock(descriptor, unknown=False) and is_at(descriptor, path):
                        _absorb(path, final, is_ours)
                finally:
                    os.close(descriptor)


@functools.cache
def _exchange_call() -> Callable[[bytes, bytes], bool] | None:
    """What exchanges two names in one step and says whether it could; None where the system has no such call."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            call = library.renameat2
            call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
            return lambda a, b: call(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE) == 0
        if sys.platform == "darwin":
            call = library.renamex_np
            call.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
            return lambda a, b: call(a, b, _RENAME_SWAP) == 0
    except (OSError, AttributeError, TypeError):
        pass
    return None
