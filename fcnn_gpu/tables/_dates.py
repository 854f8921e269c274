"""Dates as people write them in cells, parsed by Python's datetime."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from .._types import HostArray

ISO = "ISO 8601"
_ISO = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}(-[0-9]{2})?)([T ](?P<time>[0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?)"
    r" ?(?P<zone>Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y",
    "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%Y", "%m-%d-%Y", "%d-%m-%y", "%m-%d-%y",
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%d. %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
    "%a %b %d %Y", "%a, %d %b %Y", "%b %Y", "%B %Y", "%b-%Y", "%m/%Y", "%Y%m%d",
)  # fmt: skip
_TIMES = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    "T%H:%M:%S",
    " %H:%M:%S %z",
)
_CLOCK = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
_SHOWN = {"Y": "YYYY", "y": "YY", "m": "MM", "d": "DD", "b": "Mon", "B": "Month", "H": "hh", "I": "hh", "M": "mm"}
_SHOWN |= {"S": "ss", "f": "ffffff", "a": "Day", "p": "AM", "z": "±hhmm"}
_LOOKED_AT = 200
_SHAPE = re.compile(r"[0-9]{1,4}[-/. ]|([A-Za-z]{3} )?[A-Za-z]{3,9},?[- ][0-9]|[0-9]{1,2}:[0-9]{2}|[0-9]{8}")
"""How a date begins: what does not is not looked at further."""
_DAY_FIRST, _MONTH_FIRST = ("%d/%m", "%d-%m"), ("%m/%d", "%m-%d")


@dataclass(frozen=True)
class DateFormat:
    """How a column writes its dates: `ISO`, or a format of `datetime.strptime`."""

    pattern: str = ISO

    def parse(self, words: Sequence[str]) -> HostArray:
        """The times, datetime64[us], those with an offset in UTC; NaT where a word is none in this format.

        >>> DateFormat("%d.%m.%Y").parse(["24.12.2025", "12.24.2025"])
        array(['2025-12-24T00:00:00.000000',                        'NaT'],
              dtype='datetime64[us]')
        """
        times = _whole_iso(words) if self.pattern == ISO else _of_one_width(self.pattern, words)
        return np.array([self._time(word) for word in words], "datetime64[us]") if times is None else times

    @property
    def is_clock(self) -> bool:
        """Whether it is the time of a day that is not said."""
        return self.pattern in _CLOCK

    def describe(self) -> str:
        """As people write it: DD.MM.YYYY."""
        text = self.pattern
        for code, shown in _SHOWN.items():
            text = text.replace(f"%{code}", shown)
        return text

    def _time(self, word: str) -> datetime | None:
        try:
            if self.pattern == ISO:
                match = _ISO.fullmatch(word)
                if match is None:
                    return None
                text = match["day"] if match[2] else f"{match['day']}-01"
                if match["time"]:
                    text += f"T{match['time']}{(match['zone'] or '').replace('UTC', 'Z')}"
                time = datetime.fromisoformat(text)
            else:
                time = datetime.strptime(word, self.pattern)
        except ValueError:
            return None
        return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _whole_iso(words: Sequence[str]) -> HostArray | None:
    """What `DateFormat.parse` gives for words that are all YYYY-MM-DD, or all YYYY-MM-DD hh:mm:ss; None for others."""
    length = len(words[0]) if words else 0
    if length not in (10, 19) or any(len(word) != length for word in words):
        return None
    texts = np.array(words, f"U{length}")
    letters = texts.view(np.uint32).reshape(len(words), length)
    marks = {4: "-", 7: "-", 10: " T", 13: ":", 16: ":"}
    for i in range(length):
        here = letters[:, i]
        known = marks.get(i, "0123456789")
        if not ((here >= ord(known[0])) & (here <= ord(known[-1]))).all():
            return None
        if len(known) == 2 and not ((here == ord(known[0])) | (here == ord(known[1]))).all():
            return None
    try:
        times = texts.astype("datetime64[us]")
    except ValueError:  # no day, or no time of one
        return None
    return times if (times >= np.datetime64("0001-01-01")).all() else None


_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "f": 6, "p": 2}
_FEW = 32
"""Words that are as well read one by one."""


def _of_one_width(pattern: str, words: Sequence[str]) -> HostArray | None:
    """What `DateFormat.parse` gives for many words of numbers with all their zeros; None for others.

    Letter by letter for all words at once, which takes a tenth of the time of `datetime.strptime`.
    """
    pieces = re.split("%([A-Za-z])", pattern)
    if len(words) < _FEW or not _WIDTHS.keys() >= set(pieces[1::2]):
        return None
    length = sum(_WIDTHS[piece] if i % 2 else len(piece) for i, piece in enumerate(pieces))
    if any(len(word) != length for word in words):
        return None
    letters = np.array(words, f"U{length}").view(np.uint32).reshape(len(words), length)
    fields: dict[str, HostArray] = {}
    at = 0
    for i, piece in enumerate(pieces):
        if i % 2 and piece != "p":
            digits = letters[:, at : at + _WIDTHS[piece]].astype(np.int64) - ord("0")
            if ((digits < 0) | (digits > 9)).any():
                return None
            fields[piece] = digits @ 10 ** np.arange(digits.shape[1] - 1, -1, -1)
        elif i % 2:
            half = letters[:, at : at + 2] & ~np.uint32(0x20)  # in capitals
            if ((half[:, 0] != ord("A")) & (half[:, 0] != ord("P"))).any() or (half[:, 1] != ord("M")).any():
                return None
            fields[piece] = (half[:, 0] == ord("P")).astype(np.int64)
        elif (letters[:, at : at + len(piece)] != [ord(letter) for letter in piece]).any():
            return None
        at += _WIDTHS[piece] if i % 2 else len(piece)
    return _times_of(fields, len(words))


def _times_of(fields: dict[str, HostArray], n: int) -> HostArray:
    """datetime64[us] of years, months, ..., NaT where there is no such day or time; as `datetime.strptime` has them."""
    zero, one = np.zeros(n, np.int64), np.ones(n, np.int64)
    year = fields.get("Y", zero + 1900)
    if "y" in fields:
        year = fields["y"] + np.where(fields["y"] < 69, 2000, 1900)
    month, day = fields.get("m", one), fields.get("d", one)
    hour, minute, second = (fields.get(code, zero) for code in "HMS")
    right = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (second < 60)
    if "I" in fields:
        right &= (fields["I"] >= 1) & (fields["I"] <= 12)
        hour = fields["I"] % 12 + 12 * fields.get("p", zero)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    right &= days.astype("datetime64[M]") == months
    micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fields.get("f", zero)
    times = days.astype("datetime64[us]") + micros
    return np.where(right, times, np.datetime64("NaT", "us"))


@dataclass(frozen=True)
class DateWriting:
    """A format that fits a column's words, the share of the values that it reads, the words that it does not, and
    whether day and month may as well be the other way round."""

    format: DateFormat
    share: float
    odd: tuple[str, ...]
    ambiguous: bool


def date_writing_of(words: Sequence[str], counts: HostArray, day_first: bool | None = None) -> DateWriting | None:
    """How `words`, which occur `counts` times, write dates; None where they write none.

    `day_first`: which comes first in 03/04/2025, where no word says it; None: the month with slashes, else the day.

    >>> date_writing_of(["2025-01-31", "2025-02-01"], np.array([1, 1])).format.pattern
    'ISO 8601'
    """
    step = max(1, len(words) // _LOOKED_AT)
    some, often = words[::step][:_LOOKED_AT], counts[::step][:_LOOKED_AT]
    have_shape = np.array([_SHAPE.match(word) is not None for word in some], bool)
    shaped = [word for word, has_shape in zip(some, have_shape, strict=True) if has_shape]
    if not shaped or often[have_shape].sum() < 0.5 * often.sum():
        return None
    fitting = [form for form in all_formats() if _fits(form, shaped)]
    if not fitting:
        return None
    best = max(fitting, key=lambda form: np.count_nonzero(~np.isnat(form.parse(shaped))))  # the first of equals
    other = _swapped(best)
    if other is not None:
        readable = [int(counts[~np.isnat(form.parse(words))].sum()) for form in (best, other)]
        ambiguous = readable[0] == readable[1]
        if ambiguous:
            first = day_first if day_first is not None else "/" not in best.pattern
            begins = _DAY_FIRST if first else _MONTH_FIRST
            best = best if best.pattern.startswith(begins) else other
        elif readable[1] > readable[0]:
            best = other
    else:
        ambiguous = False
    there = ~np.isnat(best.parse(words))
    total = int(counts.sum())
    odd = tuple(word for word, fits in zip(words, there, strict=True) if not fits)
    return DateWriting(best, float(counts[there].sum() / total), odd, ambiguous)


def all_formats() -> Iterator[DateFormat]:
    """Every format that is known."""
    yield DateFormat(ISO)
    for pattern in _CLOCK:
        yield DateFormat(pattern)
    for day in _DAYS:
        for time in _TIMES:
            yield DateFormat(day + time)


def _fits(form: DateFormat, words: Sequence[str]) -> bool:
    """Whether the format reads some of the first words: cheaply, as most formats read none."""
    if all(form._time(word) is None for word in words[:5]):
        return False
    return bool(np.count_nonzero(~np.isnat(form.parse(words))) >= 0.5 * len(words))


def _swapped(form: DateFormat) -> DateFormat | None:
    """The format with day and month the other way round, where both begin it."""
    for day, month in zip(_DAY_FIRST, _MONTH_FIRST, strict=True):
        for mine, other in ((day, month), (month, day)):
            if form.pattern.startswith(mine):
                return DateFormat(other + form.pattern[len(mine) :])
    return None
