"""Columns of files that are no CSV: Parquet, Arrow and Feather, Excel, JSON; and what a compressed file holds."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from ..datasets import DataFileError
from ..datasets._csv import Table as Head
from ..datasets._csv_header import has_header
from ..datasets._files import naming
from ..datasets._parquet import arrow_faults, index_columns
from ._column import Column
from ._from_arrow import arrow_columns
from ._from_csv import column_names
from ._from_frames import MissingReaderError
from ._from_python import object_column

_SEPARATOR = "\x1f"
_HEAD_ROWS = 101
_NO_NAME = re.compile(r"__index_level_[0-9]+__")


def content_of(path: Path) -> bytes:
    """The bytes of a file, unpacked where it ends in .gz or .zst."""
    with naming(path):
        content = path.read_bytes()
    ending = path.suffix.lower()
    if ending == ".gz":
        try:
            return gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataFileError(path, f"is no whole gzip file ({error}). Was it cut off or damaged?") from error
    if ending == ".zst":
        import_pyarrow(".zst files")
        import pyarrow as pa

        with arrow_faults(path, "is no whole Zstandard file"):
            return pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    return content


def parquet_columns(path: Path) -> tuple[list[Column], bool, list[str]]:
    import_pyarrow("Parquet files")
    from pyarrow import parquet

    with arrow_faults(path, "is no whole Parquet file"), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        left_out = index_columns(path, schema, list(schema.names))
        columns = arrow_columns(file.read(columns=[name for name in schema.names if name not in left_out]))
        return columns, True, _of_index(left_out)


def arrow_file_columns(path: Path) -> tuple[list[Column], bool, list[str]]:
    """Arrow's IPC files and streams; Feather is the former."""
    import_pyarrow("Arrow files")
    import pyarrow as pa
    from pyarrow import feather

    with arrow_faults(path, "is no whole Arrow file"):
        try:
            table = feather.read_table(path)
        except pa.ArrowInvalid:
            with pa.OSFile(str(path)) as file:
                table = pa.ipc.open_stream(file).read_all()
        table.validate(full=True)  # or a damaged file's offsets would lead anywhere in memory
        left_out = index_columns(path, table.schema, table.column_names)
        columns = arrow_columns(table.drop_columns([name for name in table.column_names if name in left_out]))
        return columns, True, _of_index(left_out)


def _of_index(left_out: list[str]) -> list[str]:
    """What there is to say of an index: one with a name may well be meant to be a column."""
    named = [repr(name) for name in dict.fromkeys(left_out) if not _NO_NAME.fullmatch(name)]
    return [f"pandas' index {', '.join(named)} is no column (reset_index makes it one)"] if named else []


def json_columns(path: Path, content: bytes) -> list[Column]:
    """JSON lines, an object each; or one list of objects. Names that only some have are missing in the others."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFileError(path, f"is not UTF-8 text: {error}.") from error
    records: list[Any] = []
    if text.lstrip()[:1] == "[":
        try:
            records = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataFileError(path, f"is no JSON: {error}.") from error
    else:
        for number, line in enumerate(text.split("\n"), start=1):  # a string may hold other line separators
            if line.strip():
                try:
                    records.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise DataFileError(path, f"line {number} is no JSON: {error}.") from error
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataFileError(path, f"record {i + 1} is no object with names and values: {str(record)[:60]}.")
    if not records:
        raise DataFileError(path, "holds no records.")
    if len(records) == 1 and records[0] and all(isinstance(value, dict | list) for value in records[0].values()):
        raise DataFileError(
            path, "is one object of columns; expected an object for each row, as pandas writes with orient='records'."
        )
    names = dict.fromkeys(name for record in records for name in record)
    return [object_column(name, [record.get(name) for record in records]) for name in names]


def excel_columns(path: Path, sheet: str | None, header: bool | None) -> tuple[list[Column], bool, list[str]]:
    """The table on a sheet of an .xlsx file: from its first row with anything in it, to the last."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise MissingReaderError(
            "Excel files are read by openpyxl, which is not installed: pip install openpyxl"
        ) from error
    try:
        with naming(path), contextlib.closing(load_workbook(path, read_only=True, data_only=True)) as book:
            if sheet is not None and sheet not in book.sheetnames:
                near = next((name for name in book.sheetnames if name.lower() == sheet.lower()), None)
                hint = "" if near is None else f" Did you mean {near!r}?"
                raise DataFileError(path, f"has no sheet {sheet!r}.{hint} Its sheets: {', '.join(book.sheetnames)}.")
            chosen = book[book.sheetnames[0] if sheet is None else sheet]
            rows = [list(row) for row in chosen.iter_rows(values_only=True) if any(cell is not None for cell in row)]
            others = [name for name in book.sheetnames if name != chosen.title]
            title = chosen.title
    except DataFileError:
        raise
    except (InvalidFileException, KeyError, ValueError, OSError, EOFError, zlib.error, AttributeError) as error:
        raise DataFileError(path, f"is no whole .xlsx file ({error}).") from error
    except Exception as error:  # of zipfile and of the XML parsers that openpyxl uses
        raise DataFileError(path, f"is no whole .xlsx file ({type(error).__name__}: {error}).") from error
    width = max((i + 1 for row in rows for i, cell in enumerate(row) if cell is not None), default=0)
    rows = [(row + [None] * width)[:width] for row in rows]
    if not rows:
        raise DataFileError(path, f"sheet {title!r} is empty.")
    first = ["" if cell is None else str(cell).strip() for cell in rows[0]]
    if header is None:
        lines = [_SEPARATOR.join("" if cell is None else str(cell) for cell in row) for row in rows[:_HEAD_ROWS]]
        header = has_header(Head(path, None, width, lines, range(1, len(lines) + 1), _SEPARATOR))
    if header and len(rows) == 1:
        raise DataFileError(path, f"sheet {title!r} has a header but no rows.")
    names = column_names(first if header else [""] * width, header)
    columns = [object_column(name, [row[i] for row in (rows[1:] if header else rows)]) for i, name in enumerate(names)]
    note = [f"sheet {title!r} was read; there are also {', '.join(map(repr, others))}"] if others else []
    return columns, header, note if sheet is None else []


def import_pyarrow(what: str) -> None:
    """ImportError that says how to get pyarrow, where it is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingReaderError(f"{what} are read by pyarrow, which is not installed: pip install pyarrow") from error
