"""Columns of CSV files, through Arrow's reader where it is installed and through Python's otherwise.

Both see the same cells and come to the same columns; Arrow's is an order of magnitude faster.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import importlib.util
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..datasets import DataFileError
from ..datasets._cells import is_number
from ..datasets._csv import Table as Head
from ..datasets._csv import find_delimiter
from ..datasets._csv_header import has_header
from ..datasets._files import shown
from ._column import Column, empty_column, is_missing_word, text_column

_HEAD_BYTES = 2**16
_MOST_HEAD_BYTES = 2**24
_HEAD_ROWS = 101
_TAIL_BYTES = 2**15
_BLOCK_BYTES = 2**20
_DELIMITERS = ("\t", ";", "|", ",")
_ROWS_SHAPED = 10
_SEPARATOR = "\x1f"
_SEP = re.compile(rb'"?sep=([;,|\t])"?(?=\r?\n)', re.IGNORECASE)
"""The line by which Excel is told the delimiter."""
_CODE = re.compile(r"[+-]?(0[0-9]+|[0-9]{16,})")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+")
_NULLS = ["", "?", "-", ".", "NA", "na", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NULL", "null", "None", "none"]
"""Missing words that Arrow's reader knows among numbers, which it reads faster for their being few; others are text."""
_MOST_NAMED = 5


def csv_columns(
    path: Path, content: bytes, header: bool | None, delimiter: str | None, encoding: str | None
) -> tuple[list[Column], bool, list[str]]:
    """(the columns, whether the file names them, what there is to say) of a CSV file's content."""
    with_arrow = importlib.util.find_spec("pyarrow") is not None
    if with_arrow and encoding is None and _seems_utf8(content):  # Arrow looks at all of it while it reads
        content, delimiter = _without_sep(content, delimiter)
        head = _Head(path, content, header, delimiter)
        found = _columns_by_arrow(content, head)
        if found is not None:
            return found, head.named, _notes_of(head)
    content, notes = _as_utf8(path, content, encoding)
    content, delimiter = _without_sep(content, delimiter)
    head = _Head(path, content, header, delimiter)
    found = _columns_by_arrow(content, head) if with_arrow else None
    if found is None:
        cells = _python_cells(path, content, head)
        if not len(cells[0]):
            raise DataFileError(path, "has a header but no rows.")
        found = list(map(cell_column, head.names, cells, head.guesses))
    return found, head.named, notes + _notes_of(head)


def _without_sep(content: bytes, delimiter: str | None) -> tuple[bytes, str | None]:
    """The content with an empty first line where it says the delimiter, as Excel's does: sep=; and the delimiter."""
    match = _SEP.match(content)
    if match is None:
        return content, delimiter
    return content[match.end() :], match[1].decode() if delimiter is None else delimiter


def _columns_by_arrow(content: bytes, head: _Head) -> list[Column] | None:
    cells = _arrow_cells(content, head)
    if cells is None or not len(cells[0]):
        return None
    return list(map(cell_column, head.names, cells, head.guesses))


def _notes_of(head: _Head) -> list[str]:
    return [SEMICOLONS] if head.delimiter == ";" else []


SEMICOLONS = "cells are separated by semicolons"
"""The note by which a table knows that its file may well write decimal commas."""


class _Head:
    """The beginning of a file: its delimiter, its columns' names, and where its rows begin."""

    def __init__(self, path: Path, content: bytes, header: bool | None, delimiter: str | None) -> None:
        text, self._n_bytes = _beginning(content)
        stem = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
        self.delimiter = _delimiter_of(stem, text) if delimiter is None else delimiter
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
        rows: list[list[str]] = []
        first_ends = 0
        with _faults(path, reader):
            for row in reader:
                if len(row) > 1 or any(map(str.strip, row)):
                    rows.append([cell.replace(_SEPARATOR, " ").strip() for cell in row])
                    first_ends = first_ends or reader.line_num
        if not rows:
            raise DataFileError(path, "holds only blank lines; expected a table.")
        if len(rows) > 1 and all(len(row) == len(rows[0]) + 1 for row in rows[1:]) and header is not False:
            if any(row[-1] for row in rows[1:]):
                rows[0].insert(0, "")  # R names all columns but that of the row names
            else:
                rows[0].append("")  # every row but the header ends with a delimiter
        self.n_columns = len(rows[0])
        lines = [_SEPARATOR.join(row) for row in rows[:_HEAD_ROWS]]
        looked_at = Head(path, None, self.n_columns, lines, range(1, len(lines) + 1), _SEPARATOR)
        self.named = has_header(looked_at) if header is None else header
        self.names = column_names(rows[0] if self.named else [""] * self.n_columns, self.named)
        self.begin = _end_of_line(content, first_ends) if self.named else 0
        some = [row for row in (*rows[self.named :], *self._last_rows(content)) if len(row) == self.n_columns]
        cells = zip(*some, strict=True) if some else [()] * self.n_columns
        self.guesses = [Guess.of(part, self.delimiter == ";") for part in cells]

    def _last_rows(self, content: bytes) -> list[list[str]]:
        """Rows at the end of a file that goes on beyond its beginning."""
        if len(content) <= self._n_bytes + _TAIL_BYTES:
            return []
        text = content[-_TAIL_BYTES:].decode("utf-8", errors="replace").partition("\n")[2]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
        try:
            return [[cell.strip() for cell in row] for row in reader]
        except csv.Error:  # which the reader of the whole file says better
            return []


