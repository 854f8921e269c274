"""Which rows of a data set a model was trained on: a mark of each, kept beside the model."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from .._types import HostArray
from ..datasets._files import naming

_AT_ONCE = 2**21
_LOW_BITS = np.uint32(0xFF)
"""Of a float32, what may differ where another machine has computed the same."""
_CHUNK = 2**20


def row_marks(X: HostArray, y: HostArray) -> HostArray:
    """A number (n,) uint64 for each sample, equal for equal ones: Σ_j r_j·x_j mod 2⁶⁴, y's columns among them.

    x_j are the bits of float32, rounded to 16 digits of the mantissa, and r_j random odd numbers, always the same. Two
    different samples have the same mark with a probability of about 2⁻⁵⁶.
    """
    columns = X.shape[1] + (1 if y.ndim == 1 else y.shape[1])
    factors = np.random.default_rng(0x5EED).integers(0, 2**63, columns, np.int64).astype(np.uint64) * 2 + 1
    marks = np.empty(len(X), np.uint64)
    step = max(1, _AT_ONCE // columns)
    for start in range(0, len(X), step):
        part = slice(start, start + step)
        values = np.column_stack([X[part], y[part]]).astype(np.float32) + np.float32(0)  # -0 is 0
        bits = (values.view(np.uint32) + _LOW_BITS // 2) >> np.uint32(8)
        marks[part] = (bits.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    return marks


def known_rows(marks: HostArray, known: HostArray) -> HostArray:
    """The numbers of the rows whose marks are among the `known` ones."""
    return np.flatnonzero(np.isin(marks, known))


def digest_of(path: str | os.PathLike[str]) -> str | None:
    """The SHA-256 of a file's content; None for a folder or for what is not there."""
    if not Path(path).is_file():
        return None
    digest = hashlib.sha256()
    with naming(path), open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
