"""Downloads that end in a checked file or in none: mirrors in turn, resumed when cut off, renamed when verified."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..files import atomic_replacement

_CHUNK_BYTES = 1 << 16
_ATTEMPTS = 3  # per mirror; an attempt after a cut resumes where the last one stopped
_USER_AGENT = "fcnn_gpu"

Report = Callable[[int, int | None], None]
"""Called with the bytes received so far and the whole number of bytes, if the server says it."""


class DownloadError(OSError):
    """A data set is neither on this machine nor to be had from its mirrors: the message says what to put where."""


class _Interrupted(Exception):
    """The connection broke or the server answered nonsense: worth another attempt."""


class _Refused(Exception):
    """This mirror does not have the file, or not the right one: go to the next."""


@dataclass(frozen=True)
class RemoteFile:
    """A gzip file of a data set.

    Attributes:
        name: its name on the mirrors and on disk.
        n_bytes: its size uncompressed.
        n_bytes_gzip: about how large it is on the mirrors.
        md5: MD5 of the uncompressed content, in hexadecimal, as the data set's users publish it.
        sha256: SHA-256 of the uncompressed content: what is checked.
    """

    name: str
    n_bytes: int
    n_bytes_gzip: int
    md5: str
    sha256: str


def download_file(
    file: RemoteFile, folder: Path, mirrors: Sequence[str], *, timeout: float = 20.0, report: Report | None = None
) -> Path:
    """Fetch a file from the first mirror that has it, check it, and put it into `folder`.

    The bytes are written beside the target. When a connection breaks they are completed with a range request, up
    to three times a mirror. Only content with the right SHA-256 is renamed to its final name; anything else is removed.

    Args:
        file: what to fetch.
        folder: where to; created if needed.
        mirrors: base addresses (http or https), tried in order.
        timeout: seconds to wait for the network each time.
        report: called as bytes arrive.

    Returns:
        The path of the checked file.

    Raises:
        TypeError, ValueError: `mirrors` is no list; a mirror is no http address.
        DownloadError: no mirror gave the file; the message lists what each one answered.
    """
    if isinstance(mirrors, str):
        raise TypeError(f"mirrors is a list of addresses, got {mirrors!r}. Write [{mirrors!r}].")
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise ValueError(f"A mirror is an http or https address, got {mirror!r}.")
    target = folder / file.name
    faults = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{file.name}"
            try:
                with atomic_replacement(target) as part:
                    _fetch(url, part, file, timeout, report)
                return target
            except _Refused as fault:
                faults.append(f"{url}: {fault}")
    except OSError as error:
        raise DownloadError(f"Cannot write {target}: {error}. Name another folder in FCNN_CACHE_DIR.") from error
    answers = "; ".join(faults) or "no mirror was given"
    raise DownloadError(f"{file.name} could not be downloaded: {answers}.")


@contextmanager
def progress_bar(name: str, show: bool | None) -> Iterator[Report | None]:
    """A rich progress bar on standard error; `show=None` shows it only on a terminal."""
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)

        def report(received: int, total: int | None) -> None:
            progress.update(task, completed=received, total=total)

        yield report


def _fetch(url: str, part: Path, file: RemoteFile, timeout: float, report: Report | None) -> None:
    limit = max(file.n_bytes, file.n_bytes_gzip) + _CHUNK_BYTES
    with open(part, "wb+") as out:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _receive(url, out, limit, timeout, report)
                break
            except _Interrupted as fault:
                if attempt == _ATTEMPTS:
                    raise _Refused(f"{fault} ({_ATTEMPTS} attempts)") from fault
    with open(part, "rb") as content:
        found = _content_sha256(content, file.n_bytes)
    if found != file.sha256:
        raise _Refused(f"the content has the wrong checksum (SHA-256 {found}, expected {file.sha256})")


def _receive(url: str, out: IO[bytes], limit: int, timeout: float, report: Report | None) -> None:
    """Append to `out` what it lacks of the file at `url`."""
    received = out.seek(0, os.SEEK_END)
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if received:
        headers["Range"] = f"bytes={received}-"
    with _open(url, headers, timeout) as response:
        if received and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {received}-"):
            received = 0  # the server sends the whole file again
            out.seek(0)
            out.truncate()
        length = response.headers.get("Content-Length")
        total = received + int(length) if length and length.isdigit() else None
        if total is not None and total > limit:
            raise _Refused(f"announces {total} bytes, more than the file can have")
        while chunk := _read(response):
            received += len(chunk)
            if received > limit:
                raise _Refused(f"sends more than {limit} bytes, more than the file can have")
            out.write(chunk)
            if report is not None:
                report(received, total)
    if total is not None and received < total:
        raise _Interrupted(f"the connection closed after {received} of {total} bytes")


def _open(url: str, headers: dict[str, str], timeout: float) -> Any:
    import http.client  # here, because these modules would be a fifth of what importing fcnn_gpu takes
    import urllib.error
    import urllib.request

    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _Refused(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Refused(f"not reachable ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"no answer ({error or type(error).__name__})") from error


def _read(response: Any) -> bytes:
    import http.client

    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke ({error or type(error).__name__})") from error


def _content_sha256(file: IO[bytes], n_bytes: int) -> str:
    """SHA-256 of what a gzip file unpacks to; reads at most a chunk more than the content should have."""
    digest = hashlib.sha256()
    size = 0
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            while size <= n_bytes and (chunk := stream.read(_CHUNK_BYTES)):
                digest.update(chunk)
                size += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _Refused(f"the content is no whole gzip file ({error})") from error
    return digest.hexdigest()
