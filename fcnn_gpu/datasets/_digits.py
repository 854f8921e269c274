"""Whether a dtype holds the digits of a data set: what rounding moves its numbers by, beside how far they spread.

A number x rounded to a dtype with the machine epsilon ε moves by up to ε|x|/2. In a column of mean μ and standard
deviation σ that is a noise of about ε|μ|/σ in units of σ, and standardizing afterwards, (x − μ)/σ, does not undo it:
float32 holds a time stamp of 1.7·10⁹ seconds to 64 seconds. So what lies far from 0 beside its spread is kept in
float64, and μ is subtracted there (Goldberg 1991, "What every computer scientist should know about floating-point
arithmetic", on cancellation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import DType, HostArray
from .._warnings import warn

HELD = 1e-5
"""Rounding of this many standard deviations of a column is none: no network's error is as small."""
NOTICED = 1e-4
"""Rounding of more than this is worth a warning where nothing can be done about it here."""
_NOISE = 2
"""Fractions that spread by no more of float64's steps are one number, computed in several ways: rows that sum to 1."""
_AT_ONCE = 2**20
"""Numbers that are looked at at a time."""
_SAMPLE_ROWS = 256
"""Rows that tell a spread to a few percent."""
_MORE_ROWS = 16
"""Rows of each piece that comes after as many."""
_HALF = 2.0**32


class DigitsWarning(UserWarning):
    """A column's numbers are rounded by more than a small part of their spread; the message names it and a remedy."""


class Digits:
    """Spread and rounding of the columns of a matrix that comes piece by piece.

    Args:
        dtype: what the numbers are rounded to.
        center: (n_columns,) float64, subtracted before; None: nothing is.

    >>> digits = Digits(np.float32)
    >>> digits.add(np.array([[1.0, 1.7e9 + 1], [2.0, 1.7e9 + 2]]))
    >>> digits.rounding / digits.spread > NOTICED
    array([False,  True])
    """

    def __init__(self, dtype: Any, center: HostArray | None = None) -> None:
        self.n = 0
        self._dtype, self._center = np.dtype(dtype), center
        self._first: HostArray | None = None
        """The first row: means and squares are of what is left of it, so that they cancel nothing."""
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._moved: Any = 0.0
        self._largest: Any = 0.0
        self._whole: Any = True

    def add(self, rows: HostArray) -> None:
        """Take in rows (n, n_columns), or numbers (n,), of real numbers."""
        if not len(rows):
            return
        rows = rows.reshape(len(rows), -1)
        if self._first is None:
            self._first = rows[:1].copy()
        n, m = self.n, len(rows)
        with np.errstate(all="ignore"):  # NaN, infinity and what is out of range are others' to refuse
            apart, values = difference(rows, self._first), _floats(rows)
            mean = apart.mean(axis=0)
            step = mean - self._mean
            self._squares = self._squares + ((apart - mean) ** 2).sum(axis=0) + step**2 * (n * m / (n + m))
            self._mean = self._mean + step * (m / (n + m))
            kept = values if self._center is None else difference(rows, self._center)
            moved = kept - kept.astype(self._dtype)
            if self._center is None and _is_long(rows.dtype):
                moved += difference(rows, values)
            self._moved = self._moved + (moved**2).sum(axis=0)
            self._largest = np.maximum(self._largest, np.abs(values).max(axis=0))
            self._whole = self._whole & (values == np.floor(values)).all(axis=0)
        self.n = n + m

    def add_sample(self, rows: HostArray) -> None:
        """Take in some of these rows, spread out: as many as tell a spread, and no more than costs little."""
        self.add(some_rows(rows, _SAMPLE_ROWS if self.n < _SAMPLE_ROWS else _MORE_ROWS))

    @property
    def spread(self) -> HostArray:
        """The standard deviation (divided by n) of each column."""
        return np.sqrt(self._squares / self.n)

    @property
    def rounding(self) -> HostArray:
        """The root of the mean square by which the dtype moves the numbers of each column."""
        return np.sqrt(self._moved / self.n)

    def warn(self, who: str, names: Sequence[str] | None, remedy: str) -> None:
        """A `DigitsWarning` where the dtype loses digits of a column that is not constant, up to float64's rounding."""
        if self.n:
            is_noise = ~self._whole & (self.spread <= _NOISE * np.spacing(self._largest))
            self._warn(np.where(is_noise, 0.0, self.rounding), self._dtype.name, who, names, remedy)

    def warn_of_float64(self, who: str, names: Sequence[str] | None, remedy: str) -> None:
        """The same where numbers that came in float64 were rounded by that; whole numbers below 2⁵³ are exact in it."""
        if self._first is not None and self._first.dtype == np.float64:
            exact = self._whole & (self._largest < 2.0**53)
            self._warn(np.where(exact, 0.0, np.spacing(self._largest) / np.sqrt(12)), "float64", who, names, remedy)

    def _warn(self, rounding: HostArray, dtype: str, who: str, names: Sequence[str] | None, remedy: str) -> None:
        spread = self.spread
        lost = np.flatnonzero((spread > 0) & (rounding > NOTICED * spread))
        if not len(lost):
            return
        worst = int(lost[(rounding[lost] / spread[lost]).argmax()])
        column = f"column {worst}" + (f" ({names[worst]!r})" if names is not None and len(names) == len(spread) else "")
        others = f" and those of {len(lost) - 1} more" if len(lost) > 1 else ""
        warn(
            f"{who}: the numbers of {column}{others} lose their digits: they reach {self._largest[worst]:.6g} and "
            f"spread by {spread[worst]:.3g}, and {dtype} rounds them by {rounding[worst]:.2g}. {remedy}",
            DigitsWarning,
        )


