"""Files replaced whole: the new one is written beside the old one and takes its place in one step.

What `atomic_replacement` promises, and `write_atomically` with it:

- **A reader** finds the whole old file or the whole new one, whenever it looks; one that has opened the old file reads
  that to its end. Where there was no file, there is none until the new one is whole.
- **An error or Ctrl-C**, in the block or in the replacement (a full disk, no permission, a folder of that name), leaves
  the old file as it was and nothing beside it.
- **A kill** leaves the old file or the new one, and perhaps `.NAME.<16 digits>.part` beside it, which nobody reads;
  `leftovers` finds those.
- **A loss of power**: with `durable` the content is on the disk before the name is, and the name before the block has
  been left, so that from then on the new file is what comes back. Without, which is quicker, recent replacements may be
  lost, and some file systems may bring back an empty file: that is for who checks what is read, and can do without.
- **Two writers** do not mix: each has a file of its own, and the last one to end wins.
- **Permissions** are those of any new file (0666 less the umask), whatever the old one had; its owner is the process's.
- **A link** at the target is replaced by the file; what it points to is not touched.
- **Windows** refuses to replace a file that somebody has open: an error, and the old file stays. It has no call that
  forces a folder's names to the disk, and neither have some network file systems: there `durable` is for the content.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._numbers import StorageError

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)
"""What fsync says of a folder on a file system that does not force names to the disk."""


@contextmanager
def atomic_replacement(target: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """`with atomic_replacement(target) as beside:` write to `beside`, which becomes `target` when the block ends well.

    `beside` is the path of an empty file in the target's folder. Write into that very file (`open(beside, "wb")`), and
    close it before the block ends.

    Args:
        target: the file to make or to replace.
        durable: force content and name to the disk; see above.

    Raises FileNotFoundError where the folder is missing, `StorageError` where the folder cannot be forced to the disk
    after the replacement, and the system's own OSError for all else.

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
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()} to write {target.name} into. Create it first.")
    beside = folder / f".{target.name}.{secrets.token_hex(8)}.part"
    # Held open from before the first byte: a write that fails in the system's cache is told to this descriptor too.
    held = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            yield beside
            if durable:
                with _naming(target):
                    os.fsync(held)
        finally:
            os.close(held)  # Windows neither renames nor removes what is open
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that is under way says what went wrong first
            beside.unlink(missing_ok=True)
        raise
    if durable:
        _force_names(folder, target)


def write_atomically(target: str | os.PathLike[str], content: bytes, *, durable: bool = True) -> None:
    """`target`, made or replaced, holds `content`; see `atomic_replacement`."""
    with atomic_replacement(target, durable=durable) as beside, _naming(target):
        beside.write_bytes(content)


def leftovers(target: str | os.PathLike[str]) -> Iterator[Path]:
    """The files beside `target` that killed processes have left. Those of a process that is writing look the same."""
    target = Path(target)
    return target.parent.glob(f".{glob.escape(target.name)}.*.part")


@contextmanager
def _naming(target: str | os.PathLike[str]) -> Iterator[None]:
    """The system does not say which file it could not write to; from here on the error does."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(target)
        raise


def _force_names(folder: Path, target: Path) -> None:
    """The replacement is on the disk once the folder is."""
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
