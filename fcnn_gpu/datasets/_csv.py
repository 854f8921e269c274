"""Lines of CSV files as columns of numbers and of text, with errors that name the line and the column.

NumPy's parser in C reads the numbers. Only when it fails does Python look at the cells, to say which one is at
fault: a large file is read fast, a bad one is explained exactly.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._types import HostArray
from ._cells import LARGEST, MISSING_TEXT, cells_of, is_missing, missing_fault, number_fault
from ._files import DataFileError

_DELIMITERS = ("\t", ";", "|", ",")
_UNIT_SEPARATOR = "\x1f"  # joins unquoted cells: it cannot occur in them
_LONGEST_CELL = 131_072
"""Characters that Python's reader of quoted cells allows; others may not have more either."""
_MOST_COLUMNS = 300_000
"""More than the pixels of 512×512: each column takes some hundred bytes while a line is looked at."""


@dataclass(frozen=True)
class Table:
    """Some rows of a CSV file, not yet parsed.

    Attributes:
        path: the file.
        names: the header's column names, or None without a header.
        n_columns: how many columns each row has.
        lines: the rows below the header; no quotes are left in them.
        line_numbers: where each row stands in the file, from 1.
        delimiter: what separates the cells in `lines`.
    """

    path: Path
    names: tuple[str, ...] | None
    n_columns: int
    lines: list[str]
    line_numbers: Sequence[int]
    delimiter: str

    def column(self, spec: str | int, role: str) -> int:
        """The index of a column given by name, or by number from 0 (negative from the end)."""
        if isinstance(spec, str):
            if self.names is None:
                raise DataFileError(
                    self.path,
                    f"has no header, so {role} {spec!r} cannot be found by name. Give the column's number from 0, "
                    "or header=True if the first line is a header.",
                )
            if self.names.count(spec) == 1:
                return self.names.index(spec)
            fault = "occurs more than once" if spec in self.names else "does not exist"
            shown = ", ".join(self.names[:20]) + (", ..." if len(self.names) > 20 else "")
            raise DataFileError(self.path, f"{role} {spec!r} {fault}. Columns: {shown}.")
        if not -self.n_columns <= spec < self.n_columns:
            raise DataFileError(self.path, f"{role} {spec} does not exist: the file has {self.n_columns} columns.")
        return spec % self.n_columns

    def column_name(self, index: int) -> str:
        """How an error names a column: its number from 1, and its name if it has one."""
        return f"column {index + 1}" + (f" ({self.names[index]!r})" if self.names else "")

    def text(self, index: int) -> list[str]:
        """The cells of one column, stripped; a missing one is an error."""
        if index == self.n_columns - 1:
            cells = [line.rsplit(self.delimiter, 1)[-1].strip() for line in self.lines]
        else:
            cells = [line.split(self.delimiter, index + 1)[index].strip() for line in self.lines]
        missing = {cell for cell in set(cells) if is_missing(cell, MISSING_TEXT)}
        if missing:
            row, cell = next((i, cell) for i, cell in enumerate(cells) if cell in missing)
            place = f"line {self.line_numbers[row]}, {self.column_name(index)}"
            raise DataFileError(self.path, f"{place}: {missing_fault(cell)}")
        return cells

    def numbers(self, columns: Sequence[int]) -> HostArray:
        """These columns in this order, float64 (n_rows, n_columns); text, missing and non-finite cells are errors."""
        if self.n_columns == 1 and not all(map(str.strip, self.lines)):  # which NumPy would leave out
            self._explain(columns)
        every = list(columns) == list(range(self.n_columns))
        try:
            values = np.loadtxt(
                self.lines,
                dtype=np.float64,
                delimiter=self.delimiter,
                comments=None,
                usecols=None if every else tuple(columns),
                ndmin=2,
            )
        except ValueError as error:
            self._explain(columns)
            raise DataFileError(self.path, f"cannot be read as numbers: {error}.") from error
        if len(values) != len(self.lines) or not (values.max() <= LARGEST and values.min() >= -LARGEST):  # nor NaN
            self._explain(columns)
            raise DataFileError(self.path, f"cannot be read as numbers from line {self.line_numbers[0]} on.")
        return values

    def _explain(self, columns: Sequence[int]) -> None:
        """Raise the error of the first cell that is not a finite float32."""
        wanted = set(columns)
        for line, number in zip(self.lines, self.line_numbers, strict=True):
            for index, cell in enumerate(cells_of(line, self.delimiter)):
                fault = number_fault(cell) if index in wanted else None
                if fault is not None:
                    raise DataFileError(self.path, f"line {number}, {self.column_name(index)}: {fault}")


