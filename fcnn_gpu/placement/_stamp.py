"""What stands behind the numbers of each file of a folder: a sum of every row, and a stamp that says what they are.

The sum of a row is cheap enough for every step (a pass over memory that is about to be written anyway, at its speed;
CRC-32 would take ten times as long), and changes with every single number: words are added up wrapping around in pieces
of 512, and the pieces' sums with the odd factors 1, 3, 5, ... So a flipped bit is noticed always, and so are other
damages to one word, rows or pieces that are not where they belong, and blocks of zeros. What a chance may hide, at 1 in
2³² or less, is damage to several words of one piece whose changes cancel, such as two of them exchanged.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass

import numpy as np

from .._types import HostArray

_WORDS = 512
"""Words of a piece: 4 KiB, or 2 where a row is no multiple of 8 bytes."""
_FORMAT = "fcnn_gpu matrix"
LONGEST_STAMP = 8192
"""Bytes that hold any stamp."""

UNKNOWN = np.uint64(2**64 - 1)
"""In place of a row's sum: it is being written in place, and a process that ends meanwhile leaves it half written."""


def row_sums(values: HostArray) -> HostArray:
    """The sum (n,) of each row of values (n, m), float32 or float64, C-ordered."""
    word = np.uint32 if values.shape[1] * values.itemsize % 8 else np.uint64
    words = values.view(word)
    n_words = words.shape[1]
    if n_words <= _WORDS:
        return np.add.reduce(words, axis=1, dtype=word).astype(np.uint64)
    pieces = np.add.reduceat(words, np.arange(0, n_words, _WORDS), axis=1, dtype=word)
    factors = 2 * np.arange(pieces.shape[1], dtype=np.uint64) + np.uint64(1)
    return np.add.reduce(pieces * factors, axis=1, dtype=np.uint64)


def stamp_bytes(name: str) -> int:
    """Bytes of the stamp of a matrix of that name, whatever else it says."""
    return 256 + 12 * len(name)


@dataclass(frozen=True)
class Stamp:
    """Whose numbers these are.

    Attributes:
        network: drawn when the folder was made.
        name: of the matrix, "0.W".
        commit: which commit of the network, counted from 1, they counted with first.
        token: drawn for that commit, so that two copies of a folder that both trained on do not mix.
    """

    network: str
    name: str
    commit: int
    token: str

    def pack(self) -> HostArray:
        """A line of `stamp_bytes` bytes, with its checksum; it begins with the end of a line as well."""
        text = json.dumps({"format": _FORMAT} | asdict(self)).encode()
        line = b"\n%08x %s" % (zlib.crc32(text), text)
        return np.frombuffer(line.ljust(stamp_bytes(self.name) - 1) + b"\n", np.uint8)

    @classmethod
    def unpack(cls, end: bytes) -> Stamp | None:
        """That at the end of a file, of which `end` are the last bytes; None where there is none, or a damaged one."""
        line = end[end.rfind(b"\n", 0, len(end) - 1) + 1 :].rstrip()
        crc, _, text = line.partition(b" ")
        try:
            if len(crc) != 8 or int(crc, 16) != zlib.crc32(text):
                return None
            found = json.loads(text)
            if found.pop("format") != _FORMAT:
                return None
            stamp = cls(**found)
            return stamp if type(stamp.commit) is int and isinstance(stamp.name, str) else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def difference(self, expected: Stamp) -> str | None:
        """What is wrong where `expected` should stand: both, by name."""
        if self.name != expected.name:
            return f"holds {self.name} and should hold {expected.name}: files have been exchanged or renamed"
        if self.network != expected.network:
            return (
                f"holds {self.name} of another network ({self.network}) and should hold that of this one "
                f"({expected.network})"
            )
        if self.commit != expected.commit:
            return (
                f"holds {self.name} of commit {self.commit} of the network and should hold that of commit "
                f"{expected.commit}: it belongs to another step"
            )
        if self.token != expected.token:
            return (
                f"holds {self.name} of a commit {self.commit} ({self.token}) of another copy of the network, which has "
                f"trained differently, and should hold that of this one ({expected.token})"
            )
        return None
