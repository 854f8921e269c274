"""Files replaced whole: the new one is written beside the old one and takes its place in one step.

What `atomic_replacement` promises, and `write_atomically` with it:

- **A reader** finds the whole old file or the whole new one, whenever it looks; one that has opened the old file reads
  that to its end. Where there was no file, there is none until the new one is whole.
- **An error or Ctrl-C**, in the block or in the replacement (a full disk, no permission, a folder of that name), leaves
  the old file as it was and nothing beside it. The system's errors name the target.
- **A kill**, or Ctrl-C in the instant in which a part is made, leaves the old file or the new one, and perhaps
  `.NAME.<16 digits>.part` beside it, which nobody reads; who writes to the same target next, once the process is dead,
  removes it. Where the system locks files, a lock tells the part of a dead process; on Windows, that nobody has it
  open. `leftovers` finds all parts.
- **A loss of power**: with `durable` the content is on the disk before the name is, and the name before the block has
  been left, so that from then on the new file is what comes back. Without, which is quicker, recent replacements may be
  lost, and some file systems may bring back an empty file: that is for who checks what is read, and can do without.
- **Two writers** do not mix: each has a file of its own, and the last one to end wins.
- **Permissions** of an old file stay, and as far as the process may its owner and group; a new file has those of any
  (0666 less the umask). Access lists and extended attributes are not kept, and another name of the old file (a hard
  link) keeps the old content.
- **A link** at the target stays: the file that it points to is replaced, or made.
- **What is no regular file**, a pipe or a device such as /dev/null, and what a process has open already (/dev/stdout),
  is not replaced: the content is written into it when it is whole.
- **Windows** refuses to replace a file that somebody has open: an error, and the old file stays. It has no call that
  forces a folder's names to the disk, and neither have some network file systems: there `durable` is for the content.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._lock import is_at, try_to_lock
from ._numbers import StorageError

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)
"""What fsync says of a folder on a file system that does not force names to the disk."""

_LONGEST = 100
"""Bytes of a target's name in its part's name: some file systems take no name of more than 143 bytes, most 255."""

_OPENED = re.compile(r"/dev/fd|/proc/(self|thread-self|\d+)(/task/\d+)?/fd")
"""Folders in which a number stands for a file that a process has open."""

_QUIET_SECONDS = 60.0
"""Without locks, a part that changed less long ago may be one that is closed already and about to be renamed."""


@contextmanager
def atomic_replacement(target: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """`with atomic_replacement(target) as beside:` write to `beside`, which becomes `target` when the block ends well.

    `beside` is the path of an empty file in the target's folder (in the system's folder for temporary files, if the
    target is no regular file). Write into that very file (`open(beside, "wb")`), and close it before the block ends.

    Args:
        target: the file to make or to replace.
        durable: force content and name to the disk; see above.

    Raises FileNotFoundError where the folder is missing, IsADirectoryError where the target is one, `StorageError`
    where the folder cannot be forced to the disk after the replacement or a pipe's reader has gone, and the system's
    own OSError, with the target's name, for all else.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with atomic_replacement(target) as beside:
    ...     _ = beside.write_text("1 2 3")
    ...     target.exists()
    False
    >>> target.read_text()
    '1 2 3'
    """
    target = Path(target)
    with _naming(target):
        opened = _opened_descriptor(target)
        status = _status(target)
    if opened is not None or (status is not None and not stat.S_ISREG(status.st_mode)):
        with _written_through(target, opened) as beside:
            yield beside
        return
    final = Path(os.path.realpath(target))
    folder = final.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()} to write {final.name} into. Create it first.")
    with _naming(target):
        beside, held = _new_part(final, 0o666 if status is None else 0o600)
    try:
        with _naming(target, beside):
            try:
                yield beside
                if status is not None:
                    _take_over(held, status)
                if durable:
                    os.fsync(held)
                if os.name == "nt":
                    os.close(held)  # Windows neither renames nor removes what is open
                    held = -1
                else:
                    os.close(os.dup(held))  # some systems tell here, and only here, that a write has failed
                os.replace(beside, final)
            finally:
                if held >= 0:
                    with contextlib.suppress(OSError):  # what closing has to tell, it has told of the copy
                        os.close(held)  # and the lock with it, by which the part was known to be in use
    except BaseException:
        with contextlib.suppress(OSError):  # the error that is under way says what went wrong first
            beside.unlink(missing_ok=True)
        raise
    if durable:
        force_names(folder, target)


def write_atomically(target: str | os.PathLike[str], content: bytes, *, durable: bool = True) -> None:
    """`target`, made or replaced, holds `content`; see `atomic_replacement`."""
    with atomic_replacement(target, durable=durable) as beside:
        beside.write_bytes(content)


def leftovers(target: str | os.PathLike[str]) -> Iterator[Path]:
    """The files beside `target` that killed processes have left. Those of a process that is writing look the same."""
    target = Path(target)
    return target.parent.glob(f".{glob.escape(_stem(target.name))}.{'[0-9a-f]' * 16}.part")


def _stem(name: str) -> str:
    """What the names of a target's parts begin with: its own name, or of a long one the beginning and a checksum."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[: _LONGEST - 9].decode(errors='ignore')}~{zlib.crc32(encoded):08x}"


