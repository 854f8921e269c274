"""Data sets in CSV files, read in runs of lines: one pass when they are opened finds where the runs begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._types import HostArray
from ..files import NumberFile
from ._csv import Table, decode, find_delimiter, split_header, without_header
from ._dataset import Task
from ._files import DataFileError
from ._rows import Paths, Unchanged, matching
from ._source import BlockSource, Piece, join
from ._targets import encode_targets, parse_cells

_BLOCK_BYTES = 2**20
"""Text of a block."""
_PARSED_BYTES = 6 * 2**20
"""What the text of a block takes while it is parsed, with its lines as objects of Python."""
_MOST_VALUES = 100_000
"""Different cells of the target column that are kept in mind; numbers with more are regression targets."""


def open_csv(
    paths: Paths,
    target: str | int | None = -1,
    *,
    header: bool | None = None,
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
) -> BlockSource:
    """A data set in CSV files, read in runs of lines of 1 MiB, in float64. Opening reads all of it once.

    Delimiter, header, quotes and targets are understood as by `load`: text and few whole numbers are classes, numbered
    in sorted order (`source.class_names` has their names), other numbers are regression targets.

    Args:
        paths: a file, a list of files, or a pattern such as "train-*.csv", in the order of the names.
        target: the column with the targets, by name or by number from 0 (negative from the end); None: there is none.
        header: whether the first line of each file names the columns; None: it does if none of its cells is a number.
        task: "classification" or "regression", to overrule what the targets look like.
        class_names: the known classes, in order, for files whose classes must be numbered as those of others.

    Raises:
        FileNotFoundError: a file is not there.
        DataFileError: a file is empty, no UTF-8 text, has rows of different widths or bad quotes, or a missing target.
            While reading: cells that are no finite numbers. Each names the line and the column.
        ValueError: the files do not fit together.
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"open_csv(task) expects 'classification', 'regression' or None, got {task!r}.")
    scans = [_Scan(path, target, header) for path in matching(paths, "a CSV file")]
    names: tuple[str, ...] | None = None
    if target is not None:
        task, names = _classes(scans, task, class_names)
    is_text = any(scan.is_text for scan in scans)
    return join([CsvFile(scan, task, names, is_text) for scan in scans])


class _Run(NamedTuple):
    """Lines that are read together: bytes `start` up to `stop`, with `rows` rows of data."""

    start: int
    stop: int
    first_line: int
    rows: int
    has_header: bool


class _Scan:
    """What one pass over a file finds: its runs of lines, and the values of its targets.

    Attributes:
        runs: those with data, in order.
        head: the first run's columns, without its lines.
        target: the number of the target column, or None.
        values: the different cells of the target column, or None where there are too many.
        is_text: whether some of them are no numbers.
    """

    def __init__(self, path: Path, target: str | int | None, header: bool | None) -> None:
        self.path, self.unchanged = path, Unchanged(path)
        self.runs: list[_Run] = []
        self.values: set[str] | None = set()
        self.is_text = False
        self.target: int | None = None
        self._header = header
        head: Table | None = None
        with NumberFile(path) as file:
            at, line, end = 0, 1, file.nbytes
            while at < end:
                content = _run_of_lines(file, at, end)
                text = decode(path, content, line)
                if head is None and text.strip():
                    table = self._first(text, line)
                    head = dataclasses.replace(table, lines=[], line_numbers=table.line_numbers[:1])
                    self._head = head
                    if target is not None:
                        self.target = table.column(target, "the target column")
                    has_header = table.names is not None
                elif head is not None:
                    table, has_header = self._later(text, line), False
                if head is not None and table.lines:
                    self._note_targets(table)
                    self.runs.append(_Run(at, at + len(content), line, len(table.lines), has_header))
                at, line = at + len(content), line + text.count("\n")
        if head is None:
            raise DataFileError(path, "holds only blank lines; expected a CSV file with data.")
        if not self.runs:
            raise DataFileError(path, "has a header but no data rows.")

    @property
    def n_columns(self) -> int:
        return self._head.n_columns

    @property
    def names(self) -> tuple[str, ...] | None:
        return self._head.names

    def table(self, run: _Run) -> Table:
        """The rows of a run, read anew."""
        self.unchanged.check()
        content = np.empty(run.stop - run.start, np.uint8)
        with NumberFile(self.path) as file:
            file.read(run.start, content)
        text = decode(self.path, content.tobytes(), run.first_line)
        table = self._first(text, run.first_line) if run.has_header else self._later(text, run.first_line)
        if len(table.lines) != run.rows:
            raise DataFileError(
                self.path,
                f"has {len(table.lines)} rows from line {run.first_line} on, and had {run.rows} when it was opened.",
            )
        return table

    def _first(self, text: str, line: int) -> Table:
        self._delimiter = find_delimiter(self.path, text)
        return split_header(without_header(self.path, text, self._delimiter, line), self._header)

    def _later(self, text: str, line: int) -> Table:
        table = without_header(self.path, text, self._delimiter, line)
        if table.lines and table.n_columns != self.n_columns:
            raise DataFileError(
                self.path,
                f"line {table.line_numbers[0]} has {table.n_columns} columns, but those before it have "
                f"{self.n_columns}.",
            )
        return dataclasses.replace(table, names=self.names)

    def _note_targets(self, table: Table) -> None:
        if self.target is None:
            return
        cells = set(table.text(self.target))
        self.is_text = self.is_text or parse_cells(list(cells)).dtype.kind == "U"
        if self.values is not None:
            self.values |= cells
            if len(self.values) > _MOST_VALUES:
                self.values = None


