"""Columns of Python objects and of NumPy arrays."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from .._types import HostArray
from ._column import LARGEST_EXACT, Column, empty_column, number_word, text_column

_NUMBERS = (numbers.Real, Decimal)
_DATES = (datetime.date, np.datetime64)  # a datetime is a date
_SPANS = (datetime.timedelta, np.timedelta64)
_MISSING = ("NAType", "NaTType")
"""pandas' NA and NaT, which need no pandas to be known."""


def object_column(name: str, values: Sequence[Any]) -> Column:
    """A column of Python objects: what all of them are. Numbers, dates and text beside each other become text."""
    there = [value for value in values if not _is_missing(value)]
    if not there:
        return empty_column(name, len(values))
    kinds = set(map(type, there))
    if kinds <= {str}:
        return text_column(name, [value if isinstance(value, str) else None for value in values])
    known = (str, bool, np.bool_, datetime.time, *_NUMBERS, *_DATES)
    foreign = {kind for kind in kinds if not issubclass(kind, known)}
    if foreign and not all(issubclass(kind, _SPANS) for kind in kinds):
        shown = ", ".join(sorted(kind.__name__ for kind in foreign))
        missing = np.array([-1 if _is_missing(value) else 0 for value in values], np.int8)
        return Column(name, "other", missing, holds=f"{shown} values")
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return Column(name, "boolean", _floats(values))
    if all(issubclass(kind, _SPANS) for kind in kinds):
        return array_column(name, np.array([None if _is_missing(v) else v for v in values], "timedelta64[us]"))
    if all(issubclass(kind, numbers.Integral) for kind in kinds) and max(map(abs, there)) > LARGEST_EXACT:
        return text_column(name, [None if _is_missing(value) else str(value) for value in values])
    if all(issubclass(kind, _NUMBERS) for kind in kinds):
        return Column(name, "number", _floats(values))
    if all(issubclass(kind, _DATES) for kind in kinds):
        return Column(name, "date", np.array([_time(value) for value in values], "datetime64[us]"))
    return text_column(name, [None if _is_missing(value) else _text(value) for value in values])


def array_column(name: str, values: HostArray) -> Column:
    """A column of a NumPy array (n,) of any dtype."""
    kind = values.dtype.kind
    if kind == "b":
        return Column(name, "boolean", values.astype(np.float64))
    if kind in "iu" and values.size and max(-int(values.min()), int(values.max())) > LARGEST_EXACT:
        return text_column(name, list(map(str, values.tolist())))
    if kind in "iuf":
        return Column(name, "number", values.astype(np.float64))
    if kind == "M":
        return Column(name, "date", values.astype("datetime64[us]"))
    if kind == "m":
        return Column(name, "number", seconds(values))
    if kind in "US":
        return text_column(name, np.char.decode(values).tolist() if kind == "S" else values.tolist())
    if kind == "O":
        return object_column(name, values.tolist())
    return Column(name, "other", np.zeros(len(values), np.int8), holds=f"{values.dtype} values")


def seconds(spans: HostArray) -> HostArray:
    """Spans of time (timedelta64) as seconds, float64; NaN for NaT."""
    return np.where(np.isnat(spans), np.nan, spans / np.timedelta64(1, "s"))


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in _MISSING:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float | np.floating) and math.isnan(value)


def _floats(values: Sequence[Any]) -> HostArray:
    return np.array([np.nan if _is_missing(value) else _float(value) for value in values], np.float64)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # of whole numbers and fractions of hundreds of digits
        return math.copysign(math.inf, value)


def _time(value: Any) -> Any:
    if _is_missing(value):
        return np.datetime64("NaT")
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(value, "us")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, bool | np.bool_ | datetime.date | datetime.time):
        return str(value)
    return str(value) if isinstance(value, int) else number_word(_float(value))
