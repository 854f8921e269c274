"""One column of a table as it was read, before anybody has said what it means."""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .._types import HostArray
from ..datasets._cells import MISSING

Storage = Literal["number", "boolean", "text", "date", "other"]
"""What values a column holds; "other" are lists, structures and bytes, of which nothing here can make numbers."""

MISSING_WORDS = MISSING | {"-", "--", ".", "n.a.", "-nan", "nat", "nil", "(null)", "-1.#ind", "-1.#qnan"}
MISSING_WORDS |= {"#value!", "#div/0!", "#ref!", "#null!"}
"""Cells of text that say that there is no value, in lower case: those that R, pandas, SQL and spreadsheets write."""

_LONGEST_MISSING = max(map(len, MISSING_WORDS))
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]+)?")
_TRUTHS = ("true", "false", "yes", "no")
_BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
"""What `str.strip` strips."""
LARGEST_EXACT = 2**53
"""Whole numbers beyond this are no longer told apart as float64: columns of them stay text."""


class Column:
    """A name and n values. Nothing of it changes once it is made.

    Attributes:
        name: what the table calls it.
        storage: what the values are.
        values: (n,). Numbers and booleans: float64, NaN where one is missing. Dates: datetime64[us] (UTC where they
            had a time zone), NaT where one is missing. Text: int32, the number of its word, −1 where it is missing.
            Other: int8, −1 where it is missing.
        words: the different texts of a column of text, stripped; others have none.
        holds: of storage "other", what the values are.
        is_category: whether the table itself says that these are categories (pandas' category, Polars' Categorical and
            Enum, Arrow's dictionary).
    """

    def __init__(
        self,
        name: str,
        storage: Storage,
        values: HostArray,
        words: Sequence[str] = (),
        holds: str = "",
        is_category: bool = False,
    ) -> None:
        self.name, self.storage, self.holds, self.is_category = name, storage, holds, is_category
        self._numbered: tuple[HostArray, Sequence[str]] | None = (values, words)
        self._cells: Any = None

    @classmethod
    def of_cells(cls, name: str, cells: Any) -> Column:
        """A column of text: Arrow's strings, numbered when their numbers are first asked for."""
        column = cls(name, "text", np.empty(0, np.int32))
        column._numbered, column._cells = None, cells
        return column

    @property
    def values(self) -> HostArray:
        return self._by_number()[0]

    @property
    def words(self) -> Sequence[str]:
        return self._by_number()[1]

    def _by_number(self) -> tuple[HostArray, Sequence[str]]:
        if self._numbered is None:
            self._numbered = _numbered(self._cells)
            self._cells = None
        return self._numbered

    def __len__(self) -> int:
        cells = self._cells
        return len(self.values if cells is None else cells)

    def __repr__(self) -> str:
        return f"Column({self.name!r}: {len(self)} of {self.storage}, {self.n_missing} missing)"

    @property
    def missing(self) -> HostArray:
        """(n,) booleans: where there is no value. Infinite numbers are none."""
        if self.storage in ("text", "other"):
            return self.values < 0
        return np.isnat(self.values) if self.storage == "date" else ~np.isfinite(self.values)

    @property
    def n_missing(self) -> int:
        return int(np.count_nonzero(self.missing))

    def to_numpy(self) -> HostArray:
        """The values: float64 with NaN, datetime64 with NaT, or an array of str with None."""
        if self.storage != "text":
            return self.values
        words = np.array([*self.words, None], dtype=object)
        return words[self.values]

    def take(self, rows: HostArray) -> Column:
        """The values of these rows, by number. Words that none of them has any more go."""
        values = self.values[rows]
        if self.storage != "text":
            return self._with(values, ())
        counts = np.bincount(values[values >= 0], minlength=len(self.words))
        there = np.flatnonzero(counts)
        number = np.full(len(self.words) + 1, -1, np.int32)  # the last: of what is missing
        number[there] = np.arange(len(there), dtype=np.int32)
        return self._with(number[values], [self.words[i] for i in there.tolist()])

    def blank(self, rows: HostArray) -> Column:
        """The same values, missing in these rows; words that no other row has go."""
        values = self.values.copy()
        values[rows] = -1 if self.storage in ("text", "other") else np.nan if self.storage != "date" else "NaT"
        return self._with(values, self.words).take(np.arange(len(values)))

    def renamed(self, name: str) -> Column:
        column = copy.copy(self)
        column.name = name
        return column

    def with_words(self, words: Sequence[str]) -> Column:
        """The same column of text with other words, in the same order."""
        return self._with(self.values, words)

    def _with(self, values: HostArray, words: Sequence[str]) -> Column:
        return Column(self.name, self.storage, values, words, self.holds, self.is_category)

    def as_text(self) -> Column:
        """The same values as text: numbers as short as tells them apart, whole ones without a point."""
        if self.storage == "text":
            return self
        if self.storage == "other":
            raise TypeError(f"column {self.name!r} holds {self.holds}, which have no text")
        there = ~self.missing
        unique, codes = np.unique(self.values[there], return_inverse=True)
        values = np.full(len(self), -1, np.int32)
        values[there] = codes
        return Column(self.name, "text", values, [self._word(value) for value in unique.tolist()])

    def _word(self, value: Any) -> str:
        if self.storage == "boolean":
            return str(bool(value))
        if self.storage == "number":
            return number_word(value)
        return value.isoformat(sep=" ") if hasattr(value, "isoformat") else str(value)


