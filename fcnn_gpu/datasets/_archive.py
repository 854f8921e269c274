"""The zip archive that a .npz file is: its members, whose faults name the file."""

from __future__ import annotations

import contextlib
import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ._files import DataFileError, naming

_SUFFIX = ".npy"
_LOCAL_HEADER = 30
"""Bytes of a member's own header before its name."""
_FAULTS = (  # what zipfile raises on damaged archives; ValueError is a name that cannot be decoded
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    struct.error,
)


class Member:
    """An array in an archive.

    Attributes:
        n_bytes: its size when it is unpacked, with its .npy header, as the archive says.
        stored: whether it lies in the archive as it is.
    """

    def __init__(self, archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo) -> None:
        self._archive, self._path, self._info = archive, path, info
        self.n_bytes, self.stored = info.file_size, info.compress_type == zipfile.ZIP_STORED

    def open(self) -> IO[bytes]:
        """The member from its beginning, unpacked; reading to its end compares the checksum.

        Other ways of packing than NumPy's are refused: their decoders take what memory the file asks for.
        """
        if self._info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataFileError(
                self._path,
                f"{self._info.filename} is packed by method {self._info.compress_type}; expected 0 or 8, as "
                "np.savez and np.savez_compressed write.",
            )
        return self._archive.open(self._info)

    def position(self) -> int:
        """Where in the file the first byte of a stored member is."""
        with open(self._path, "rb") as file:
            file.seek(self._info.header_offset)
            local = file.read(_LOCAL_HEADER)
        name, extra = struct.unpack_from("<HH", local, 26)
        return self._info.header_offset + _LOCAL_HEADER + int(name) + int(extra)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[dict[str, Member]]:
    """The arrays in an archive by name, while it is open.

    Raises:
        DataFileError: it is no zip archive, is truncated or damaged, or holds something other than arrays of different
            names. Also what is raised of that kind while the members are read.
    """
    try:
        with naming(path), zipfile.ZipFile(path) as archive:
            yield _members(archive, path)
    except DataFileError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place that cannot be: it is the archive that names it
            raise
        raise DataFileError(path, f"not a whole .npz file ({error}). Was it cut off or damaged?") from error
    except _FAULTS as error:
        raise DataFileError(path, f"not a whole .npz file ({error}). Was it cut off or damaged?") from error


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for info in archive.infolist():
        if not 0 <= info.header_offset < path.stat().st_size:
            raise zipfile.BadZipFile(f"{info.filename!r} does not begin within the file")
        if not info.filename.endswith(_SUFFIX):
            raise DataFileError(path, f"holds {info.filename!r}, which is no .npy array: not a .npz file.")
        name = info.filename.removesuffix(_SUFFIX)
        if name in members:
            raise DataFileError(path, f"has two arrays named {name!r}.")
        members[name] = Member(archive, path, info)
    return members
