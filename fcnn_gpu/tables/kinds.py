"""What the columns of a table are: inferred from their values, each with its reason, each to be overruled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._checks import suggest
from .._types import HostArray
from ._column import LARGEST_EXACT, Column, canonical, number_word, yes_last
from ._dates import DateFormat, DateWriting, date_writing_of
from ._from_csv import SEMICOLONS
from ._numbers import NumberFormat, Writing, writing_of
from .table import Table

USED = ("number", "category", "yes_no", "date")
"""The kinds that become inputs."""
LEFT_OUT = ("id", "constant", "text", "other", "ignored")
GIVEN = {
    "number": "numbers, their decimal mark as the column shows it",
    "decimal_comma": "numbers such as 1.234,5",
    "decimal_point": "numbers such as 1,234.5",
    "category": "each different value for itself",
    "yes_no": "two values",
    "date": "dates, in the order that the column shows",
    "day_first": "dates such as 31/12/2025",
    "month_first": "dates such as 12/31/2025",
    "ignore": "left out",
}
"""What a column can be said to be."""

_MOSTLY = 0.9
"""From this share of a column's values on, what the others are counts as missing."""
_MOST_ODD = 12
"""Different words that may be among numbers or dates."""
_HALF, _FEW_ODD, _TIMES_ODD = 0.5, 2, 10
"""From a smaller share on, one or two words may be among at least ten times as many: "unknown" in a third of rows."""
_ALL_DIFFERENT = 0.9
_MOSTLY_DIFFERENT = 0.5
"""The share of different texts from which on none tells anything of other rows; in small tables it is the former."""
_MOST_COMPARED = 5_000
_FEW_VALUES = 5
"""Below so many values, that all are different says nothing."""
_SENTENCE = 4.0
"""Words in a cell, on average, from which on it is text that people read."""
_ROW_NAME = re.compile(
    r"(.*[_\-. ])?(ids?|uuid|guid|row[_\-. ]?(id|nr|no|num(ber)?|index))|index|idx|unnamed: ?\d+|rownames|row"
    r"|(order|invoice|account|customer|policy|serial|ticket|transaction|phone|receipt)[_\-. ]?(no|nr|num|number)\.?",
    re.IGNORECASE,
)
_CAMEL = re.compile(r".*[a-z](Id|ID|Uuid|UUID|Guid|GUID)")
_COUNTED = 20
"""Rows from which on different whole numbers that fill a range from 0 or so are no chance."""
_FEW_IDS = 50
"""Up to so many different IDs are categories: shops, not customers."""
_CODE = re.compile(r"0[0-9]+")
_YEARS = 1500, 2200
"""Whole numbers between these are shown as years are written."""
_DAYS = (19000101, 21001231)


class TableError(ValueError):
    """A table, or what was said of its columns, cannot be used; all that is wrong with it is in the message."""


@dataclass(frozen=True)
class ColumnKind:
    """What a column is.

    Attributes:
        name: the column.
        kind: number, category, yes_no or date, which become inputs; id, constant, text, other or ignored, which do not.
        reason: why.
        number_format: how numbers are written that the table has as text.
        date_format: how dates are.
        odd: words among numbers or dates that count as missing.
        given: whether the user said so.
    """

    name: str
    kind: str
    reason: str
    number_format: NumberFormat | None = None
    date_format: DateFormat | None = None
    odd: tuple[str, ...] = ()
    given: bool = False

    @property
    def is_used(self) -> bool:
        return self.kind in USED