def number_word(value: float) -> str:
    """A number as text, the same whatever it was kept in: whole ones without a point.

    >>> number_word(3.0), number_word(2.5)
    ('3', '2.5')
    """
    return str(int(value)) if abs(value) < LARGEST_EXACT and value == int(value) else repr(float(value))


def canonical(word: str) -> str:
    """What two spellings of the same category have in common, whatever kind of file they come from.

    "1", "1.0" and the number 1 are one, and so are True and "true", Yes and "yes"; "01" is another, since codes have
    leading zeros. Blanks of any kind and number are one blank, and letters with accents have one spelling (NFC).

    >>> [canonical(word) for word in ("1.0", "1", "01", "TRUE", "Red", "New  York")]
    ['1', '1', '01', 'true', 'Red', 'New York']
    """
    if _PLAIN.fullmatch(word):
        return number_word(float(word))
    lower = word.lower()
    if lower in _TRUTHS:
        return lower
    if not word.isascii():
        word = unicodedata.normalize("NFC", word)
    return " ".join(word.split())


def yes_last(word: str) -> tuple[bool, float, str]:
    """The order of two values: numbers by value; no before yes and false before true, which the alphabet does too.

    >>> sorted(["10", "9", "b", "a"], key=yes_last)
    ['9', '10', 'a', 'b']
    """
    try:
        return False, float(word), word
    except ValueError:
        return True, 0.0, word


def is_missing_word(word: str) -> bool:
    """Whether a stripped cell stands for a value that is not there."""
    return word.lower() in MISSING_WORDS


def empty_column(name: str, n: int) -> Column:
    """A column in which every value is missing."""
    return Column(name, "number", np.full(n, np.nan))


def text_column(name: str, cells: Any) -> Column:
    """Cells as text: stripped, numbered, and missing where a word says so or there is None.

    `cells` is a list of str and None, or a column of Arrow's strings.
    """
    return Column(name, "text", *_numbered(cells))


def _numbered(cells: Any) -> tuple[HostArray, Sequence[str]]:
    """(the number of each cell's word, −1 where it is missing; the words)."""
    if isinstance(cells, list):
        number: dict[Any, int] = {}
        raw = np.fromiter((number.setdefault(cell, len(number)) for cell in cells), np.int32, len(cells))
        found = list(number)
    else:
        encoded = one_dictionary(cells.combine_chunks().dictionary_encode())  # several dictionaries take long to unite
        raw = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        found = encoded.dictionary.to_pylist()
        if _are_words(encoded.dictionary):
            return raw, found
        found.append(None)  # at −1
    lut, words = number_words(found)
    return lut[raw], words


def one_dictionary(encoded: Any) -> Any:
    """An Arrow array with a dictionary, of a chunked one or of an array."""
    if hasattr(encoded, "unify_dictionaries"):
        encoded = encoded.unify_dictionaries().combine_chunks()
    return encoded if hasattr(encoded, "dictionary") else encoded.chunk(0)  # what empty ones are combined to


def category_column(name: str, codes: HostArray, categories: Column) -> Column:
    """Categories by number, −1 where one is missing. Those that do not occur are left out."""
    if categories.storage == "other":
        raise TypeError("categories are texts, numbers or dates")
    lut, words = number_words([*categories.as_text().to_numpy().tolist(), None])
    return Column(name, "text", lut[codes], words, is_category=True).take(np.arange(len(codes)))


def _are_words(texts: Any) -> bool:
    """Whether all of Arrow's strings are stripped, and none stands for a missing value: most columns' are."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if not compute.all(compute.equal(compute.utf8_trim(texts, characters=_BLANKS), texts)).as_py():
        return False
    short = compute.less_equal(compute.binary_length(texts), _LONGEST_MISSING)
    if not compute.any(short).as_py():
        return True
    texts = compute.filter(texts, short)
    missing = compute.is_in(compute.utf8_lower(texts), value_set=pa.array(sorted(MISSING_WORDS), texts.type))
    return not compute.any(missing).as_py()


def number_words(found: Sequence[str | None]) -> tuple[HostArray, list[str]]:
    """(the number of each text's word, the words): stripped, and −1 where it stands for a missing value."""
    number: dict[str, int] = {}
    lut = np.empty(len(found), np.int32)
    for i, text in enumerate(found):
        word = "" if text is None else text.strip()
        lut[i] = -1 if is_missing_word(word) else number.setdefault(word, len(number))
    return lut, list(number)
