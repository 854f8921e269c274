"""Data sets in CSV files, read in runs of lines: one pass when they are opened finds where the runs begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._types import HostArray
from ._csv import Table
from ._csv_reader import CsvReader
from ._dataset import Task
from ._files import DataFileError
from ._rows import Paths, matching
from ._source import BlockSource, Piece, join
from ._targets import encode_targets, parse_cells, text_cells

_BLOCK_BYTES = 2**20
"""Text of a block."""
_PARSED_BYTES = 6 * 2**20
"""What the text of a block takes while it is parsed,"""
_ROW_BYTES = 200
"""and each of its lines as an object of Python, at most: most where lines are short and in quotes."""
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
        header: whether the first line of each file names the columns; None: a line without numbers does, one of
            numbers does not, and where that is unclear (0,1,label), the error asks.
        task: "classification" or "regression", to overrule what the targets look like.
        class_names: the known classes, in order, for files whose classes must be numbered as those of others.

    Raises:
        FileNotFoundError: a file is not there.
        DataFileError: a file is empty, no UTF-8 text, has rows of different widths or bad quotes, a missing target, or
            a first line that may be the header or not. While reading: cells that are no finite numbers. Each names the
            line and the column.
        ValueError: the files do not fit together.
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"open_csv(task) expects 'classification', 'regression' or None, got {task!r}.")
    return join(_open(matching(paths, "a CSV file"), target, header, task, class_names))


class WholeCsv(NamedTuple):
    """All of a CSV file: X (n_samples, n_features), y as `encode_targets` makes it, and what they are called."""

    X: HostArray
    y: HostArray
    task: Task
    class_names: tuple[str, ...] | None
    feature_names: tuple[str, ...] | None
    target_name: str | None


def read_whole(
    path: Path, target: str | int, *, header: bool | None, task: Task | None, class_names: Sequence[str] | None
) -> WholeCsv:
    """What `open_csv` finds in a file, read at once: `load` and `open_csv` cannot differ."""
    (source,) = _open([path], target, header, task, class_names)
    pieces = [piece for block in range(len(source.block_sizes)) for piece in source.read(block)]
    X = np.concatenate([X for X, _, _ in pieces])
    y = np.concatenate([y for _, y, _ in pieces if y is not None])
    assert source.task is not None
    (target_name,) = source.target_names or (None,)
    return WholeCsv(X, y, source.task, source.class_names, source.feature_names, target_name)


def _open(
    paths: Sequence[Path],
    target: str | int | None,
    header: bool | None,
    task: Task | None,
    class_names: Sequence[str] | None,
) -> list[CsvFile]:
    targets = [_Targets(CsvReader(path, header), target) for path in paths]
    names: tuple[str, ...] | None = None
    if target is not None:
        task, names = _classes(targets, task, class_names)
    is_text = any(part.is_text for part in targets)
    return [CsvFile(part, task, names, is_text) for part in targets]


class _Targets:
    """What one pass over a file finds of its targets.

    Attributes:
        column: the number of the target column, or None.
        lines: where each of the different cells of the target column stands first, or None where there are too many.
        is_text: whether some of them are no numbers.
    """

    def __init__(self, reader: CsvReader, target: str | int | None) -> None:
        self.reader = reader
        self.lines: dict[str, int] | None = {}
        self.is_text = False
        self.column = None if target is None else reader.column(target, "the target column")
        if reader.n_columns == (target is not None):
            raise DataFileError(reader.path, "has a single column; expected features and a target.")
        for table in reader.scan(_BLOCK_BYTES):
            if self.column is not None:
                self._note(table, self.column)

    def place(self, line: int) -> str:
        """How an error names the target in a line."""
        assert self.column is not None
        return f"line {line}, {self.reader.column_name(self.column)}"

    def _note(self, table: Table, column: int) -> None:
        cells = table.text(column)
        here = dict(zip(reversed(cells), reversed(table.line_numbers), strict=True))  # the first line of each is kept
        self.is_text = self.is_text or parse_cells(list(here)).dtype.kind == "O"
        if self.lines is not None:
            self.lines = here | self.lines
            if len(self.lines) > _MOST_VALUES:
                self.lines = None


def _classes(
    targets: list[_Targets], task: Task | None, class_names: Sequence[str] | None
) -> tuple[Task | None, tuple[str, ...] | None]:
    """The task and the names of the classes, by the target cells of all files."""
    is_text = any(part.is_text for part in targets)
    places: dict[str, tuple[_Targets, int]] = {}
    for part in targets:
        if part.lines is None:
            if is_text or task == "classification":
                raise DataFileError(part.reader.path, f"has more than {_MOST_VALUES:,} different labels.")
            return "regression", None
        for cell, line in sorted(part.lines.items(), key=lambda item: item[1]):  # the first at fault is named
            places.setdefault(cell, (part, line))
    cells, at = list(places), list(places.values())
    at_fault = targets[0]

    def row_name(row: int) -> str:
        nonlocal at_fault
        at_fault, line = at[row]
        return at_fault.place(line)

    values = text_cells(cells) if is_text else parse_cells(cells)
    try:
        return encode_targets(values, targets[0].reader.path, row_name, task, class_names)[1:]
    except DataFileError as error:
        raise DataFileError(at_fault.reader.path, error.fault) from error


class CsvFile(BlockSource):
    """The runs of lines of one file."""

    def __init__(
        self, targets: _Targets, task: Task | None, class_names: tuple[str, ...] | None, is_text: bool
    ) -> None:
        self._reader, self._place_of = targets.reader, targets.place
        self.task, self._target, self._is_text = task, targets.column, is_text
        self._columns = [i for i in range(self._reader.n_columns) if i != self._target]
        rows = [run.rows for run in self._reader.runs]
        super().__init__(
            len(self._columns),
            np.float64,
            rows,
            has_targets=self._target is not None,
            piece_size=max(*rows, (_PARSED_BYTES + _ROW_BYTES * max(rows)) // (8 * len(self._columns))),
        )
        self.class_names = class_names
        names = self._reader.names
        self.feature_names = None if names is None else tuple(names[i] for i in self._columns)
        self.target_names = None if names is None or self._target is None else (names[self._target],)

    def read(self, block: int) -> Iterator[Piece]:
        table = self._reader.table(self._reader.runs[block])
        yield table.numbers(self._columns), self._targets(table), None

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        yield self._targets(self._reader.table(self._reader.runs[block])), None

    def place(self, sample: int) -> str:
        block = int(np.searchsorted(self.starts, sample, side="right")) - 1
        line = self._reader.table(self._reader.runs[block]).line_numbers[sample - int(self.starts[block])]
        return f"{self._reader.path}, line {line}"

    def _targets(self, table: Table) -> HostArray | None:
        if self._target is None:
            return None
        cells = table.text(self._target)
        values = text_cells(cells) if self._is_text else parse_cells(cells)

        def row_name(row: int) -> str:
            return self._place_of(table.line_numbers[row])

        return encode_targets(values, self._reader.path, row_name, self.task, self.class_names)[0]
