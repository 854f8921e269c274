"""What a commit writes: all that a network with weights on disk has in memory, in one small file."""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._types import HostArray
from ..files import NumberFile, StorageError, atomic_replacement

RECORD = "network.state"
_FORMAT = "fcnn_gpu network in a folder"
_VERSION = 2
"""Version 1, whose matrices have neither stamps nor sums, is read as well."""
_DIMENSIONS = 32
_OBJECT = 72
"""Bytes that an empty list or object of JSON takes in memory, its place in another one included."""


@dataclass
class Record:
    """What of a network is in memory, as a commit writes it: arrays by name, and plain JSON data."""

    arrays: dict[str, HostArray] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    version: int = _VERSION

    def pack(self) -> list[HostArray]:
        """The file's content in parts: a line of JSON, then the arrays."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        crc = 0
        for array in arrays.values():
            crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
        described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
        head = {"format": _FORMAT, "version": _VERSION, "arrays": described, "data": self.data}
        text = json.dumps(head).encode()
        crc = zlib.crc32(text, crc)
        parts = [np.frombuffer(b"%08x " % crc + text + b"\n", np.uint8)]
        return parts + [array.reshape(-1).view(np.uint8) for array in arrays.values()]

    def complete(self) -> None:
        """Fill in what records of older versions lack."""
        added: dict[str, Any] = {"signature": {}, "optimizer": None}
        if self.version == 1:
            added |= {"stamps": {}, "network": None, "number": 0}
        self.data = added | self.data

    @classmethod
    def unpack(cls, path: Path) -> Record:
        """The record of a file. `StorageError` where it is damaged.

        It takes a few times the file's size, whatever is in it.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(error.errno, f"{path} cannot be read: {error.strerror}.") from error
        line, _, rest = content.partition(b"\n")
        crc, _, text = line.partition(b" ")
        del content, line
        if len(crc) != 8 or not _is_hexadecimal(crc) or int(crc, 16) != zlib.crc32(text, zlib.crc32(rest)):
            raise StorageError(
                f"{path} is damaged: its content does not have its checksum. Restore the folder from a copy."
            )
        if _OBJECT * (text.count(b"[") + text.count(b"{")) > 8 * len(text) + 2**25:
            raise _unreadable(path, "its first line is nearly all brackets")
        try:
            head = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, f"its first line is no JSON ({error})") from error
        if not isinstance(head, dict) or head.get("format") != _FORMAT:
            raise _unreadable(path, f"its format is not {_FORMAT!r}")
        if type(head.get("version")) is not int or head["version"] not in (1, _VERSION):
            raise StorageError(
                f"{path} was written by another version of fcnn_gpu. Open it with that one or a newer one."
            )
        data = head.get("data")
        if not isinstance(data, dict):
            raise _unreadable(path, "it has no data")
        return cls(_arrays(head.get("arrays"), rest, path), data, head["version"])


def _arrays(described: Any, content: bytes, path: Path) -> dict[str, HostArray]:
    """The arrays that the first line describes, which fill `content` to its end."""
    if not isinstance(described, list):
        raise _unreadable(path, "it does not say which arrays it holds")
    arrays: dict[str, HostArray] = {}
    at = 0
    for i, one in enumerate(described):
        sound = isinstance(one, list) and len(one) == 3 and isinstance(one[0], str) and one[0] not in arrays
        if not sound or not isinstance(one[1], str) or not isinstance(one[2], list) or len(one[2]) > _DIMENSIONS:
            raise _unreadable(path, f"its description of array {i} is none")
        name, number, shape = one
        if not all(type(n) is int and n >= 0 for n in shape) or not re.fullmatch("[<>|][biuf][1248]", number):
            raise _unreadable(path, f"array {name!r} cannot be {number!r} of shape {shape}")
        try:
            dtype = np.dtype(number)
        except TypeError as error:
            raise _unreadable(path, f"array {name!r} cannot be {number!r}") from error
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > len(content) - at:
            raise _unreadable(
                path, f"array {name!r}, {dtype} {shape}, takes {nbytes:,} bytes, and {len(content) - at:,} are there"
            )
        arrays[name] = np.frombuffer(content, dtype, math.prod(shape), at).reshape(shape).copy()
        at += nbytes
    if at != len(content):
        raise _unreadable(path, f"{len(content) - at:,} bytes behind its arrays belong to none")
    return arrays


def _is_hexadecimal(text: bytes) -> bool:
    return all(c in b"0123456789abcdef" for c in text)


def _unreadable(path: Path, fault: str) -> StorageError:
    return StorageError(f"{path} cannot be read: {fault}. Restore the folder from a copy.")


def write_record(folder: Path, record: Record, durable: bool) -> None:
    """Replace the folder's record: the moment in which what has been written since the last one begins to count."""
    target = folder / RECORD
    try:
        with atomic_replacement(target, durable=durable) as beside, NumberFile(beside, "r+") as file:
            at = 0
            for part in record.pack():
                file.write(at, part)
                at += part.size
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            error.errno, f"{target} cannot be replaced by that of a new step: {error.strerror or error}."
        ) from error
