"""safetensors files whose tensors need not be in memory: written and read in blocks of rows.

The format (github.com/huggingface/safetensors): the length of the header in 8 bytes, little-endian; the header, a JSON
object that gives each tensor its dtype, shape and stretch of bytes; the tensors' bytes, without gaps. A file is read
here, and not by that library, because its arrays are in memory before anybody can look at their shapes.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._types import DType, HostArray
from ._blocks import BLOCK_BYTES, BlockMatrix, blocks_of_rows
from ._json import brief, read_json
from ._numbers import NumberFile

LONGEST_HEADER = 100_000_000
"""Bytes: what the safetensors library reads."""
_NAMES = {"float32": "F32", "float64": "F64", "int64": "I64"}
_DTYPES = {short: np.dtype(name) for name, short in _NAMES.items()} | {"F16": np.dtype(np.float16)}
_MOST_DIMENSIONS = 8
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


@dataclass
class Described:
    """A tensor as the header describes it: `position` is that of its first byte in the file."""

    dtype: DType
    shape: tuple[int, ...]
    position: int

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFile:
    """A safetensors file whose header has been read and found to be JSON; ValueError says what is wrong with it.

    Raises `StorageError` where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with NumberFile(path) as file:
            self._nbytes = file.nbytes
            if self._nbytes < 8:
                raise ValueError(f"it has {self._nbytes} bytes, where the length of its header takes 8")
            length = np.empty(8, np.uint8)
            file.read(0, length)
            n_header = int(struct.unpack("<Q", length.tobytes())[0])
            if n_header > min(LONGEST_HEADER, self._nbytes - 8):
                raise ValueError(
                    f"its first 8 bytes announce a header of {n_header:,} bytes, and the file has {self._nbytes:,}"
                )
            text = np.empty(n_header, np.uint8)
            file.read(8, text)
        self._start = 8 + n_header
        try:
            header = read_json(text.tobytes())
        except ValueError as error:
            raise ValueError(f"its header cannot be read: {error}") from error
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("the __metadata__ of its header are not texts by name")
        for item in (*metadata, *metadata.values(), *header):
            try:
                item.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"its header holds text that is none: {error.reason}, in {brief(item)}") from error
        self.metadata: dict[str, str] = metadata
        self._header: dict[str, Any] = header

    def described(self) -> dict[str, Described]:
        """Every tensor by name. ValueError where the header contradicts itself, or the file."""
        spans, found = [], {}
        for name, entry in self._header.items():
            try:
                described, span = self._described(entry)
            except ValueError as error:
                raise ValueError(f"its header describes {brief(name)} as no tensor: {error}") from error
            found[name] = described
            spans.append((*span, name))
        end = 0
        for first, last, name in sorted(spans):
            if first != end:
                raise ValueError(f"the bytes of {brief(name)} begin at {first:,}, those before end at {end:,}")
            end = last
        if self._start + end != self._nbytes:
            raise ValueError(f"it has {self._nbytes:,} bytes, its header describes {self._start + end:,}")
        return found

    def _described(self, entry: Any) -> tuple[Described, tuple[int, int]]:
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError("not dtype, shape and data_offsets")
        dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            raise ValueError(f"its dtype is {brief(dtype)}, and not one of {', '.join(_DTYPES)}")
        if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS or 0 in shape:
            raise ValueError(f"its shape is {brief(shape)}, and not up to {_MOST_DIMENSIONS} sizes of at least 1")
        if not _are_sizes(span) or len(span) != 2:
            raise ValueError(f"its data_offsets are {brief(span)}, and not two positions")
        found = Described(_DTYPES[dtype], tuple(shape), self._start + span[0])
        if found.nbytes != span[1] - span[0]:
            raise ValueError(f"its shape {shape} takes {found.nbytes:,} bytes, and it has {span[1] - span[0]:,}")
        return found, (span[0], span[1])

    def read(self, described: Mapping[str, Described]) -> dict[str, Tensor]:
        """The tensors; matrices larger than a block stay in the file."""
        found: dict[str, Tensor] = {}
        with NumberFile(self.path) as file:
            for name, tensor in described.items():
                if tensor.nbytes > BLOCK_BYTES and len(tensor.shape) == 2:
                    n_rows, n_columns = tensor.shape
                    found[name] = FileMatrix(self.path, tensor.position, (n_rows, n_columns), tensor.dtype)
                else:
                    found[name] = array = np.empty(tensor.shape, tensor.dtype)
                    file.read(tensor.position, array.reshape(-1))
        return found


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
