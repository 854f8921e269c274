"""Data sets in Parquet files, read by row groups through pyarrow."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .._extras import how_to_install
from .._types import DType, HostArray
from ._files import DataFileError
from ._rows import BLOCK_BYTES, Paths, Unchanged, matching
from ._source import BlockSource, Piece, join

_DECODER_BYTES = 48 * 2**20
"""What pyarrow's own pools take, whatever the file."""
_COLUMN_BYTES = 4 * 2**20
"""What a page and a dictionary take at most: pyarrow limits both to 1 MiB where it writes a file."""
_INDEX = re.compile(r"__index_level_[0-9]+__")
"""What pandas and pyarrow call an index without a name."""


def open_parquet(
    paths: Paths,
    target: str | Sequence[str] | None,
    features: Sequence[str] | None = None,
    sample_weight: str | None = None,
) -> BlockSource:
    """A data set in Parquet files; each row group is a block. Needs pyarrow.

    Hundreds of features are read several times as fast from one column of fixed-size lists as from a column each, and
    a row group then takes less memory while it is decoded.

    Args:
        paths: a file, a list of files, or a pattern such as "train-*.parquet", in the order of the names.
        target: the column with the targets, or several; None: there is none.
        features: the columns with the features, in this order: numbers, or fixed-size lists of numbers. (default: all
            others, in the file's order, but for those that hold the index of a pandas table)
        sample_weight: the column with the weights of the samples' losses.

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError: a file is not there.
        DataFileError: a file is no Parquet file, lacks a column, or a column holds something other than numbers.
            While reading: nulls, with their row.
        ValueError: the files do not fit together.
    """
    _pyarrow_parquet()
    targets = [] if target is None else [target] if isinstance(target, str) else _names("target", target)
    chosen = None if features is None else _names("features", features)
    if sample_weight is not None and not isinstance(sample_weight, str):
        raise TypeError(f"open_parquet(sample_weight) expects the name of a column, got {sample_weight!r}.")
    for name in chosen or ():
        if name in targets or name == sample_weight:
            what = "target" if name in targets else "sample_weight"
            raise ValueError(f"open_parquet(features) holds {name!r}, which is the {what}. Leave one out.")
    files = matching(paths, "a Parquet file")
    return join([ParquetFile(path, targets, chosen, sample_weight, isinstance(target, str)) for path in files])


def _names(argument: str, given: Any) -> list[str]:
    names: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [None]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"open_parquet({argument}) expects names of columns, such as ['a', 'b'], got {given!r}.")
    return names


def _pyarrow_parquet() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"Parquet files are read by pyarrow, which is not installed. Install it: {how_to_install('parquet')}"
        ) from error
    return pyarrow.parquet


@contextlib.contextmanager
def arrow_faults(path: Path, what: str) -> Iterator[None]:
    """Whatever pyarrow raises over a damaged file, as an error that names the file; `what` begins its fault."""
    import pyarrow

    try:
        yield
    except DataFileError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise DataFileError(path, f"{what} ({error}). Was it cut off or damaged?") from error
    # Names that are no UTF-8 are found by Python; a size that cannot be allocated is one that the file states.
    except (pyarrow.ArrowException, ValueError, TypeError, LookupError, OverflowError, RuntimeError) as error:
        raise DataFileError(path, f"{what} ({error}). Was it cut off or damaged?") from error


