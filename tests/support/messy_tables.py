"""One table with all that people's tables have, as every kind of file and DataFrame that is read."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N = 60
_RNG = np.random.default_rng(0)
_GAPS = ("", "NA", "?", "n/a", "NULL", "-", "NaN", "none", "#N/A")
_DAY = datetime.date(2023, 11, 20)
_ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


def _some(values: list[Any], gap_each: int, gaps: tuple[Any, ...] = _GAPS) -> list[Any]:
    return [gaps[i % len(gaps)] if i % gap_each == gap_each - 1 else value for i, value in enumerate(values)]


_NUMBERS = [float(x) for x in (_RNG.normal(size=N) * 1000).round(3)]

COLUMNS: dict[str, list[Any]] = {
    "größe": _some(_NUMBERS, 7, (None,)),
    "whole": [int(x) for x in _RNG.integers(-50, 50, N)],
    "decimal commas": _some([f"{x:,.2f}".translate(str.maketrans(",.", ".,")) for x in _NUMBERS], 9),
    "thousands": [f"{x:,.1f}" for x in _NUMBERS],
    "share": _some([f"{x:.1f} %" for x in _NUMBERS], 8),
    "euros": [f"{abs(x):.2f} €".replace(".", ",") for x in _NUMBERS],
    "dollars": [f"-${-x:,.2f}" if x < 0 else f"${x:,.2f}" for x in _NUMBERS],
    "height": [f"{150 + i % 40} cm" for i in range(N)],
    "two prices": ["9,50 €" if i % 3 else "10,50 €" for i in range(N)],
    "smokes": _some(["yes" if i % 3 else "no" for i in range(N)], 10),
    "active": [i % 4 == 0 for i in range(N)],
    "maybe active": _some([i % 3 == 0 for i in range(N)], 6, (None,)),
    "town": _some([f" {t}" for t in (["New  York", "Paris\u00a0", "Zürich", "Oslo  "] * N)[:N]], 11),
    "day": _some([_DAY + datetime.timedelta(3 * i) for i in range(N)], 12, (None,)),
    "german day": [(_DAY + datetime.timedelta(i)).strftime("%d.%m.%Y") for i in range(N)],
    "us day": [(_DAY + datetime.timedelta(i)).strftime("%m/%d/%Y %I:%M %p") for i in range(N)],
    "clock": [f"{i % 24:02d}:{i * 7 % 60:02d}" for i in range(N)],
    "stamp": [datetime.datetime(2024, 2, 28, 22, 30, 1, 500000, _ZONE) + datetime.timedelta(hours=i) for i in range(N)],
    "row": list(range(N)),
    "uuid": [str(uuid.UUID(int=12345678901234567890 * (i + 1))) for i in range(N)],
    "user_id": [2**60 + 3 * i * i for i in range(N)],
    "always": ["same"] * N,
    "empty": [None] * N,
    "note": [f'He said "{i}", and left;\nthen, after a\twhile, came back' for i in range(N)],
    "code": [f"{i % 7:03d}" for i in range(N)],
    "名前": [("a", "b;c", 'd"e', "f,g")[i % 4] for i in range(N)],
}
"""By name, the values as a program has them: None for gaps, and text where people wrote numbers and dates."""

KINDS = {
    "größe": "number",
    "whole": "number",
    "decimal commas": "number",
    "thousands": "number",
    "share": "number",
    "euros": "number",
    "dollars": "number",
    "height": "number",
    "two prices": "yes_no",
    "smokes": "yes_no",
    "active": "yes_no",
    "maybe active": "yes_no",
    "town": "category",
    "day": "date",
    "german day": "date",
    "us day": "date",
    "clock": "date",
    "stamp": "date",
    "row": "id",
    "uuid": "id",
    "user_id": "id",
    "always": "constant",
    "empty": "constant",
    "note": "text",
    "code": "category",
    "名前": "category",
}
_TOLD = ("town", "smokes", "名前")
"""Columns that a program may keep as categories."""


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def csv_text(delimiter: str = ",", end: str = "\n") -> str:
    """The table as CSV, quoted where it must be."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(values[i]) for values in COLUMNS.values()] for i in range(N))
    return text.getvalue()


def _pandas() -> Any:
    import pandas as pd

    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in COLUMNS.items()})
    for name in ("größe", "whole", "active", "row", "user_id"):
        frame[name] = frame[name].infer_objects() if name != "größe" else frame[name].astype(float)
    frame["day"], frame["stamp"] = pd.to_datetime(frame["day"]), pd.to_datetime(frame["stamp"])
    return frame


def _pandas_nullable() -> Any:
    return _pandas().convert_dtypes()


def _pandas_arrow() -> Any:
    return _pandas().convert_dtypes(dtype_backend="pyarrow")


def _pandas_categories() -> Any:
    frame = _pandas()
    for name in _TOLD:
        frame[name] = frame[name].astype("category").cat.add_categories(["never there"])
    return frame


def _polars() -> Any:
    import polars as pl

    return pl.DataFrame({name: pl.Series(name, values, strict=False) for name, values in COLUMNS.items()})


def _polars_categories() -> Any:
    import polars as pl

    return _polars().with_columns(
        pl.col(*_TOLD[:2]).cast(pl.Categorical), pl.col(_TOLD[2]).cast(pl.Enum(["f,g", "zzz", "a", "b;c", 'd"e']))
    )


def _arrow() -> Any:
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in COLUMNS.items()})


def _bytes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def _zst(path: Path) -> None:
    import pyarrow as pa

    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(csv_text().encode())


def _parquet(path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(_arrow(), path)


def _feather(path: Path) -> None:
    from pyarrow import feather

    feather.write_feather(_arrow(), str(path))


def _stream(path: Path) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(str(path), _arrow().schema) as writer:
        writer.write_table(_arrow(), max_chunksize=17)


def _excel(path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(list(COLUMNS))
    for i in range(N):
        row = [values[i] for values in COLUMNS.values()]
        book.active.append(
            [
                value.astimezone(datetime.UTC).replace(tzinfo=None)
                if isinstance(value, datetime.datetime)
                else str(value)
                if isinstance(value, int) and value > 2**53
                else value
                for value in row
            ]
        )
    book.save(path)


def _json_lines(path: Path) -> None:
    lines = [json.dumps({name: values[i] for name, values in COLUMNS.items()}, default=str) for i in range(N)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


FILES: dict[str, Callable[[Path], Any]] = {
    "a.csv": _bytes(csv_text().encode()),
    "crlf.csv": _bytes(csv_text(end="\r\n").encode()),
    "semicolons.csv": _bytes(csv_text(";").encode("utf-8-sig")),
    "utf16.txt": _bytes(csv_text("\t").encode("utf-16")),
    "a.tsv": _bytes(csv_text("\t").encode()),
    "a.csv.gz": _bytes(gzip.compress(csv_text().encode())),
    "a.csv.zst": _zst,
    "a.parquet": _parquet,
    "a.feather": _feather,
    "a.arrows": _stream,
    "a.xlsx": _excel,
    "a.jsonl": _json_lines,
}
"""What writes the table, by the name of the file."""

FRAMES: dict[str, Callable[[], Any]] = {
    "mapping": lambda: COLUMNS,
    "pandas": _pandas,
    "pandas nullable": _pandas_nullable,
    "pandas with Arrow's dtypes": _pandas_arrow,
    "pandas with categories": _pandas_categories,
    "Polars": _polars,
    "Polars with categories": _polars_categories,
    "Polars, lazy": lambda: _polars().lazy(),
    "Arrow": _arrow,
}
"""What makes the table in memory."""
