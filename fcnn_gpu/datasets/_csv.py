"""CSV files as columns of numbers and of text, with errors that name the line and the column.

NumPy's parser in C reads the numbers. Only when it fails does Python look at the cells, to say which one is at
fault: a large file is read fast, a bad one is explained exactly.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._types import HostArray
from ._files import DataFileError, StrPath, existing_file

MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "nan", "null", "none"})
"""What stands for a missing number in a cell, in lower case."""

MISSING_TEXT = MISSING - {"null", "none"}
"""What stands for a missing label: "none" may well be the name of a class."""

_DELIMITERS = ("\t", ";", "|", ",")
_LARGEST = float(np.finfo(np.float32).max)
_UNIT_SEPARATOR = "\x1f"  # joins unquoted cells: it cannot occur in them


@dataclass(frozen=True)
class Table:
    """The data rows of a CSV file, not yet parsed.

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
        for cell, number in zip(cells, self.line_numbers, strict=True):
            if cell.lower() in MISSING_TEXT:
                raise DataFileError(self.path, f"line {number}, {self.column_name(index)}: {_missing(cell)}")
        return cells

    def numbers(self, columns: Sequence[int]) -> HostArray:
        """These columns in this order, float64 (n_rows, n_columns); text, missing and non-finite cells are errors."""
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
        if not (values.max() <= _LARGEST and values.min() >= -_LARGEST):  # nor NaN, which is neither
            self._explain(columns)
        return values

    def _explain(self, columns: Sequence[int]) -> None:
        """Raise the error of the first cell that is not a finite float32."""
        for line, number in zip(self.lines, self.line_numbers, strict=True):
            cells = line.split(self.delimiter)
            for index in columns:
                fault = _number_fault(cells[index].strip())
                if fault is None:
                    continue
                if number == self.line_numbers[0] and self.names is None:
                    fault += " If this line is the header, say header=True."
                raise DataFileError(self.path, f"line {number}, {self.column_name(index)}: {fault}")


def read_csv(path: StrPath, *, header: bool | None = None) -> Table:
    """The rows of a CSV file: comma, semicolon, tab or bar between cells, UTF-8, optional double quotes.

    Args:
        path: the file.
        header: whether the first line names the columns; None: it does if none of its cells is a number.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: empty, not UTF-8 text, no data rows, rows of different widths, bad quotes, unnamed columns.
    """
    path = existing_file(path, "a CSV file")
    text = decode(path, path.read_bytes())
    table = split_header(without_header(path, text, find_delimiter(path, text)), header)
    if not table.lines:
        raise DataFileError(path, "has a header but no data rows.")
    return table


def without_header(path: Path, text: str, delimiter: str, first_line: int = 1) -> Table:
    """The rows of a text that begins with line `first_line` of a file, all of them data, and all of equal width."""
    if '"' in text:
        lines, line_numbers = _unquote(path, text, delimiter, first_line)
        delimiter = _UNIT_SEPARATOR
    else:
        numbered = [(i, line) for i, line in enumerate(text.split("\n"), start=first_line) if line.strip()]
        lines, line_numbers = [line for _, line in numbered], [i for i, _ in numbered]
    n_columns = lines[0].count(delimiter) + 1 if lines else 0
    for line, number in zip(lines, line_numbers, strict=True):
        if line.count(delimiter) + 1 != n_columns:
            raise DataFileError(
                path,
                f"line {number} has {line.count(delimiter) + 1} columns, but line {line_numbers[0]} has {n_columns}.",
            )
    return Table(path, None, n_columns, lines, line_numbers, delimiter)


def split_header(table: Table, header: bool | None) -> Table:
    """A table whose first line may be a header (None: it is one if none of its cells is a number) without it."""
    path = table.path
    if not table.lines:
        raise DataFileError(path, "holds only blank lines; expected a CSV file with data.")
    first = [cell.strip() for cell in table.lines[0].split(table.delimiter)]
    if header is None:
        header = not any(_is_number(cell) for cell in first)
    if not header:
        return table
    if "" in first:
        raise DataFileError(
            path,
            f"line {table.line_numbers[0]}: column {first.index('') + 1} has no name in the header. Is it a row index? "
            "Write the file without it (pandas: index=False).",
        )
    return dataclasses.replace(table, names=tuple(first), lines=table.lines[1:], line_numbers=table.line_numbers[1:])


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
    rows = [row for row in text.lstrip("\n").split("\n", 2)[:2] if row.strip()]
    for delimiter in _DELIMITERS:
        widths = {_width(row, delimiter) for row in rows}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return ","


def _width(row: str, delimiter: str) -> int:
    if '"' not in row:
        return row.count(delimiter) + 1
    return len(next(csv.reader([row], delimiter=delimiter), [""]))


def _unquote(path: Path, text: str, delimiter: str, first_line: int) -> tuple[list[str], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    lines: list[str] = []
    numbers: list[int] = []
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if any("\n" in cell for cell in row):
                line = reader.line_num + first_line - 1
                raise DataFileError(path, f"line {line}: a quoted cell runs over a line break.")
            lines.append(_UNIT_SEPARATOR.join(row))
            numbers.append(reader.line_num + first_line - 1)
    except csv.Error as error:
        raise DataFileError(path, f"line {reader.line_num + first_line - 1}: bad quotes ({error}).") from error
    return lines, numbers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()  # Python also reads 1_000 and other scripts' digits; NumPy does not


def _number_fault(cell: str) -> str | None:
    if cell.lower() in MISSING:
        return _missing(cell)
    if not _is_number(cell):
        return f"expected a number, got {cell!r}."
    value = float(cell)
    if math.isinf(value) or abs(value) > _LARGEST:
        return f"expected a finite number that float32 can hold, got {cell!r}."
    return None


def _missing(cell: str) -> str:
    shown = f" ({cell!r})" if cell else ""
    return f"missing value{shown}. Fill or remove the row first."