def _delimiter_of(path: Path, text: str) -> str:
    """The delimiter that splits the first rows into the same number of cells, or else the first two lines."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    shapes: dict[str, list[int]] = {}
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        with contextlib.suppress(csv.Error):  # which the reader of the whole file says better
            shapes[delimiter] = [len(row) for row in islice(filter(any, reader), _ROWS_SHAPED)]
    for delimiter, (first, *others) in ((d, shape) for d, shape in shapes.items() if shape):
        if first > 1 and set(others) <= {first}:
            return delimiter
    for delimiter, (first, *others) in ((d, shape) for d, shape in shapes.items() if shape):
        if first > 1 and set(others) == {first + 1}:  # R's row names, or delimiters at the rows' ends
            return delimiter
    return " " if _has_blanks_between(text) else find_delimiter(path, text)


def _has_blanks_between(text: str) -> bool:
    """Whether a file without other delimiters has three or more cells in each row, some of them numbers, as UCI's."""
    rows = [row.split(" ") for row in text.replace("\r", "").split("\n", 21)[:20] if row.strip()]
    if "," in text or '"' in text or len(rows) < 2 or len(rows[0]) < 3 or {len(row) for row in rows} != {len(rows[0])}:
        return False
    return all(any(map(is_number, row)) for row in rows[1:])


def column_names(given: Sequence[str], named: bool) -> list[str]:
    """Names without gaps or doubles, made as pandas makes them; without a header, the columns' numbers from 0."""
    if not named:
        return [str(i) for i in range(len(given))]
    names: dict[str, None] = {}
    count: dict[str, int] = {}
    taken = set(given)
    for i, name in enumerate(given):
        fresh = name or f"Unnamed: {i}"
        if fresh in names:
            k = count.get(name, 0) + 1
            while f"{fresh}.{k}" in names or f"{fresh}.{k}" in taken:
                k += 1
            count[name] = k
            fresh = f"{fresh}.{k}"
        names[fresh] = None
    return list(names)


class Guess(NamedTuple):
    """What the first and last cells of a column are: whether numbers, and whether these stay as they are written.

    Numbers stay text where they are codes (leading zeros, more digits than float64 holds), and where 1.234 in a file
    with semicolons may be 1234.
    """

    numbers: bool
    as_written: bool

    @classmethod
    def of(cls, cells: Sequence[str], semicolons: bool) -> Guess:
        there = [cell for cell in cells if not is_missing_word(cell)]
        if not all(is_number(cell) for cell in there):
            return cls(False, False)
        points = [cell for cell in there if "." in cell]
        thousands = semicolons and points and all(map(_THOUSANDS.fullmatch, points))
        return cls(True, bool(thousands) or any(map(_CODE.fullmatch, there)))


def cell_column(name: str, cells: Any, guess: Guess) -> Column:
    """Cells of text (a list, or Arrow's) as numbers where all of them are, else as text."""
    if not isinstance(cells, list):
        if str(cells.type) == "double":
            return Column(name, "number", cells.to_numpy())
        if not guess.numbers or guess.as_written:  # some of the first or last cells are text
            return Column.of_cells(name, cells)
    column = text_column(name, cells)
    if not column.words:
        return empty_column(name, len(column))
    numbers = _floats(column) if guess.numbers and not guess.as_written else None
    return column if numbers is None else numbers


def _floats(column: Column) -> Column | None:
    """A column of text as numbers, where all of its words are numbers as programs write them."""
    if not all(map(is_number, column.words)):
        return None
    values = np.append(np.array(column.words, object).astype(np.float64), np.nan)
    return Column(column.name, "number", values[column.values])


def _arrow_cells(content: bytes, head: _Head) -> list[Any] | None:
    """Every column as Arrow's numbers or strings; None where the file is not as Arrow's reader expects it."""
    quoted = b'"' in content
    if head.delimiter == " " and b"  " in content:  # which are one
        return None
    if content.startswith(codecs.BOM_UTF8, head.begin):  # which Arrow would skip, and with it a row of nothing else
        return None
    quotes_after_blanks = rb'(?:^|[\r\n]|%b) +"' % re.escape(head.delimiter).encode()
    if head.begin == len(content) or (quoted and re.search(quotes_after_blanks, content)):
        return None
    numbers = [guess.numbers and not guess.as_written for guess in head.guesses]
    for tried in (numbers, [False] * len(numbers)):  # what looked like numbers may go on as text
        cells = _read_by_arrow(memoryview(content)[head.begin :], head.delimiter, quoted, tried)
        if cells is not None:
            return cells
    return None


