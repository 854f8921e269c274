"""Argument checks that say who was asked, what was expected, what came, and what to try."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}
_UNITS = {"B": 1, **{f"{p}{i}B": (1024 if i else 1000) ** e for e, p in enumerate("KMGT", 1) for i in ("", "i")}}


class RowError(ValueError):
    """One sample cannot be used; "{row}" in the text stands for where it is.

    >>> error = RowError("X holds nan ({row}).", 3)
    >>> str(error), error.at("train.csv, line 5")
    ('X holds nan (row 3).', 'X holds nan (train.csv, line 5).')
    """

    def __init__(self, text: str, row: int) -> None:
        super().__init__(text, row)
        self.text, self.row = text, row

    def __str__(self) -> str:
        return self.at(f"row {self.row}")

    def at(self, place: str) -> str:
        """The message with another name for the row."""
        return self.text.replace("{row}", place)


_MOST_NAMES = 50
"""Of many, as of the columns of wide tables, an error names the first."""


def suggest(name: object, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """The sentence that follows "unknown ...": the nearest known name, if one is near, then the first 50 of all.

    `also`: names that may be the nearest as well, but are not listed.

    >>> suggest("rleu", ["relu", "tanh"])
    "Did you mean 'relu'? Known names: relu, tanh."
    >>> suggest("prise", ["PRICE", "AREA"])
    "Did you mean 'PRICE'? Known names: AREA, PRICE."
    """
    names = sorted(known)
    by_letters = {name.lower(): name for name in (*also, *reversed(names))}
    nearest = difflib.get_close_matches(str(name)[:100].lower(), by_letters, n=1, cutoff=0.5)
    hint = f"Did you mean {by_letters[nearest[0]]!r}? " if nearest else ""
    more = f", ... ({len(names):,} in all)" if len(names) > _MOST_NAMES else ""
    return f"{hint}Known names: {', '.join(names[:_MOST_NAMES])}{more}."


def match_names(
    known: Sequence[str],
    found: Sequence[str],
    what: str,
    remedy: str,
    *,
    ignore_extra: bool = False,
    kind: str = "features",
) -> list[int]:
    """Where each of the `known` names stands among those `found`.

    ValueError for names that are missing, and for others beside them unless they are to be ignored. `what` begins the
    message, `remedy` ends it.

    >>> match_names(["a", "b"], ["b", "a"], "X", "")
    [1, 0]
    """
    places = {name: place for place, name in enumerate(found)}
    missing, extra = [name for name in known if name not in places], sorted(set(found) - set(known))
    faults = [f"lacks {_listed(missing)}"] if missing else []
    faults += [f"has {_listed(extra)}, which the model does not know"] if extra and not ignore_extra else []
    if faults:
        end = f" {remedy}." if remedy else ""
        raise ValueError(f"{what} {' and '.join(faults)}. Its {kind}: {_listed(known)}.{end}")
    return [places[name] for name in known]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 10 else shown


def check_choice(who: str, value: object, known: Iterable[str]) -> str:
    """`value` if it is one of `known`; otherwise a ValueError that suggests the nearest name."""
    choices = list(known)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{who} does not know {value!r}. {suggest(value, choices)}")
    return value


def check_real(
    who: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """`value` as a Python float inside an interval whose ends are closed unless said otherwise.

    >>> check_real("Dropout(p)", 0.5, low=0, high=1, high_open=True)
    0.5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{who} expects a number, got {value!r} ({type(value).__name__}).")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the range of float
        number = math.inf
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if math.isnan(number) or below or above or math.isinf(number):
        interval = _interval(low, high, low_open, high_open)
        raise ValueError(f"{who} expects a finite number {interval}, got {value}.")
    return number


def check_in_dtype(who: str, value: float, dtype: Any) -> None:
    """A ValueError where a float dtype has no normal number for `value`: computing with it would take 0 or infinity.

    >>> check_in_dtype("Huber(delta)", 1e-50, "float64")
    >>> check_in_dtype("Huber(delta)", 1e-50, "float32")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: Huber(delta) is 1e-50, but float32 reaches from 1.18e-38 to 3.4e+38. Take a number in this range, ...
    """
    limits = np.finfo(dtype)
    smallest, largest = float(limits.tiny), float(limits.max)
    if value and not smallest <= abs(value) <= largest:
        remedy = ", or 'float64' as the network's dtype" if limits.bits < 64 else ""
        raise ValueError(
            f"{who} is {value:g}, but {limits.dtype.name} reaches from {smallest:.3g} to {largest:.3g}. Take a number "
            f"in this range{remedy}."
        )


def check_settings(member: Any, dtype: Any) -> None:
    """`check_in_dtype` of every number among the fields of a dataclass, and of the members that are fields of it."""
    for field in dataclasses.fields(member) if dataclasses.is_dataclass(member) else ():
        value = getattr(member, field.name, None)
        if isinstance(value, float):
            check_in_dtype(f"{type(member).__name__}({field.name})", value, dtype)
        elif field.init and not isinstance(value, type):
            check_settings(value, dtype)


def check_integer(who: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """`value` as a Python int that is at least `low` and at most `high`.

    >>> check_integer("batch_size", 32, low=1)
    32
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{who} expects an integer, got {value!r} ({type(value).__name__}).")
    number = int(value)
    if low is not None and number < low:
        raise ValueError(f"{who} expects an integer of at least {low}, got {number}.")
    if high is not None and number > high:
        raise ValueError(f"{who} expects an integer of at most {high:,}, got {number:,}.")
    return number


def check_port(who: str, value: Any) -> int:
    """`value` as the number of a TCP port; 0 stands for a free one."""
    return check_integer(who, value, low=0, high=2**16 - 1)


def check_bool(who: str, value: Any) -> bool:
    """`value` if it is True or False; a TypeError for anything else, numbers and strings included."""
    if not isinstance(value, bool):
        raise TypeError(f"{who} expects True or False, got {value!r} ({type(value).__name__}).")
    return value


def _interval(low: float, high: float, low_open: bool, high_open: bool) -> str:
    if math.isinf(low) and math.isinf(high):
        return "of any sign"
    if math.isinf(high):
        return f"{'greater than' if low_open else 'of at least'} {low:g}"
    if math.isinf(low):
        return f"{'less than' if high_open else 'of at most'} {high:g}"
    return f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"


def check_seconds(who: str, value: Any) -> float | None:
    """A time in seconds, above 0: a number, or text with s, min (or m) or h; None stays.

    >>> check_seconds("fit(time_limit)", "1.5 h")
    5400.0
    """
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", value)
        unit = _SECONDS.get(match[2].lower() or "s") if match else None
        if match is None or unit is None:
            raise ValueError(f"{who} expects seconds, or a time like '90s', '10min' or '1.5h', got {value!r}.")
        value = float(match[1]) * unit
    return check_real(who, value, low=0.0, low_open=True)


def check_bytes(who: str, value: Any) -> int | None:
    """A number of bytes: an integer, or text with a unit; None stays.

    >>> check_bytes("fit(memory_limit)", "1.5 GiB")
    1610612736
    """
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]+)\s*", value)
        unit = {name.lower(): size for name, size in _UNITS.items()}.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ValueError(f"{who} expects a number of bytes or text like '4 GiB' or '500 MB', got {value!r}.")
        value = int(float(match[1]) * unit)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{who} expects a number of bytes or text like '4 GiB', got {value!r} ({type(value).__name__})."
        )
    if value < 1:
        raise ValueError(f"{who} expects at least one byte, got {value}.")
    return value