def _status(target: Path) -> os.stat_result | None:
    """What lies at the target or where its link points; None for nothing yet. IsADirectoryError for a folder."""
    try:
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return status


def _opened_descriptor(target: Path) -> int | None:
    """The number, if the target or what it links to stands for a file that this or another process has open.

    -1 for another process's. On Linux /dev/stdout is a link to /proc/self/fd/1, and that again to the file or the pipe:
    followed to its end it would look like any file, which a shell still writes to.
    """
    if os.name != "posix":
        return None
    path = Path(os.path.abspath(target))
    for _ in range(40):  # as many links as Linux follows
        folder = Path(os.path.realpath(path.parent))
        if path.name.isdigit() and _OPENED.fullmatch(str(folder)):
            own = str(folder) in ("/dev/fd", f"/proc/{os.getpid()}/fd")
            return int(path.name) if own else -1
        if str(folder) == "/dev" and path.name in _STANDARD and not (folder / path.name).is_symlink():
            return _STANDARD[path.name]
        if not (folder / path.name).is_symlink():
            return None
        path = folder / os.readlink(folder / path.name)
    return None


_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
"""What macOS has in /dev as files of their own, and not as links."""


@contextmanager
def _written_through(target: Path, opened: int | None) -> Iterator[Path]:
    """A temporary file whose content goes into a pipe, a device or an open file as it is."""
    folder = Path(tempfile.mkdtemp(prefix="fcnn_gpu-"))
    try:
        beside = folder / "content.part"
        beside.touch()
        with _naming(target, beside):
            yield beside
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and opened is not None:
                    stream.flush()  # what was printed before comes before
            how: str | int = os.fspath(target) if opened is None or opened < 0 else os.dup(opened)
            try:
                with open(how, "wb") as file, open(beside, "rb") as content:
                    shutil.copyfileobj(content, file, 2**20)
            except BrokenPipeError as error:
                raise StorageError(f"{target}: whoever reads this pipe has gone.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Parts, and whose they are


def _new_part(final: Path, mode: int) -> tuple[Path, int]:
    """A new part for the target and a descriptor, locked for as long as it is open; parts of dead processes go."""
    _remove_dead_parts(final)
    while True:
        beside = final.parent / f".{_stem(final.name)}.{secrets.token_hex(8)}.part"
        # Held open from before the first byte: a write that fails in the system's cache is told to this descriptor too.
        held = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
        if lock(held) and is_at(held, beside):
            return beside, held
        os.close(held)  # another process took it for a dead one's between the two calls, and removes it


def _remove_dead_parts(final: Path) -> None:
    """Remove the target's parts whose writers have ended. One that cannot be removed is left: it harms nobody."""
    stem = f".{_stem(final.name)}."
    try:
        names = os.listdir(final.parent)
    except PermissionError:  # a folder that may be written to and not listed
        return
    for name in names:
        if not (name.startswith(stem) and re.fullmatch(r"[0-9a-f]{16}\.part", name[len(stem) :])):
            continue
        part = final.parent / name
        with contextlib.suppress(OSError):
            if sys.platform == "win32":  # who has it open keeps it from being removed
                if time.time() - part.stat().st_mtime > _QUIET_SECONDS:
                    part.unlink()
                continue
            descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if lock(descriptor, unknown=False) and is_at(descriptor, part):
                    part.unlink()
            finally:
                os.close(descriptor)


def lock(descriptor: int, unknown: bool = True) -> bool:
    """Lock a file for this process; False if another one has. `unknown`: what to say where there are no locks."""
    if sys.platform == "win32":  # whose locks would keep a part from being renamed
        return True
    try:
        return try_to_lock(descriptor)
    except OSError:
        return unknown


def _take_over(held: int, old: os.stat_result) -> None:
    """Give the new file the old one's owner, as far as that is allowed, and its permissions."""
    if sys.platform == "win32":  # where the one permission is to be written to, without which nothing is replaced
        return
    new = os.fstat(held)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(held, old.st_uid, old.st_gid)
        except PermissionError:
            with contextlib.suppress(PermissionError):  # a group that this process is not in either
                os.fchown(held, -1, old.st_gid)
    os.fchmod(held, stat.S_IMODE(old.st_mode) & 0o777)


# Errors and the disk


@contextmanager
def _naming(target: Path, beside: Path | None = None) -> Iterator[None]:
    """The system names the part, or no file at all; from here on the error names the target."""
    try:
        yield
    except StorageError as error:
        if beside is not None and error.strerror is not None:
            error.strerror = error.strerror.replace(str(beside), str(target))
        raise
    except OSError as error:
        if error.errno is not None and (beside is None or error.filename in (None, str(beside))):
            error.filename, error.filename2 = str(target), None
        raise


def force_names(folder: Path, target: Path) -> None:
    """Return when a folder's names are on the disk; `target` is what has been replaced there."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise StorageError(
                error.errno,
                f"{target} has been replaced, but its folder cannot be forced to the disk: {error.strerror}. After a "
                "loss of power the old file may be back.",
            ) from error
