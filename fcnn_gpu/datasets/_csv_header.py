"""Whether the first line of a CSV file names its columns: one rule for all readers."""

from __future__ import annotations

import re

from ._cells import cells_of, is_missing, is_number
from ._csv import Table
from ._files import DataFileError, shown

_INTEGER = re.compile(r"[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NO_CHANCE = 3
"""So many whole numbers that increase, above columns of nothing but fractions, are no chance."""
_YEARS = range(1500, 2200)
_MOST_LOOKED_AT = 1000
"""Columns in which text is remembered: a tuple for each cell of a very wide file would take more than the file."""


def has_header(head: Table) -> bool:
    """Whether the first row of a file names its columns, as told by itself and the rows that follow.

    A cell is a number, missing ("", "?", "NA", ...: `MISSING`) or text. "Above numbers" means that the same column
    holds numbers, and nothing but missing cells beside them, in the rows that follow. The first line that applies
    decides:

    | the first row | and | it is |
    |---|---|---|
    | no number | some text is above numbers, or no cell is missing, or no row follows | the header |
    | no number | | unclear: the names of text columns, or a sample whose numbers are missing |
    | numbers and text | some text is above numbers | unclear: a name, or a label such as "10+" among {5, 10+, 7} |
    | numbers and text | some text comes again below it | a sample: labels come again, names do not |
    | numbers | they are 0, 1, 2, ..., whatever text or missing cells are between them | unclear: columns, counted |
    | numbers | 3 or more, whole, increasing, above nothing but fractions | unclear: years, wavelengths |
    | numbers | 3 or more years, one after the other: 1990, 1991, 1992 | unclear: years |
    | numbers and text | 2 or more, whole, increasing, and other text comes again below | unclear: years, a name |
    | numbers | | a sample |

    Args:
        head: the first rows of a file: the same ones whoever reads it, so that all readers come to the same verdict.

    Raises:
        DataFileError: it is unclear. The message asks for header=True or header=False.

    >>> from pathlib import Path
    >>> def verdict(*lines):
    ...     return has_header(Table(Path("a.csv"), None, lines[0].count(",") + 1, list(lines), range(1, 9), ","))
    >>> verdict("length,width,species", "5.1,3.5,setosa"), verdict("5.1,3.5,setosa", "6.3,3.3,virginica")
    (True, False)
    >>> verdict("0,1,label", "5.1,3.5,setosa")
    Traceback (most recent call last):
    ...
    fcnn_gpu.datasets._files.DataFileError: a.csv: line 1 may be the header or the first sample: its numbers count the \
columns. Say header=True if it names the columns, header=False if it is a sample.
    """
    first = _FirstRow(head)
    # Below a row of nothing but numbers, which may be very wide, there is nothing to look for.
    below = _Below(head, first) if first.text or first.increasing else None
    over_numbers = [] if below is None else [i for i in first.text if i in below.numbers and i not in below.texts]
    if not first.n_numbers:
        if over_numbers or first.missing is None or len(head.lines) == 1:
            return True
        raise _unclear(
            head, f"it has no number, and column {first.missing + 1} is empty or says that a value is missing"
        )
    if over_numbers:
        column = over_numbers[0]
        raise _unclear(head, f"column {column + 1} is {shown(first.text[column])} there, and numbers below")
    if below is not None and below.again:
        return False
    if first.counting:
        index = " (is the column without a name a row index? pandas writes none with index=False)"
        raise _unclear(head, f"its numbers count the columns{index if first.missing == 0 else ''}")
    if first.increasing and below is not None and below.fractions:
        raise _unclear(head, "its numbers are whole and increase, and all numbers below are fractions")
    if first.years:
        raise _unclear(head, "its numbers are years, one after the other")
    if first.rising and below is not None and below.repeats:
        raise _unclear(head, "its numbers are whole and increase, and only its text does not come again below")
    return False


def _unclear(head: Table, why: str) -> DataFileError:
    return DataFileError(
        head.path,
        f"line {head.line_numbers[0]} may be the header or the first sample: {why}. Say header=True if it names the "
        "columns, header=False if it is a sample.",
    )


class _FirstRow:
    """What the cells of a first row are.

    Attributes:
        text: those that are text, by column.
        missing: the first column that is missing, or None.
        n_numbers: how many are numbers.
        counting: whether the numbers are 0, 1, 2, ...
        rising: whether they are two or more, whole, and each larger than the one before.
        increasing: the same of too many for chance.
        years: whether they are as many, and years that follow each other.
    """

    def __init__(self, head: Table) -> None:
        self.text: dict[int, str] = {}
        self.missing: int | None = None
        self.n_numbers, self.counting, self.rising, last = 0, True, True, -1
        self.years = True
        for column, cell in enumerate(cells_of(head.lines[0], head.delimiter)):
            if is_missing(cell):
                self.missing = column if self.missing is None else self.missing
            elif is_number(cell):
                self.counting = self.counting and cell == str(self.n_numbers)
                whole = int(cell) if self.rising and len(cell) < 20 and _INTEGER.fullmatch(cell) else -1
                self.years = self.years and whole in _YEARS and (not self.n_numbers or whole == last + 1)
                self.rising, last = whole > last, whole
                self.n_numbers += 1
            else:
                self.text[column] = cell
        self.counting = self.counting and self.n_numbers > 0
        self.rising = self.rising and self.n_numbers >= 2
        self.increasing = self.rising and self.n_numbers >= _NO_CHANCE
        self.years = self.years and self.increasing


class _Below:
    """What the rows below the first one hold.

    Attributes:
        numbers: of the columns whose first cell is text, those with a number below it.
        texts: those with text below it.
        again: whether some text of the first row comes again in its column.
        repeats: whether some other text comes again in such a column.
        fractions: whether there are numbers below those of the first row, and none of them is whole.
    """

    def __init__(self, head: Table, first: _FirstRow) -> None:
        self.numbers: set[int] = set()
        self.texts: set[int] = set()
        self.again = self.repeats = False
        seen: set[tuple[int, str]] = set()
        fractions = whole = 0
        for line in head.lines[1:]:
            for column, cell in enumerate(cells_of(line, head.delimiter)):
                if column in first.text:
                    self.again = self.again or cell == first.text[column]
                    if not is_missing(cell):
                        if first.rising and column < _MOST_LOOKED_AT:
                            self.repeats = self.repeats or (column, cell) in seen
                            seen.add((column, cell))
                        (self.numbers if is_number(cell) else self.texts).add(column)
                elif is_number(cell):
                    whole += _WHOLE.fullmatch(cell) is not None
                    fractions += 1
        self.fractions = fractions > 0 and not whole
