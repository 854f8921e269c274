"""A CSV file in runs of lines: its dialect and its columns are found once, for whoever reads it and however."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .._types import HostArray
from ..files import NumberFile
from ._csv import Table, decode, find_delimiter, rows_of_text
from ._csv_header import has_header
from ._files import DataFileError, StrPath, existing_file
from ._rows import Unchanged

_RUN_BYTES = 2**20
"""Text of a run of lines."""
_HEAD_BYTES = 2**16
_HEAD_ROWS = 101


class Run(NamedTuple):
    """Lines that are read together: bytes `start` up to `stop`, with `rows` rows of data."""

    start: int
    stop: int
    first_line: int
    rows: int


class CsvReader:
    """A CSV file: comma, semicolon, tab or bar between cells, UTF-8, optional double quotes.

    Args:
        path: the file.
        header: whether the first row names the columns; None: `has_header` decides, or asks.

    Attributes:
        names: the header's column names, or None without a header.
        n_columns: how many columns each row has.
        runs: the runs of lines with data, in order, once `scan` has passed over them.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: empty, not UTF-8 text, unnamed columns, or unclear whether there is a header.
    """

    def __init__(self, path: StrPath, header: bool | None = None) -> None:
        self.path = existing_file(path, "a CSV file")
        self.unchanged = Unchanged(self.path)
        self.runs: list[Run] = []
        head = self._head()
        self._first_line = head.line_numbers[0]
        self._columns = dataclasses.replace(head, lines=[], line_numbers=())
        if has_header(head) if header is None else header:
            names = [cell.strip() for cell in head.lines[0].split(head.delimiter)]
            if "" in names:
                raise DataFileError(
                    self.path,
                    f"line {self._first_line}: column {names.index('') + 1} has no name in the header. Is it a row "
                    "index? Write the file without it (pandas: index=False).",
                )
            self._columns = dataclasses.replace(self._columns, names=tuple(names))

    @property
    def names(self) -> tuple[str, ...] | None:
        return self._columns.names

    @property
    def n_columns(self) -> int:
        return self._columns.n_columns

    @property
    def n_rows(self) -> int:
        """Rows of data, once `scan` has passed over them."""
        return sum(run.rows for run in self.runs)

    def column(self, spec: str | int, role: str) -> int:
        """The index of a column given by name, or by number from 0 (negative from the end)."""
        return self._columns.column(spec, role)

    def column_name(self, index: int) -> str:
        """How an error names a column: its number from 1, and its name if it has one."""
        return self._columns.column_name(index)

    def scan(self, run_bytes: int = _RUN_BYTES) -> Iterator[Table]:
        """The rows of each run of about `run_bytes`, in order, and so where the runs are.

        DataFileError for rows of different widths, bad quotes, a blank line among the rows of a single column, or no
        data.
        """
        self.runs = []
        with NumberFile(self.path) as file:
            at, line, end, last = 0, 1, file.nbytes, None
            while at < end:
                content = _lines(file, at, min(run_bytes, end - at), end)
                text = decode(self.path, content, line)
                table, last = self._rows(text, line, last)
                if table.lines:
                    self.runs.append(Run(at, at + len(content), line, len(table.lines)))
                    yield table
                at, line = at + len(content), line + text.count("\n")
        if not self.runs:
            raise DataFileError(self.path, "has a header but no data rows.")

    def table(self, run: Run) -> Table:
        """The rows of a run, read anew."""
        self.unchanged.check()
        content = np.empty(run.stop - run.start, np.uint8)
        with NumberFile(self.path) as file:
            file.read(run.start, content)
        table, _ = self._rows(decode(self.path, content.tobytes(), run.first_line), run.first_line, None)
        if len(table.lines) != run.rows:
            raise DataFileError(
                self.path,
                f"has {len(table.lines)} rows from line {run.first_line} on, and had {run.rows} when it was opened.",
            )
        return table

    def numbers(self, columns: Sequence[int]) -> HostArray:
        """The given columns of all rows, (n_rows, n_columns); text, missing and non-finite cells are errors."""
        values: HostArray | None = None
        at = 0
        for run in self.runs:
            part = self.table(run).numbers(columns)
            if values is None:
                values = np.empty((self.n_rows, part.shape[1]), part.dtype)
            values[at : at + len(part)] = part
            at += len(part)
        assert values is not None
        return values

    def _head(self) -> Table:
        """The first rows: at most 101, those in the first 64 KiB, and two where there are two."""
        with NumberFile(self.path) as file:
            n, end = _HEAD_BYTES, file.nbytes
            while True:
                text = decode(self.path, _lines(file, 0, min(n, end), end))
                self._delimiter = find_delimiter(self.path, text)
                head = rows_of_text(self.path, text, self._delimiter)
                if len(head.lines) > 1 or n >= end:
                    break
                n *= 2
        if not head.lines:
            raise DataFileError(self.path, "holds only blank lines; expected a CSV file with data.")
        return dataclasses.replace(head, lines=head.lines[:_HEAD_ROWS], line_numbers=head.line_numbers[:_HEAD_ROWS])

    def _rows(self, text: str, line: int, last: int | None) -> tuple[Table, int | None]:
        """The rows of data in a run, and the line of the last row so far, the header included (`last` before it)."""
        table = rows_of_text(self.path, text, self._delimiter, line)
        if not table.lines:
            return table, last
        if table.n_columns != self.n_columns:
            raise DataFileError(
                self.path,
                f"line {table.line_numbers[0]} has {table.n_columns} columns, but line {self._first_line} has "
                f"{self.n_columns}.",
            )
        if self.n_columns == 1:
            self._refuse_gaps(table.line_numbers, last)
        last = table.line_numbers[-1]
        is_head = self.names is not None and table.line_numbers[0] == self._first_line
        data = slice(1 if is_head else 0, None)
        return dataclasses.replace(
            table, names=self.names, lines=table.lines[data], line_numbers=table.line_numbers[data]
        ), last

    def _refuse_gaps(self, line_numbers: Sequence[int], last: int | None) -> None:
        """DataFileError for a blank line between rows: of a single column it is how many write a missing value."""
        for number in line_numbers:
            if last is not None and number != last + 1:
                raise DataFileError(
                    self.path,
                    f"line {last + 1} is blank, between rows of a single column: is a value missing? Fill it in, or "
                    "remove the line.",
                )
            last = number


def read_csv(path: StrPath, *, header: bool | None = None) -> CsvReader:
    """A CSV file that one pass has been made over, so that its rows are known to be of one width.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: what `CsvReader` and its `scan` refuse.
    """
    reader = CsvReader(path, header)
    for _ in reader.scan():
        pass
    return reader


def _lines(file: NumberFile, start: int, n: int, end: int) -> bytes:
    """The bytes from `start` on to the end of a line: about `n`, more where the first line is longer."""
    while True:
        buffer = np.empty(min(n, end - start), np.uint8)
        file.read(start, buffer)
        content = buffer.tobytes()
        if start + len(content) == end:
            return content
        cut = max(content.rfind(b"\n"), content[:-1].rfind(b"\r"))  # a "\r" at the end may be the half of "\r\n"
        if cut >= 0:
            return content[: cut + 1]
        n *= 2
