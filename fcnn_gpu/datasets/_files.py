"""What every file reader shares: the error that names the file and the fault, and reads that trust no header."""

from __future__ import annotations

import difflib
import gzip
import os
from pathlib import Path
from typing import IO, TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]

_CHUNK_BYTES = 1 << 20


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
        DataFileError: it is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected {what}.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path.absolute()} (expected {what}).{_near(path)}")
    if path.stat().st_size == 0:
        raise DataFileError(path, f"the file is empty; expected {what}.")
    return path


def _near(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" There is no folder {folder.absolute()} either."
    near = difflib.get_close_matches(path.name, os.listdir(folder), n=1)
    return f" Did you mean {near[0]!r} in the same folder?" if near else ""


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