def rows_of_text(path: Path, text: str, delimiter: str, first_line: int = 1) -> Table:
    """The rows of a text that begins with line `first_line` of a file, all of equal width. Blank lines are no rows."""
    quoted = '"' in text
    lines, line_numbers = _unquote(path, text, delimiter, first_line) if quoted else _rows(text, delimiter, first_line)
    delimiter = _UNIT_SEPARATOR if quoted else delimiter
    n_columns = lines[0].count(delimiter) + 1 if lines else 0
    if n_columns > _MOST_COLUMNS:
        raise DataFileError(
            path, f"line {line_numbers[0]} has {n_columns:,} columns; a CSV file has at most {_MOST_COLUMNS:,} here."
        )
    for line, number in zip(lines, line_numbers, strict=True):
        if line.count(delimiter) + 1 != n_columns:
            raise DataFileError(
                path,
                f"line {number} has {line.count(delimiter) + 1} columns, but line {line_numbers[0]} has {n_columns}.",
            )
    if max(map(len, lines), default=0) > _LONGEST_CELL:
        for line, number in zip(lines, line_numbers, strict=True):
            for column, cell in enumerate(cells_of(line, delimiter) if len(line) > _LONGEST_CELL else ()):
                if len(cell) > _LONGEST_CELL:
                    raise DataFileError(
                        path,
                        f"line {number}, column {column + 1}: a cell of {len(cell):,} characters; expected at most "
                        f"{_LONGEST_CELL:,}.",
                    )
    return Table(path, None, n_columns, lines, line_numbers, delimiter)


def decode(path: Path, content: bytes, first_line: int = 1) -> str:
    """The text in these bytes, of which the first is the beginning of line `first_line`."""
    if b"\0" in content:
        raise DataFileError(path, "is not a CSV file: it holds binary data (or UTF-16 text; save it as UTF-8).")
    try:
        text = content.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first_line
        raise DataFileError(
            path, f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8 text. Save the file as UTF-8."
        ) from error
    if _UNIT_SEPARATOR in text:
        raise DataFileError(path, "is not a CSV file: it holds control characters (0x1f).")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def find_delimiter(path: Path, text: str) -> str:
    """The delimiter that splits the first two rows into the same number of cells; a comma if none does."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    rows = [row for row in text.split("\n") if row.strip(" ")][:2]
    for delimiter in _DELIMITERS:
        widths = {_width(row, delimiter) for row in rows}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return ","


def _width(row: str, delimiter: str) -> int:
    if '"' not in row:
        return row.count(delimiter) + 1
    try:
        return len(next(csv.reader([row], delimiter=delimiter), [""]))
    except csv.Error:  # a cell too long for Python's reader: named by its line where the rows are read
        return 1


def _rows(text: str, delimiter: str, first_line: int) -> tuple[list[str], Sequence[int]]:
    lines = text.split("\n")
    while lines and _is_blank(lines[-1], delimiter):
        lines.pop()
    if all(map(str.strip, lines)):
        return lines, range(first_line, first_line + len(lines))
    numbers = [i for i, line in enumerate(lines, start=first_line) if not _is_blank(line, delimiter)]
    return [lines[i - first_line] for i in numbers], numbers


def _is_blank(line: str, delimiter: str) -> bool:
    """A line of tabs in a file of tabs is a row of empty cells."""
    return not line.strip() and delimiter not in line


def _unquote(path: Path, text: str, delimiter: str, first_line: int) -> tuple[list[str], Sequence[int]]:
    at = first_line - 1  # the line that was last given to the reader

    def given() -> Iterator[str]:
        nonlocal at
        for line in text.split("\n"):
            at += 1
            if not _is_blank(line, delimiter):
                yield line

    lines: list[str] = []
    numbers: list[int] = []
    reader = csv.reader(given(), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if reader.line_num != len(lines) + 1:
                raise DataFileError(path, f"line {at}: a quoted cell runs over a line break.")
            lines.append(_UNIT_SEPARATOR.join(row))
            numbers.append(at)
    except csv.Error as error:
        what = "a cell is too long" if "field limit" in str(error) else "bad quotes"
        raise DataFileError(path, f"line {at}: {what} ({error}).") from error
    return lines, numbers