def infer_kinds(
    table: Any, columns: Mapping[str, str] | None = None, ignore: Iterable[str | int] = ()
) -> list[ColumnKind]:
    """The kind of each column, in order.

    Args:
        table: a `Table`, or what `Table.of` makes one of: a DataFrame, a mapping of columns.
        columns: what some of them are: names (or numbers) to the keys of `GIVEN`.
        ignore: columns to leave out.

    Raises:
        TableError: a column that is named is not there, or cannot be what it is said to be; all of them in one message.

    >>> table = Table.of({"age": [31, 42, 57], "smokes": ["no", "yes", "no"], "town": ["Rome", "Oslo", "Bonn"]})
    >>> for kind in infer_kinds(table, {"town": "category"}):
    ...     print(kind.name, kind.kind, "-", kind.reason)
    age number - 31 to 57
    smokes yes_no - no or yes
    town category - as given: 3 different values
    """
    table = Table.of(table, "infer_kinds")
    said = _said(table, {} if columns is None else columns, [ignore] if isinstance(ignore, str | int) else ignore)
    hint = _decimal_mark(table, said)
    found: list[ColumnKind] = []
    faults: list[str] = []
    for column in table.columns:
        given = said.get(column.name)
        try:
            kind = _inferred(column, hint, table.has_names) if given is None else _as_given(column, given, hint)
            found.append(kind)
        except TableError as error:
            faults.append(str(error))
    if faults:
        raise TableError(joined(table.source, faults))
    if not any(kind.is_used for kind in found):  # x = 0, 1, 2, ... is all that there is
        found = [
            replace(k, kind="number", reason=f"{k.reason}, and is the only input") if k.reason == _COUNTS else k
            for k in found
        ]
    return found


