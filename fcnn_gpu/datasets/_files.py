"""What every file reader shares: the error that names the file and the fault, and reads that trust no header."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

from ..files import StorageError

StrPath: TypeAlias = str | os.PathLike[str]

_CHUNK_BYTES = 1 << 20
_LONGEST_SHOWN = 60


class DataFileError(ValueError):
    """A data file cannot be used: the message is its path and the fault.

    Attributes:
        path: the file.
        fault: what is wrong with it, what was expected and, where there is one, the way out.
    """

    def __init__(self, path: StrPath, fault: str) -> None:
        super().__init__(path, fault)
        self.path = Path(path)
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}"


def existing_file(path: StrPath, what: str) -> Path:
    """`path` if it is a file with at least one byte.

    Raises:
        FileNotFoundError: there is no such file; the nearest name in the same folder is suggested.
        IsADirectoryError: it is a folder.
        DataFileError: it is empty, or a pipe or a device, which cannot be read twice.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected {what}.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path.absolute()} (expected {what}).{_near(path)}")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataFileError(
            path, f"is a pipe or a device, which is read only once; expected {what}. Save its content in a file first."
        )
    if status.st_size == 0:
        raise DataFileError(path, f"the file is empty; expected {what}.")
    return path


def _near(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" There is no folder {folder.absolute()} either."
    try:
        names = os.listdir(folder)
    except OSError:  # a folder that may be entered but not listed
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {near[0]!r} in the same folder?" if near else ""


@contextlib.contextmanager
def naming(path: StrPath) -> Iterator[None]:
    """Name the file in what the operating system says while it is read: a read that fails knows only its number."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def shown(text: str) -> str:
    """Text as an error quotes it: in quotes, and only the beginning of what is long.

    >>> shown("setosa"), shown("x" * 1000)[-28:]
    ("'setosa'", "xxxxx'... (1,000 characters)")
    """
    if len(text) <= _LONGEST_SHOWN:
        return repr(text)
    return f"{text[:_LONGEST_SHOWN]!r}... ({len(text):,} characters)"


def read_up_to(stream: IO[bytes] | gzip.GzipFile, n_bytes: int) -> bytearray:
    """At most `n_bytes` bytes of a stream, in memory that grows with what the stream holds.

    A header may claim any size. The buffer is therefore never allocated from the claim; it grows a chunk at a
    time, so a small file costs little however much it promises.
    """
    content = bytearray()
    while len(content) < n_bytes:
        chunk = stream.read(min(_CHUNK_BYTES, n_bytes - len(content)))
        if not chunk:
            break
        content += chunk
    return content


def expands(n_bytes: int, path: Path) -> bool:
    """Whether the content that a compressed file promises is so much larger than the file that it is counted first:
    more than 16 times its size and 64 MiB.
    """
    return n_bytes > 16 * path.stat().st_size + 64 * 2**20


def length(stream: IO[bytes] | gzip.GzipFile, at_most: int) -> int:
    """How many bytes a stream still holds, of which none is kept; counted no further than just beyond `at_most`.

    At its end the checksum of a compressed stream is compared.
    """
    n = 0
    while n <= at_most and (chunk := stream.read(_CHUNK_BYTES)):
        n += len(chunk)
    return n