class ParquetFile(BlockSource):
    """The row groups of one file, each decoded piece by piece."""

    def __init__(
        self,
        path: Path,
        targets: list[str],
        features: list[str] | None,
        weight: str | None,
        one_target: bool,
    ) -> None:
        self._path, self._unchanged = path, Unchanged(path)
        self._metadata: Any = None
        with arrow_faults(self._path, "is not a whole Parquet file"), self._open() as file:
            self._metadata, schema = file.metadata, file.schema_arrow
            names = list(schema.names)  # which are decoded only now
            groups = [self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups)]
        if min(groups, default=0) < 0 or sum(groups) != self._metadata.num_rows:
            raise DataFileError(
                path, f"is damaged: its row groups have {groups} rows, the file {self._metadata.num_rows:,}."
            )
        beside = [*targets, *([] if weight is None else [weight])]
        if features is None:
            left_out = {*beside, *index_columns(path, schema, names)}
            features = [name for name in names if name not in left_out]
        self._features = features
        self._targets, self._weight, self._one_target = targets, weight, one_target
        times = Counter(names)
        for name in beside:
            if _Column.of(schema, times, name, path).width is not None:
                raise DataFileError(path, f"column {name!r} holds lists; targets and weights are single numbers.")
        columns = [_Column.of(schema, times, name, path) for name in self._features]
        if not columns:
            raise DataFileError(path, "has no column left for the features.")
        self._groups = [i for i, n in enumerate(groups) if n]
        if not self._groups:
            raise DataFileError(path, "has no rows.")
        n_features = sum(1 if column.width is None else column.width for column in columns)
        if not n_features:
            raise DataFileError(path, "has features of lists of length 0 alone.")
        dtype = np.result_type(*(column.dtype for column in columns))
        self._piece = max(1, BLOCK_BYTES // (n_features * dtype.itemsize))
        sizes = [groups[i] for i in self._groups]
        super().__init__(
            n_features,
            dtype,
            sizes,
            has_targets=bool(targets),
            has_weights=weight is not None,
            piece_size=2 * min(self._piece, max(sizes)) + self._decoding_bytes() // (n_features * dtype.itemsize),
        )
        self.target_names = tuple(targets) or None
        self.feature_names = tuple(
            name if column.width is None else f"{name}[{i}]"
            for name, column in zip(self._features, columns, strict=True)
            for i in range(column.width or 1)
        )

    def read(self, block: int) -> Iterator[Piece]:
        for row, batch in self._batches(block, [*self._features, *self._beside]):
            yield self._matrix(batch, row), *self._targets_and_weights(batch, row)

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        for row, batch in self._batches(block, self._beside):
            yield self._targets_and_weights(batch, row)

    def place(self, sample: int) -> str:
        return f"{self._path}, row {sample}"

    def _matrix(self, batch: Any, row: int) -> HostArray:
        """X (n, n_features) of a record batch: the columns as rows, one after the other, and then turned at once."""
        columns = [self._numbers(batch, name, row) for name in self._features]
        if len(columns) == 1 and columns[0].ndim == 2:
            return columns[0]
        rows = np.empty((self.n_features, batch.num_rows), self.dtype)
        at = 0
        for values in columns:
            width = 1 if values.ndim == 1 else values.shape[1]
            rows[at : at + width] = values.T
            at += width
        return np.ascontiguousarray(rows.T)

    @property
    def _beside(self) -> list[str]:
        return list(dict.fromkeys([*self._targets, *([] if self._weight is None else [self._weight])]))

    def _decoding_bytes(self) -> int:
        """About what pyarrow holds while it decodes a row group, as measured: pages and a dictionary of each column."""
        # By the row group's own sum: pyarrow ends the process (`std::terminate`) where a damaged footer is asked for a
        # column's metadata.
        groups = [self._metadata.row_group(i) for i in self._groups]
        sizes = (min(_COLUMN_BYTES * group.num_columns, 9 * group.total_byte_size // 4) for group in groups)
        return _DECODER_BYTES + max(0, *sizes)

    def _open(self) -> Any:
        # Without read-ahead of its own and with a small buffer, a row group is not in memory as a whole.
        return _pyarrow_parquet().ParquetFile(
            self._path,
            metadata=self._metadata,
            buffer_size=2**16,
            pre_buffer=False,
            page_checksum_verification=True,
        )

    def _batches(self, block: int, columns: list[str]) -> Iterator[tuple[int, Any]]:
        """The number of the first row, and the record batch, one after the other."""
        self._unchanged.check()
        row, end = (int(i) for i in self.starts[block : block + 2])
        place = f"row group {self._groups[block]} (from row {row} on) cannot be read"
        columns = list(dict.fromkeys(columns))
        with arrow_faults(self._path, place), self._open() as file:
            # One thread: this one reads beside the network's computation, and several hold more memory.
            batches = file.iter_batches(
                self._piece, row_groups=[self._groups[block]], columns=columns, use_threads=False
            )
            for batch in batches:
                yield row, batch
                row += batch.num_rows
            if row != end:
                raise DataFileError(self._path, f"row group {self._groups[block]} ends at row {row}, not at {end}.")

    def _targets_and_weights(self, batch: Any, row: int) -> tuple[HostArray | None, HostArray | None]:
        targets = [self._numbers(batch, name, row) for name in self._targets]
        whole = None if not targets else targets[0] if self._one_target else np.stack(targets, axis=1)
        return whole, None if self._weight is None else self._numbers(batch, self._weight, row)

    def _numbers(self, batch: Any, name: str, row: int) -> HostArray:
        """A column (n,), or (n, width) of lists; DataFileError for nulls."""
        with arrow_faults(self._path, f"column {name!r} cannot be read from row {row} on"):
            return self._values(batch.column(name), name, row)

    def _values(self, column: Any, name: str, row: int) -> HostArray:
        lists = hasattr(column.type, "list_size")
        values = column.flatten() if lists and not column.null_count else column
        if values.null_count:
            missing = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            bad = row + missing // (column.type.list_size if lists and values is not column else 1)
            raise DataFileError(
                self._path, f"row {bad}, column {name!r}: missing value (null). Fill or remove the row first."
            )
        numbers: HostArray = values.to_numpy(zero_copy_only=False)
        return numbers.reshape(len(column), -1) if lists else numbers


def index_columns(path: Path, schema: Any, names: list[str]) -> list[str]:
    """The columns that are the index of a pandas table: by the metadata that `to_parquet` writes, or by their name.

    Source: https://pandas.pydata.org/docs/development/developer.html; a range as index has no column.
    """
    written = (schema.metadata or {}).get(b"pandas")
    if written is None:
        index = []
    else:
        try:
            index = json.loads(written)["index_columns"]
            index = [entry for entry in index if isinstance(entry, str)]
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise DataFileError(
                path,
                f"its pandas metadata cannot be read ({error}): which columns are an index? Name the features: "
                "features=[...].",
            ) from error
    return [*index, *(name for name in names if _INDEX.fullmatch(name))]


class _Column:
    """What a column holds: numbers of a dtype, or lists of `width` of them."""

    def __init__(self, dtype: DType, width: int | None) -> None:
        self.dtype, self.width = dtype, width

    @classmethod
    def of(cls, schema: Any, times: Counter[str], name: str, path: Path) -> _Column:
        """That of a schema whose columns' names occur so many times."""
        import pyarrow

        if times[name] != 1:
            names = list(times.elements())
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            fault = "does not exist" if not times[name] else "occurs more than once"
            raise DataFileError(path, f"column {name!r} {fault}. Columns: {shown}.")
        kind, width = schema.field(name).type, None
        if pyarrow.types.is_fixed_size_list(kind):
            kind, width = kind.value_type, kind.list_size
        types = pyarrow.types
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise DataFileError(
                path,
                f"column {name!r} holds {schema.field(name).type} values; expected numbers or lists of one length."
                " Encode them as numbers first, or name the columns to use: features=[...].",
            )
        return cls(np.dtype(kind.to_pandas_dtype()), width)