def _read_by_arrow(content: memoryview, delimiter: str, quoted: bool, numbers: Sequence[bool]) -> list[Any] | None:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    types = {str(i): pa.float64() if is_number else pa.string() for i, is_number in enumerate(numbers)}
    longest = content[: 2**16].tobytes().find(b"\n")
    block_bytes = min(max(_BLOCK_BYTES, 16 * (longest if longest >= 0 else len(content))), 2**30)
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(pa.py_buffer(content)),
            read_options=arrow_csv.ReadOptions(column_names=list(types), block_size=block_bytes),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=quoted),
            convert_options=arrow_csv.ConvertOptions(column_types=types, null_values=_NULLS, strings_can_be_null=False),
        )
    except pa.ArrowException:  # text where numbers were, or rows of different lengths, which Python's reader names
        return None
    return table.columns


def _python_cells(path: Path, content: bytes, head: _Head) -> list[list[str]]:
    reader = csv.reader(
        io.StringIO(content.decode("utf-8"), newline=""), delimiter=head.delimiter, skipinitialspace=True
    )
    rows: list[list[str]] = []
    odd: list[tuple[int, int]] = []
    with _faults(path, reader):
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip() and head.n_columns > 1):
                continue
            if head.named and not rows and len(row) == 1 and not row[0].strip():  # blanks above the header
                continue
            if len(row) != head.n_columns and (rows or not head.named):
                odd.append((reader.line_num, len(row)))
            rows.append(row)
    if odd:
        named = "; ".join(f"line {line} has {n}" for line, n in odd[:_MOST_NAMED])
        more = f"; {len(odd) - _MOST_NAMED:,} more lines are like that" if len(odd) > _MOST_NAMED else ""
        raise DataFileError(
            path,
            f"has {head.n_columns} columns, but not in all lines: {named}{more}. Is a cell with {head.delimiter!r} in "
            "it not in quotes?",
        )
    rows = rows[head.named :]
    return [list(part) for part in zip(*rows, strict=True)] if rows else [[] for _ in head.names]


class _faults:
    """What Python's reader finds wrong, with the line."""

    def __init__(self, path: Path, reader: Any) -> None:
        self._path, self._reader = path, reader

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, csv.Error):
            raise DataFileError(self._path, f"line {self._reader.line_num} cannot be read: {error}.") from error


def _seems_utf8(content: bytes) -> bool:
    """Whether the beginning and the end of a file are UTF-8 without a mark."""
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return False
    start, end = content[:_HEAD_BYTES], content[-_TAIL_BYTES:]
    if b"\0" in start or b"\0" in end:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # whose last letter may be cut
    except UnicodeDecodeError:
        return False
    return True


def _as_utf8(path: Path, content: bytes, encoding: str | None) -> tuple[bytes, list[str]]:
    """The content in UTF-8 without a mark of its byte order, and a note where it was in something else."""
    if encoding is not None:
        try:
            return content.decode(encoding).removeprefix("\ufeff").encode(), []
        except (LookupError, UnicodeError) as error:
            raise DataFileError(path, f"is not text in encoding {encoding!r}: {error}.") from error
    has_mark = content.startswith(codecs.BOM_UTF8)
    content = content.removeprefix(codecs.BOM_UTF8)
    for marks, name in (  # UTF-32's little-endian mark begins with UTF-16's
        ((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-32"),
        ((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "UTF-16"),
    ):
        if content.startswith(marks):
            try:
                return content.decode(name).encode(), [f"the text is in {name}"]
            except UnicodeDecodeError as error:
                raise DataFileError(path, f"is not whole {name} text: {error}.") from error
    if b"\0" in content:
        raise DataFileError(
            path, "is not a CSV file: it holds binary data (or UTF-16 text without its mark: then say its encoding)."
        )
    if content.isascii():
        return content, []
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            text = content.decode("ascii" if has_mark else "cp1252")
        except UnicodeDecodeError:
            line = content.count(b"\n", 0, error.start) + 1
            raise DataFileError(
                path,
                f"line {line}: byte {shown(content[error.start : error.start + 1].hex())} is neither UTF-8 nor Windows "
                "text. Save the file as UTF-8, or say its encoding.",
            ) from error
        return text.encode(), ["the text is not in UTF-8, and was read as Windows' (cp1252)"]
    return content, []


def _beginning(content: bytes) -> tuple[str, int]:
    """(the first lines, whole ones where the file goes on; how many bytes were looked at)."""
    n = _HEAD_BYTES
    while n < min(len(content), _MOST_HEAD_BYTES) and content.count(b"\n", 0, n) < _HEAD_ROWS:
        n *= 4
    if len(content) <= n:
        return content.decode("utf-8"), n
    start = content[:n]
    cut = max(start.rfind(b"\n"), start[:-1].rfind(b"\r"))
    return (start[: cut + 1] if cut >= 0 else start).decode("utf-8", errors="replace"), n


def _end_of_line(content: bytes, n: int) -> int:
    """Where the n-th line ends, as Python's reader counts them."""
    ends: Iterator[re.Match[bytes]] = re.finditer(rb"\r\n|\n|\r", content)
    end = 0
    for _ in range(n):
        match = next(ends, None)
        if match is None:
            return len(content)
        end = match.end()
    return end
