"""safetensors files whose tensors need not be in memory: written and read in blocks of rows."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._types import DType, HostArray
from ._blocks import BLOCK_BYTES, BlockMatrix, blocks_of_rows
from ._numbers import NumberFile

_NAMES = {"float32": "F32", "float64": "F64", "int64": "I64"}
_CHECKSUM = "crc32"


class FileMatrix(BlockMatrix):
    """A matrix in a file, C-ordered from a byte position on."""

    def __init__(self, path: Path, position: int, shape: tuple[int, int], dtype: DType) -> None:
        self._path, self._position = path, position
        self.shape, self.dtype = shape, dtype

    def blocks(self) -> Iterator[tuple[slice, HostArray]]:
        buffer: HostArray | None = None
        with NumberFile(self._path) as file:
            for rows in blocks_of_rows(self.shape, self.dtype):
                if buffer is None:
                    buffer = np.empty((rows.stop - rows.start, self.shape[1]), self.dtype)
                block = buffer[: rows.stop - rows.start]
                file.read(self._position + rows.start * self.shape[1] * self.dtype.itemsize, block)
                yield rows, block


Tensor: TypeAlias = HostArray | BlockMatrix
Tensors: TypeAlias = Mapping[str, Tensor]


def contents(tensor: Tensor) -> Iterator[HostArray]:
    """The bytes of a tensor in C order, a block at a time."""
    if isinstance(tensor, BlockMatrix):
        for _, block in tensor.blocks():
            yield block.reshape(-1).view(np.uint8)
    else:
        yield np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)


def checksum(metadata: dict[str, str], tensors: Tensors) -> str:
    """CRC-32 of everything that a model is made from: a flipped bit in a weight would make a model that merely errs."""
    crc = _checksum_of_texts(metadata, tensors)
    for name in sorted(tensors):
        for block in contents(tensors[name]):
            crc = zlib.crc32(block.data, crc)
    return f"{crc:08x}"


def _checksum_of_texts(metadata: dict[str, str], names: Iterable[str]) -> int:
    crc = 0
    texts = (metadata.get(key, "") for key in ("architecture", "info", "signature"))
    for text in (*texts, *sorted(names)):
        crc = zlib.crc32(text.encode(), crc)
    return crc


def write_tensors(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    """Write into the empty file at `path`, the checksum among the metadata.

    Tensors are gone through once: the checksum, of a known length, is put in its place at the end.
    """
    described: dict[str, Any] = {"__metadata__": metadata | {_CHECKSUM: "0" * 8}}
    position = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        span = [position, position + tensor.nbytes]
        described[name] = {"dtype": _NAMES[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": span}
        position = span[1]

    def head() -> HostArray:
        text = json.dumps(described).encode()
        text += b" " * (-len(text) % 8)
        return np.frombuffer(struct.pack("<Q", len(text)) + text, np.uint8)

    start = head()
    crc = _checksum_of_texts(metadata, tensors)
    with NumberFile(path, "r+") as file:
        at = start.size
        file.reserve(at + position)
        for name in sorted(tensors):
            for block in contents(tensors[name]):
                crc = zlib.crc32(block.data, crc)
                file.write(at, block)
                at += block.size
        described["__metadata__"][_CHECKSUM] = f"{crc:08x}"
        file.write(0, head())


def large_tensors(path: Path) -> dict[str, FileMatrix]:
    """The matrices of a file that are larger than a block, whose header the safetensors library has found sound."""
    with NumberFile(path) as file:
        length = np.empty(8, np.uint8)
        file.read(0, length)
        text = np.empty(int(struct.unpack("<Q", length.tobytes())[0]), np.uint8)
        file.read(8, text)
    described = json.loads(text.tobytes())
    described.pop("__metadata__", None)
    dtypes = {short: np.dtype(name) for name, short in _NAMES.items()}
    found = {}
    for name, tensor in described.items():
        first, last = tensor["data_offsets"]
        if last - first > BLOCK_BYTES and len(tensor["shape"]) == 2 and tensor["dtype"] in dtypes:
            n_rows, n_columns = tensor["shape"]
            position = 8 + text.size + first
            found[name] = FileMatrix(path, position, (n_rows, n_columns), dtypes[tensor["dtype"]])
    return found