def _classes(
    scans: list[_Scan], task: Task | None, class_names: Sequence[str] | None
) -> tuple[Task | None, tuple[str, ...] | None]:
    """The task and the names of the classes, by the target cells of all files."""
    path, is_text = scans[0].path, any(scan.is_text for scan in scans)
    cells: set[str] = set()
    for scan in scans:
        if scan.values is None:
            if is_text or task == "classification":
                raise DataFileError(scan.path, f"has more than {_MOST_VALUES:,} different labels.")
            return "regression", None
        cells |= scan.values
        if class_names is not None:  # where one is unknown, the file is named that has it
            _encode(scan.values, scan.path, is_text, task, class_names)
    return _encode(cells, path, is_text, task, class_names)


def _encode(
    cells: set[str], path: Path, is_text: bool, task: Task | None, class_names: Sequence[str] | None
) -> tuple[Task, tuple[str, ...] | None]:
    """The task and the classes' names that follow from some cells; DataFileError where they cannot be targets."""
    values = np.array(sorted(cells)) if is_text else parse_cells(sorted(cells))
    return encode_targets(values, path, lambda row: "the target column", task, class_names)[1:]


class CsvFile(BlockSource):
    """The runs of lines of one file."""

    def __init__(self, scan: _Scan, task: Task | None, class_names: tuple[str, ...] | None, is_text: bool) -> None:
        self._scan, self._task, self._is_text = scan, task, is_text
        self._columns = [i for i in range(scan.n_columns) if i != scan.target]
        if not self._columns:
            raise DataFileError(scan.path, "has a single column; expected features and a target.")
        rows = [run.rows for run in scan.runs]
        super().__init__(
            len(self._columns),
            np.float64,
            rows,
            has_targets=scan.target is not None,
            piece_size=max(*rows, _PARSED_BYTES // (8 * len(self._columns))),
        )
        self.class_names = class_names
        self.feature_names = None if scan.names is None else tuple(scan.names[i] for i in self._columns)
        self.target_names = None if scan.names is None or scan.target is None else (scan.names[scan.target],)

    def read(self, block: int) -> Iterator[Piece]:
        table = self._scan.table(self._scan.runs[block])
        yield table.numbers(self._columns), self._targets(table), None

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        yield self._targets(self._scan.table(self._scan.runs[block])), None

    def place(self, sample: int) -> str:
        block = int(np.searchsorted(self.starts, sample, side="right")) - 1
        line = self._scan.table(self._scan.runs[block]).line_numbers[sample - int(self.starts[block])]
        return f"{self._scan.path}, line {line}"

    def _targets(self, table: Table) -> HostArray | None:
        column = self._scan.target
        if column is None:
            return None

        def row_name(row: int) -> str:
            return f"line {table.line_numbers[row]}, {table.column_name(column)}"

        cells = table.text(column)
        values = np.array(cells) if self._is_text else parse_cells(cells)
        return encode_targets(values, self._scan.path, row_name, self._task, self.class_names)[0]


def _run_of_lines(file: NumberFile, start: int, end: int) -> bytes:
    """The bytes from `start` on to the end of a line, about as many as a block has."""
    n = _BLOCK_BYTES
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