def some_rows(rows: HostArray, n: int = _SAMPLE_ROWS) -> HostArray:
    """At most n of these rows, spread out, and fewer where they are long."""
    width = max(1, int(np.prod(rows.shape[1:], dtype=np.int64)))
    return rows[:: max(1, -(-len(rows) // max(2, min(n, _AT_ONCE // width))))]


def surely_held(rows: HostArray, dtype: Any) -> bool:
    """Whether the dtype holds the digits of every column of rows (n, n_columns), by their ends alone.

    Of n numbers that span r the standard deviation is at least r/√(2n), and none is rounded by more than ε|x|.
    """
    limits = np.finfo(dtype)
    with np.errstate(all="ignore"):
        low, high = rows.min(axis=0), rows.max(axis=0)
        apart = difference(high, low)
        rounding = limits.eps * np.maximum(np.abs(_floats(low)), np.abs(_floats(high))) + limits.smallest_subnormal
        return bool(((apart == 0) | (rounding <= NOTICED * apart / np.sqrt(2 * len(rows)))).all())


def may_round(given: DType, dtype: DType) -> bool:
    """Whether numbers of one dtype may have digits that another lacks, which is worth a look."""
    if given == dtype:
        return False
    if given.kind in "iu":
        return given.itemsize >= dtype.itemsize
    return given.kind == "f" and given.itemsize > dtype.itemsize


def difference(x: HostArray, y: HostArray) -> HostArray:
    """x − y in float64, with one rounding at the end: also for whole numbers of 64 bits, which float64 cannot hold."""
    if not (_is_long(x.dtype) or _is_long(y.dtype)):
        return np.subtract(_floats(x), _floats(y))
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    return (x_high - y_high) * _HALF + (x_low - y_low)


def _is_long(dtype: DType) -> bool:
    return dtype.kind in "iu" and dtype.itemsize == 8


def _halves(x: HostArray) -> tuple[HostArray, HostArray]:
    """x = high·2³² + low, both of them exact in float64, 0 ≤ low < 2³²."""
    if _is_long(x.dtype):
        return (x >> 32).astype(np.float64), (x & 0xFFFFFFFF).astype(np.float64)
    values = _floats(x)
    high = np.floor(values / _HALF)
    return high, values - high * _HALF


def _floats(x: HostArray) -> HostArray:
    return x.astype(np.float64, copy=False)


def exactly_narrowed(values: HostArray) -> HostArray:
    """Real numbers as float32 if that holds each of them exactly, else as float64."""
    if not may_round(values.dtype, np.dtype(np.float32)):
        return values.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        exact = not difference(values, single).any() if _is_long(values.dtype) else np.array_equal(single, values)
    return single if exact else _floats(values)


def narrowed(parts: Sequence[HostArray], who: str, names: Sequence[str] | None = None) -> list[HostArray]:
    """The parts of a data set, (n,) or (n, n_columns), as float32 if that holds the digits of every column.

    Else all of them as float64. Rounding may move a column by 10⁻⁵ of its standard deviation; a constant one must be
    held exactly. A `DigitsWarning` says where float64 does not hold a column's digits either.

    >>> [y.dtype for x in (0.0, 1e6) for y in narrowed([np.array([x + 0.1, x + 0.2])], "y")]
    [dtype('float32'), dtype('float64')]
    """
    if all(values.dtype == np.float32 for values in parts):
        return list(parts)
    digits = Digits(np.float32)
    for values in parts:
        rows = max(1, _AT_ONCE // max(1, int(np.prod(values.shape[1:], dtype=np.int64))))
        for start in range(0, len(values), rows):
            digits.add(values[start : start + rows])
    digits.warn_of_float64(who, names, "Subtract an offset before the numbers are written.")
    dtype = np.float32 if digits.n and bool((digits.rounding <= HELD * digits.spread).all()) else np.float64
    return [values.astype(dtype, copy=False) for values in parts]
