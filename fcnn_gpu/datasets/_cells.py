"""What one cell of a CSV file holds: a number, text, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ._files import shown

MISSING = frozenset(
    {"", "?", "na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "nan", "1.#ind", "1.#qnan", "null", "none"}
)
"""What stands for a missing number in a cell, in lower case and without a sign."""

MISSING_TEXT = MISSING - {"null", "none"}
"""What stands for a missing label: "none" may well be the name of a class."""

LARGEST = float(np.finfo(np.float32).max)


def cells_of(line: str, delimiter: str) -> Iterator[str]:
    """The cells of a line without quotes, stripped, one at a time: a line may hold a whole file."""
    start = 0
    while (stop := line.find(delimiter, start)) >= 0:
        yield line[start:stop].strip()
        start = stop + 1
    yield line[start:].strip()


def is_number(cell: str) -> bool:
    """Whether NumPy's parser reads the cell as a float, infinite and NaN included.

    >>> [is_number(cell) for cell in ("-1e5", "inf", "1_000", "10+", "")]
    [True, True, False, False, False]
    """
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()  # Python also reads 1_000 and other scripts' digits; NumPy does not


def is_missing(cell: str, kinds: frozenset[str] = MISSING) -> bool:
    """Whether the cell stands for a value that is not there.

    >>> [is_missing(cell) for cell in ("", "-nan", "N/A", "-", "0")]
    [True, True, True, False, False]
    """
    cell = cell.lower()
    return cell in kinds or (cell[:1] in ("+", "-") and len(cell) > 1 and cell[1:] in kinds)


def number_fault(cell: str) -> str | None:
    """Why a cell is no finite float32; None if it is one."""
    if is_missing(cell):
        return missing_fault(cell)
    if not is_number(cell):
        return f"expected a number, got {shown(cell)}."
    value = float(cell)
    if not math.isfinite(value) or abs(value) > LARGEST:
        return f"expected a finite number that float32 can hold, got {shown(cell)}."
    return None


def missing_fault(cell: str) -> str:
    """What is said of a cell whose value is not there."""
    return f"missing value{f' ({cell!r})' if cell else ''}. Fill or remove the row first."
