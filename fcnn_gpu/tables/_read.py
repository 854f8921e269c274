"""`read`: a table of whatever people keep tables in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..datasets import DataFileError
from ..datasets._files import existing_file
from ._from_csv import csv_columns
from ._from_files import arrow_file_columns, content_of, excel_columns, json_columns, parquet_columns
from .table import Table

_TEXT = (".csv", ".tsv", ".txt", ".data", ".dat", ".tab")
_JSON = (".jsonl", ".ndjson", ".json")
_PACKED = (".gz", ".zst")
_WHOLE: dict[str, Callable[[Path], Any]] = {
    ".parquet": parquet_columns,
    ".pq": parquet_columns,
    ".arrow": arrow_file_columns,
    ".arrows": arrow_file_columns,
    ".feather": arrow_file_columns,
    ".ipc": arrow_file_columns,
}
_EXCEL = (".xlsx", ".xlsm")
_ELSEWHERE = {
    ".xls": "Save it as .xlsx or .csv.",
    ".ods": "Save it as .xlsx or .csv.",
    ".xml": "Write the table as .csv or .parquet.",
    ".sas7bdat": "Write the table as .csv or .parquet.",
    ".dta": "Write the table as .csv or .parquet.",
    ".sav": "Write the table as .csv or .parquet.",
    ".rds": "Write the table as .csv or .parquet.",
    ".rdata": "Write the table as .csv or .parquet.",
    ".h5": "Write the table as .csv or .parquet.",
    ".hdf5": "Write the table as .csv or .parquet.",
    ".sqlite": "Write the table as .csv or .parquet.",
    ".zip": "Unpack it first.",
    ".bz2": "Unpack it first.",
    ".xz": "Unpack it first.",
    ".pkl": "A pickle runs whatever code it holds. Write the table as .parquet.",
    ".pickle": "A pickle runs whatever code it holds. Write the table as .parquet.",
}
TABLE_SUFFIXES = (*_TEXT, *_JSON, *_WHOLE, *_EXCEL)
"""Endings of the files that `read` reads; those of text and JSON with .gz or .zst behind them, too."""


def is_table_file(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file has an ending that `read` knows."""
    ending, packed = _endings(Path(path))
    return ending in TABLE_SUFFIXES or ending in _ELSEWHERE or (packed and ending in _TEXT + _JSON)


def read(
    source: Any,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Table:
    """The table in a file, a DataFrame, a mapping of columns or a matrix.

    | file | read by |
    |---|---|
    | .csv .tsv .tab .txt .data .dat, also with .gz or .zst | pyarrow, or Python's csv without it |
    | .jsonl .ndjson .json (objects, or a list of them), also with .gz or .zst | Python's json |
    | .parquet .pq; .arrow .feather .ipc | pyarrow: `pip install pyarrow` |
    | .xlsx .xlsm | openpyxl: `pip install openpyxl` |

    DataFrames are pandas', Polars', Arrow's, and any other's with Arrow's interface (`__arrow_c_stream__`) or the
    interchange protocol (`__dataframe__`). pandas' index is no column.

    Args:
        source: a path, or an object in memory.
        header: of CSV and Excel files, whether the first row names the columns; None: a row without numbers does, one
            of numbers does not, and where that is unclear, the error asks.
        delimiter: between the cells of a CSV file; None: tab, semicolon, bar, comma or blank, as the first rows show.
        encoding: of a CSV file; None: UTF-8, UTF-16 with its mark, or else Windows' cp1252, which a note then says.
        sheet: of an Excel file; None: the first one.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: the file cannot be read; the message says where and why.
        MissingReaderError: what reads it is not installed; the message says how it is.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "houses.csv"
    >>> _ = path.write_text("price;area;street\\n1.200,50;80;Elm St\\n950;62,5;\\n")
    >>> read(path)
    Table(2 rows × 3 columns: price, area, street)
    """
    if not isinstance(source, str | os.PathLike):
        for name, given in (("header", header), ("delimiter", delimiter), ("encoding", encoding), ("sheet", sheet)):
            if given is not None:
                raise ValueError(f"tables.read({name}) is for files, and got a {type(source).__name__}.")
        return Table.of(source, "tables.read")
    path = existing_file(source, "a table")
    ending, packed = _endings(path)
    if ending in _ELSEWHERE:
        raise DataFileError(path, f"{ending} files are not read here. {_ELSEWHERE[ending]}")
    if packed and ending not in _TEXT + _JSON:
        raise DataFileError(path, f"a packed {ending or 'file'} is not read here; .csv.gz or .jsonl.gz would be.")
    text_only = {"header": header, "delimiter": delimiter, "encoding": encoding}
    allowed = {"header"} if ending in _EXCEL else set() if ending in (*_WHOLE, *_JSON) else set(text_only)
    for name, given in text_only.items():
        if given is not None and name not in allowed:
            raise ValueError(f"tables.read({name}) is for CSV files; {path} is read as {ending}.")
    if sheet is not None and ending not in _EXCEL:
        raise ValueError(f"tables.read(sheet) is for Excel files; {path} is read as {ending or 'CSV'}.")
    if ending in _WHOLE:
        return _table(path, *_WHOLE[ending](path))
    if ending in _EXCEL:
        return _table(path, *excel_columns(path, sheet, header))
    content = content_of(path)
    if ending in _JSON:
        return _table(path, json_columns(path, content))
    return _table(path, *csv_columns(path, content, header, delimiter, encoding))


def _table(path: Path, columns: Any, named: bool = True, notes: Any = ()) -> Table:
    try:
        table = Table(columns, named, str(path), notes)
    except ValueError as error:
        raise DataFileError(path, str(error).removeprefix(f"{path} ")) from error
    if not table.columns or not table.n_rows:
        raise DataFileError(path, f"has {len(table.columns)} columns and {table.n_rows} rows; expected some of both.")
    return table


def _endings(path: Path) -> tuple[str, bool]:
    """(the ending that tells the kind, in lower case; whether the file is packed)."""
    ending = path.suffix.lower()
    if ending in _PACKED:
        return path.with_suffix("").suffix.lower(), True
    return ending, False
