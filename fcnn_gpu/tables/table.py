"""A table as it was read: columns of equal length, each with a name."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._arrays import refuse_data_set
from .._checks import suggest
from .._console import counted
from .._types import HostArray
from ._column import Column
from ._from_frames import frame_columns, is_frame, is_series, series_column
from ._from_python import array_column, object_column


class Table:
    """Columns of equal length, in order, by name.

    `fcnn_gpu.tables.read` makes one of a file or a DataFrame. Nothing is interpreted yet: numbers, dates, booleans and
    text are as the file or the DataFrame has them.

    >>> table = Table.of({"size": [1.5, 2.0], "colour": ["red", None]})
    >>> table
    Table(2 rows × 2 columns: size, colour)
    >>> table["colour"].to_numpy()
    array(['red', None], dtype=object)

    Attributes:
        columns: the `Column`s.
        has_names: whether the source names its columns; otherwise they are called "0", "1", ... and known by place.
        source: the file, or what kind of object it was.
        notes: what there is to say about how it was read.
    """

    def __init__(
        self, columns: Sequence[Column], has_names: bool = True, source: str = "table", notes: Sequence[str] = ()
    ) -> None:
        self.columns = tuple(columns)
        self.has_names, self.source, self.notes = has_names, source, tuple(notes)
        self._place = {column.name: i for i, column in enumerate(self.columns)}
        if len(self._place) < len(self.columns):
            names = self.names
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{source} has several columns named {', '.join(map(repr, twice))}. Rename or drop them.")
        lengths = {len(column) for column in self.columns}
        if len(lengths) > 1:
            raise ValueError(f"The columns of {source} have different lengths: {sorted(lengths)}.")
        self.n_rows = lengths.pop() if lengths else 0

    @classmethod
    def of(cls, X: Any, who: str = "Table.of") -> Table:
        """A Table of anything with columns: a DataFrame (pandas, Polars, Arrow, or another with Arrow's interface or
        the interchange protocol), a mapping of names to columns, a matrix, or rows of values.

        TypeError for what has no columns.
        """
        if isinstance(X, Table):
            return X
        if hasattr(X, "tocsr"):
            raise TypeError(f"{who} expects a dense table, got the sparse {type(X).__name__}. Pass its toarray().")
        refuse_data_set(X, f"{who}: X")
        if isinstance(X, Mapping):
            return cls(_columns_of_mapping(X, who), source="mapping")
        if hasattr(X, "to_frame") and not hasattr(X, "columns"):
            one = "df[['name']] is a table of one column, df.iloc[[0]] one of one row."
            raise TypeError(f"{who} expects a table, got a {type(X).__name__}, which is a single column. {one}")
        if is_frame(X):
            kind = f"{type(X).__module__.partition('.')[0]}.{type(X).__name__}"
            return cls(frame_columns(X), source=kind)
        if isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(object), None)
        array = X if isinstance(X, np.ndarray) else _matrix(X, who)
        if array.dtype.names:
            return cls(_columns_of_mapping({name: array[name] for name in array.dtype.names}, who), source="array")
        if array.dtype.kind == "c":
            raise ValueError(f"{who}: Complex data not supported. Pass real and imaginary parts as columns.")
        if array.ndim != 2:
            hint = "Reshape your data: X.reshape(-1, 1) is one column, X.reshape(1, -1) one row."
            raise ValueError(f"{who} expects a table, or a matrix (n_rows, n_columns), got shape {array.shape}. {hint}")
        columns = [array_column(str(i), array[:, i]) for i in range(array.shape[1])]
        table = cls(columns, has_names=False, source="array")
        table.n_rows = len(array)
        return table

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._place

    def __getitem__(self, name: str) -> Column:
        if name not in self._place:
            raise KeyError(f"{self.source} has no column {name!r}. {suggest(name, self.names)}")
        return self.columns[self._place[name]]

    def __repr__(self) -> str:
        names = ", ".join(self.names[:8]) + (", ..." if len(self.columns) > 8 else "")
        return f"Table({counted(self.n_rows, 'row')} × {counted(len(self.columns), 'column')}: {names})"

    def name_of(self, spec: str | int, role: str = "column") -> str:
        """The name of a column given by name or by number from 0 (negative from the end). ValueError for none."""
        if isinstance(spec, str) and spec in self._place:
            return spec
        text = str(spec)
        digits = text[1:] if text.startswith("-") else text
        if digits.isascii() and digits.isdigit():
            number = int(text)
            if -len(self.columns) <= number < len(self.columns):
                return self.columns[number].name
            raise ValueError(f"{self.source} has {counted(len(self.columns), 'column')}, and no {role} {number}.")
        unnamed = "" if self.has_names else " Its columns have no names: give their numbers from 0."
        raise ValueError(f"{self.source} has no {role} {text!r}. {suggest(text, self.names)}{unnamed}")

    def select(self, names: Sequence[str]) -> Table:
        """A table of these columns, in this order."""
        return self._with([self[name] for name in names])

    def drop(self, *names: str) -> Table:
        """A table without these columns."""
        gone = {self[name].name for name in names}
        return self._with([column for column in self.columns if column.name not in gone])

    def take(self, rows: Any) -> Table:
        """A table of these rows, by number or by a mask."""
        rows = np.asarray(rows)
        if not rows.size:
            rows = np.zeros(0, np.intp)
        rows = np.flatnonzero(rows) if rows.dtype.kind == "b" else rows
        table = self._with([column.take(rows) for column in self.columns])
        table.n_rows = len(rows)
        return table

    def blank(self, rows: HostArray) -> Table:
        """The same table with these rows, by number, missing in all columns: the others keep their numbers."""
        return self._with([column.blank(rows) for column in self.columns])

    def _with(self, columns: Sequence[Column]) -> Table:
        table = Table(columns, self.has_names, self.source, self.notes)
        table.n_rows = table.n_rows if columns else self.n_rows
        return table


def is_table(x: Any) -> bool:
    """Whether `x` has columns with names: a `Table`, a mapping of columns, or a DataFrame."""
    return type(x) is not np.ndarray and (isinstance(x, Table | Mapping) or is_frame(x))


def _columns_of_mapping(X: Mapping[Any, Any], who: str) -> list[Column]:
    """Columns of lists, arrays or Series. TypeError that names all values that are none."""
    columns, single = [], []
    for name, values in X.items():
        if isinstance(values, Column):
            columns.append(values.renamed(str(name)))
        elif is_series(values):
            columns.append(series_column(str(name), values))
        elif isinstance(values, np.ndarray) and values.ndim != 1:
            single.append(f"{name!r} has shape {values.shape}")
        elif isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            single.append(f"{name!r} is {reprlib.repr(values)}")
        elif isinstance(values, np.ndarray):
            columns.append(array_column(str(name), values))
        else:
            columns.append(object_column(str(name), list(values)))
    if single:
        raise TypeError(
            f"{who} expects a list of values for each column, and {'; '.join(single)}. One row is {{'age': [42]}}."
        )
    return columns


def _matrix(X: Any, who: str) -> HostArray:
    try:
        array = np.asarray(X)
        if array.dtype.kind in "USO" and not isinstance(X, np.ndarray) and not hasattr(X, "__array__"):
            array = np.array(X, dtype=object)  # numbers beside text stay numbers
    except ValueError as error:
        raise ValueError(f"{who} got rows of different lengths: {error}.") from error
    if array.dtype.kind == "O" and array.ndim != 2 and not array.ndim:
        remedy = " Of a file: fcnn_gpu.tables.read(path)." if isinstance(X, str | os.PathLike) else ""
        raise TypeError(f"{who} expects a table, got {type(X).__name__}.{remedy}")
    return array