def _said(table: Table, columns: Mapping[str, str], ignore: Iterable[str | int]) -> dict[str, str]:
    """What the user says of columns, by their names."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns are a mapping of names to kinds ({{'age': 'number'}}), got {columns!r}.")
    said: dict[str, str] = {}
    faults: list[str] = []
    for spec, kind in [*columns.items(), *((spec, "ignore") for spec in ignore)]:
        if not isinstance(kind, str) or kind not in GIVEN:
            faults.append(f"a column cannot be {kind!r} (for {spec!r}). {suggest(kind, GIVEN)}")
            continue
        try:
            name = table.name_of(spec)
        except ValueError as error:
            faults.append(str(error).removeprefix(f"{table.source} "))
            continue
        if said.setdefault(name, kind) != kind:
            faults.append(f"column {name!r} is to be both {said[name]!r} and {kind!r}. Say one of them.")
    if faults:
        raise TableError(joined(table.source, faults))
    return said


def joined(source: str, faults: Sequence[str]) -> str:
    """All that is wrong with a table, in one message."""
    return (
        f"{source}: {faults[0]}" if len(faults) == 1 else f"{source}:\n" + "\n".join(f"- {fault}" for fault in faults)
    )


def _decimal_mark(table: Table, said: Mapping[str, str]) -> str | None:
    """The decimal mark that the columns show in which it is beyond doubt; None where none does."""
    marks: set[str] = set()
    for column in table.columns:
        if column.storage != "text" or column.is_category or said.get(column.name, "number") != "number":
            continue
        if not any(c.isdigit() for word in column.words[:20] for c in word):
            continue
        step = max(1, len(column.words) // _MOST_COMPARED)
        writing = writing_of(column.words[::step], _counts(column)[::step])
        if writing.decided and _are_mostly(writing, column):
            marks.add(writing.format.decimal)
    if len(marks) == 1:
        return marks.pop()
    return "," if SEMICOLONS in table.notes and not marks else None


def _counts(column: Column) -> HostArray:
    """How often each word occurs."""
    return np.bincount(column.values[column.values >= 0], minlength=len(column.words))


def _inferred(column: Column, hint: str | None, may_be_index: bool) -> ColumnKind:
    n, missing = len(column), column.n_missing
    if missing == n:
        return ColumnKind(column.name, "constant", "no values")
    if column.storage == "other":
        return ColumnKind(column.name, "other", f"{column.holds}, of which nothing here makes numbers")
    if column.storage == "text":
        return _text_kind(column, hint, may_be_index)
    there = column.values[~column.missing]
    low, high = there.min(), there.max()
    if low == high:
        return _single(column, column._word(low.item()), missing)
    if column.storage == "date":
        return ColumnKind(column.name, "date", f"{str(low)[:10]} to {str(high)[:10]}")
    is_two = bool(((there == low) | (there == high)).all())
    if is_two or column.storage == "boolean":
        return ColumnKind(column.name, "yes_no", f"{column._word(low.item())} or {column._word(high.item())}")
    return _number_kind(column, there, missing, may_be_index)


def _single(column: Column, word: str, n_missing: int) -> ColumnKind:
    if n_missing:
        return ColumnKind(column.name, "yes_no", f"{_shown(word)} or missing")
    return ColumnKind(column.name, "constant", f"always {_shown(word)}")


def _number_kind(column: Column, there: HostArray, n_missing: int, may_be_index: bool) -> ColumnKind:
    low, high = float(there.min()), float(there.max())
    whole = bool((there == np.floor(there)).all())
    if whole and may_be_index:
        as_id = _whole_ids(column.name, there, len(np.unique(there)), n_missing, may_be_huge=False)
        if as_id is not None:
            return as_id
    if whole and low >= _DAYS[0] and high <= _DAYS[1] and len(there) >= _FEW_VALUES:
        form = DateFormat("%Y%m%d")
        if not np.isnat(form.parse([number_word(value) for value in np.unique(there).tolist()])).any():
            reason = f"{low:.0f} to {high:.0f}, all of them days (YYYYMMDD)"
            return ColumnKind(column.name, "date", reason, date_format=form)
    infinite = int(np.count_nonzero(np.isinf(column.values)))
    infinite_ones = "1 infinite value counts" if infinite == 1 else f"{infinite:,} infinite values count"
    note = f"; {infinite_ones} as missing" if infinite else ""
    return ColumnKind(column.name, "number", f"{_span(low, high)}{note}")


_COUNTS = "counts the rows"


def _whole_ids(name: str, there: HostArray, n_different: int, n_missing: int, may_be_huge: bool) -> ColumnKind | None:
    """Whole numbers as IDs, or as categories where there are few of them; None where they are numbers.

    `may_be_huge`: whether they are written digit by digit, however many.
    """
    n, low, high = len(there), float(there.min()), float(there.max())
    if n_different == n >= _FEW_VALUES and not n_missing:
        if low in (0, 1) and high - low == n - 1 and (n >= _COUNTED or (np.diff(there) == 1).all()):
            return ColumnKind(name, "id", _COUNTS)
        if n >= _COUNTED and 0 <= low <= 1 + (high - low) / 10 and n > 0.5 * (high - low):  # a part of the rows
            return ColumnKind(name, "id", _COUNTS)
    if n < _FEW_VALUES:
        return None
    if not _is_id_name(name):
        huge = may_be_huge and n_different == n and max(-low, high) > LARGEST_EXACT
        return ColumnKind(name, "id", "every value is different, and too large for a number") if huge else None
    if n_different == n:
        return ColumnKind(name, "id", "its name, and every value is different")
    if n_different > min(_FEW_IDS, n / 2):
        return ColumnKind(name, "id", f"its name, and {n_different:,} different values in {n:,}")
    return ColumnKind(name, "category", f"its name: {n_different:,} different values")


def _is_id_name(name: str) -> bool:
    return bool(_ROW_NAME.fullmatch(name) or _CAMEL.fullmatch(name))


def _text_kind(column: Column, hint: str | None, may_be_index: bool) -> ColumnKind:
    name, words, counts = column.name, column.words, _counts(column)
    n_there, n_missing = int(counts.sum()), column.n_missing
    if _n_different(words) == 1:
        return _single(column, words[0], n_missing)
    are_codes = any(map(_CODE.fullmatch, words)) and all(word.isascii() and word.isdigit() for word in words)
    if not (column.is_category or are_codes):
        as_numbers = _numbers_in_text(column, counts, hint, may_be_index)
        if as_numbers is not None:
            return as_numbers
        as_dates = _dates_in_text(column, counts, hint)
        if as_dates is not None:
            return as_dates
    if _n_different(words) == 2:
        first: dict[str, str] = {}
        for word in words:
            first.setdefault(canonical(word), word)
        return ColumnKind(name, "yes_no", " or ".join(_shown(first[key]) for key in sorted(first, key=yes_last)))
    different = len(words) / n_there
    if not column.is_category and n_there >= _FEW_VALUES:
        blanks = sum(word.count(" ") * int(count) for word, count in zip(words, counts, strict=True)) / n_there
        if blanks + 1 >= _SENTENCE and different > 0.3:
            return ColumnKind(name, "text", f"{blanks + 1:.0f} words a cell")
        if different > (_MOSTLY_DIFFERENT if n_there >= _COUNTED else _ALL_DIFFERENT):
            every = len(words) == n_there
            reason = "every value is different" if every else f"{len(words):,} different values in {n_there:,}"
            return ColumnKind(name, "id", reason)
        if may_be_index and _is_id_name(name) and len(words) > min(_FEW_IDS, n_there / 2):
            return ColumnKind(name, "id", f"its name, and {len(words):,} different values in {n_there:,}")
    what = "different codes, some with leading zeros" if are_codes else "different values"
    return ColumnKind(name, "category", f"{_n_different(words):,} {what}")


def _n_different(words: Sequence[str]) -> int:
    """How many different categories there are: spellings of the same one aside, unless there are very many."""
    return len(words) if len(words) > _MOST_COMPARED else len(set(map(canonical, words)))


def _numbers_in_text(column: Column, counts: HostArray, hint: str | None, may_be_index: bool) -> ColumnKind | None:
    writing = writing_of(column.words, counts, hint)
    if not _are_mostly(writing, column):
        return None
    values = writing.values
    finite = np.isfinite(values)
    there = values[finite]
    if len(there) < 1:
        return None
    different = np.unique(there)
    if len(different) <= 2 and not writing.odd and finite.all():
        if len(different) == 1:
            return _single(column, column.words[0], column.n_missing)
        shown = (column.words[int(np.flatnonzero(values == value)[0])] for value in different)
        return ColumnKind(column.name, "yes_no", " or ".join(shown), number_format=writing.format)
    if len(column.words) == 2:  # a number or a word
        return None
    if may_be_index and not writing.odd and not writing.format.affixes and bool((there == np.floor(there)).all()):
        each = np.append(values, np.nan)[column.values]
        as_id = _whole_ids(column.name, each[np.isfinite(each)], len(column.words), column.n_missing, may_be_huge=True)
        if as_id is not None:
            return as_id
    reason = _number_reason(writing, there)
    return ColumnKind(column.name, "number", reason, number_format=writing.format, odd=writing.odd)


def _are_mostly(writing: Writing | DateWriting, column: Column) -> bool:
    """Whether a column of text holds numbers or dates, and what it has else stands for their absence."""
    n_odd = len(writing.odd)
    if writing.share >= _MOSTLY:
        return n_odd <= _MOST_ODD
    return writing.share >= _HALF and 0 < n_odd <= _FEW_ODD and len(column.words) > _TIMES_ODD * n_odd


def _number_reason(writing: Writing, there: HostArray) -> str:
    reason = _span(float(there.min()), float(there.max()))
    affixes = writing.format.affixes
    if affixes:
        reason += f", in {' and '.join(affixes)}"
    if writing.format.decimal == ",":
        reason += ", with decimal commas"
    if writing.ambiguous is not None:
        value = number_word(float(writing.format.parse([writing.ambiguous])[0]))
        reason += f"; {writing.ambiguous} is read as {value} (else: decimal_comma)"
    return reason + _odd(writing.odd)


def _dates_in_text(
    column: Column, counts: HostArray, hint: str | None, day_first: bool | None = None
) -> ColumnKind | None:
    first = True if day_first is None and hint == "," else day_first
    writing = date_writing_of(column.words, counts, first)
    if writing is None or not _are_mostly(writing, column):
        return None
    times = writing.format.parse(column.words)
    there = times[~np.isnat(times)]
    shown = slice(11, 16) if writing.format.is_clock else slice(10)
    reason = f"{str(there.min())[shown]} to {str(there.max())[shown]} ({writing.format.describe()})"
    if writing.ambiguous and day_first is None:
        other = "month_first" if writing.format.pattern.startswith("%d") else "day_first"
        reason += f"; nothing tells days from months (else: {other})"
    return ColumnKind(column.name, "date", reason + _odd(writing.odd), date_format=writing.format, odd=writing.odd)


def _odd(words: Sequence[str]) -> str:
    if not words:
        return ""
    shown = ", ".join(_shown(word) for word in words[:3]) + (", ..." if len(words) > 3 else "")
    return f"; {shown} count{'s' if len(words) == 1 else ''} as missing"


def _as_given(column: Column, given: str, hint: str | None) -> ColumnKind:
    """The column as what the user says that it is; TableError where it cannot be."""
    name = column.name
    if given == "ignore":
        return ColumnKind(name, "ignored", "as given", given=True)
    if column.storage == "other":
        raise TableError(f"column {name!r} cannot be {given!r}: it holds {column.holds}.")
    if column.n_missing == len(column):
        raise TableError(f"column {name!r} cannot be {given!r}: it has no values.")
    if given in ("number", "decimal_comma", "decimal_point"):
        return _given_number(column, given, hint)
    if given in ("date", "day_first", "month_first"):
        return _given_date(column, given, hint)
    different = column.as_text()
    n_different = _n_different(different.words)
    if given == "yes_no":
        if n_different > 2:
            some = _some(different.words)
            raise TableError(f"column {name!r} cannot be 'yes_no': it has {n_different:,} different values ({some}).")
        return ColumnKind(name, given, "as given", given=True)
    return ColumnKind(name, given, f"as given: {n_different:,} different values", given=True)


def _given_number(column: Column, given: str, hint: str | None) -> ColumnKind:
    if column.storage == "date":
        raise TableError(f"column {column.name!r} cannot be {given!r}: it holds dates.")
    if column.storage != "text":
        return ColumnKind(column.name, "number", "as given", given=True)
    if given != "number":
        hint = "," if given == "decimal_comma" else "."
    writing = writing_of(column.words, _counts(column), hint)
    if given != "number":
        form = NumberFormat(str(hint), writing.format.affixes)
        bad = np.isnan(form.parse(column.words))
        odd = tuple(word for word, is_bad in zip(column.words, bad, strict=True) if is_bad)
    else:
        form, odd = writing.format, writing.odd
    values = form.parse(column.words)
    there = values[np.isfinite(values)]
    if not len(there) or len(odd) > max(_MOST_ODD, len(column.words) // 10):
        raise TableError(
            f"column {column.name!r} cannot be {given!r}: {len(odd):,} of its {len(column.words):,} different values "
            f"are no numbers ({_some(odd)})."
        )
    reason = f"as given: {_span(float(there.min()), float(there.max()))}{_odd(odd)}"
    return ColumnKind(column.name, "number", reason, number_format=form, odd=odd, given=True)


def _given_date(column: Column, given: str, hint: str | None) -> ColumnKind:
    if column.storage == "date":
        return ColumnKind(column.name, "date", "as given", given=True)
    text = column.as_text()
    first = None if given == "date" else given == "day_first"
    found = _dates_in_text(text, _counts(text), hint, first)
    if found is None:
        raise TableError(f"column {column.name!r} cannot be {given!r}: its values are no dates ({_some(text.words)}).")
    return ColumnKind(
        column.name, "date", f"as given: {found.reason}", date_format=found.date_format, odd=found.odd, given=True
    )


def _span(low: float, high: float) -> str:
    """The smallest and the largest number, with thousands, but for years.

    >>> _span(870, 10271.25), _span(1900, 2024)
    ('870 to 10,271.2', '1900 to 2024')
    """
    if low == int(low) and high == int(high) and _YEARS[0] <= low <= high <= _YEARS[1]:
        return f"{low:.0f} to {high:.0f}"
    return f"{_plain(low)} to {_plain(high)}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.6g}"


def _some(words: Sequence[str]) -> str:
    return ", ".join(_shown(word) for word in words[:4]) + (", ..." if len(words) > 4 else "")


def _shown(word: str) -> str:
    return word if len(word) <= 30 else f"{word[:29]}…"
