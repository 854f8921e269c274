"""What a commit writes: all that a network with weights on disk has in memory, in one small file."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._types import HostArray
from ..files import NumberFile, StorageError, atomic_replacement

RECORD = "network.state"
_FORMAT = "fcnn_gpu network in a folder"


@dataclass
class Record:
    """What of a network is in memory, as a commit writes it: arrays by name, and plain JSON data."""

    arrays: dict[str, HostArray] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def pack(self) -> list[HostArray]:
        """The file's content in parts: a line of JSON, then the arrays."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        crc = 0
        for array in arrays.values():
            crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
        described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
        head = {"format": _FORMAT, "version": 1, "arrays": described, "data": self.data}
        text = json.dumps(head).encode()
        crc = zlib.crc32(text, crc)
        parts = [np.frombuffer(b"%08x " % crc + text + b"\n", np.uint8)]
        return parts + [array.reshape(-1).view(np.uint8) for array in arrays.values()]

    @classmethod
    def unpack(cls, path: Path) -> Record:
        """The record of a file. `StorageError` where it is damaged."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(error.errno, f"{path} cannot be read: {error.strerror}.") from error
        line, _, rest = content.partition(b"\n")
        crc, _, text = line.partition(b" ")
        damaged = StorageError(
            f"{path} is damaged: its content does not have its checksum. Restore the folder from a copy."
        )
        try:
            if int(crc, 16) != zlib.crc32(text, zlib.crc32(rest)):
                raise damaged
            head = json.loads(text)
            if head["format"] != _FORMAT or head["version"] != 1:
                raise StorageError(
                    f"{path} was written by another version of fcnn_gpu. Open it with that one or a newer one."
                )
        except (ValueError, KeyError, TypeError) as error:
            raise damaged from error
        arrays, at = {}, 0
        for name, dtype, shape in head["arrays"]:
            array = np.empty(shape, dtype)
            array.reshape(-1).view(np.uint8)[:] = np.frombuffer(rest, np.uint8, array.nbytes, at)
            arrays[name], at = array, at + array.nbytes
        return cls(arrays, head["data"])


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
