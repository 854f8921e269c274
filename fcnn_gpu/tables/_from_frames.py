"""Columns of DataFrames: pandas' by what their dtypes say, all others through Arrow or the interchange protocol.

No library is imported that the user has not imported already, pyarrow excepted, where it is installed.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from ._column import LARGEST_EXACT, Column, category_column, number_words, text_column
from ._from_arrow import arrow_column, arrow_columns
from ._from_python import array_column, object_column


class MissingReaderError(ImportError):
    """A library is not installed that reads this kind of table; the message says how it is."""


def is_frame(x: Any) -> bool:
    """Whether `x` has named columns that `frame_columns` reads."""
    return _is_pandas(x) or hasattr(x, "__arrow_c_stream__") or hasattr(x, "__dataframe__") or _is_polars(x)


def frame_columns(frame: Any) -> list[Column]:
    """The columns of a DataFrame, its index left out. ImportError where pyarrow is needed for it and not there."""
    if _is_pandas(frame):
        return [pandas_column(str(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
    if hasattr(frame, "collect") and hasattr(frame, "collect_schema"):  # a lazy one of Polars
        frame = frame.collect()
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow as pa

        if hasattr(frame, "__arrow_c_stream__"):
            return arrow_columns(pa.table(frame))
        from pyarrow.interchange import from_dataframe

        return arrow_columns(from_dataframe(frame))
    if _is_polars(frame):
        return [object_column(series.name, series.to_list()) for series in frame.get_columns()]
    raise MissingReaderError(
        f"A {type(frame).__module__}.{type(frame).__name__} is read through pyarrow, which is not installed: "
        "pip install pyarrow"
    )


def is_series(x: Any) -> bool:
    """Whether `x` is a column of a DataFrame: pandas', Polars' or Arrow's."""
    if hasattr(x, "iloc"):
        return hasattr(x, "factorize")
    return hasattr(x, "__arrow_c_array__") or (hasattr(x, "__arrow_c_stream__") and not hasattr(x, "columns"))


def series_column(name: str, series: Any) -> Column:
    """A column of a DataFrame by itself."""
    if hasattr(series, "iloc"):
        return pandas_column(name, series)
    if importlib.util.find_spec("pyarrow") is None:
        return object_column(name, series.to_list())
    import pyarrow as pa

    if hasattr(series, "__arrow_c_stream__"):
        return arrow_column(name, pa.chunked_array(series))
    return arrow_column(name, pa.chunked_array([pa.array(series)]))


def pandas_column(name: str, series: Any) -> Column:
    """A pandas Series: NumPy's, nullable and Arrow dtypes, categories, text, objects."""
    dtype = series.dtype
    kind = getattr(dtype, "kind", "O")
    if hasattr(series, "cat") and hasattr(dtype, "categories"):
        of = object_column(name, list(dtype.categories))
        if of.storage == "other":  # intervals of pandas.cut
            of = text_column(name, list(map(str, dtype.categories)))
        return category_column(name, series.cat.codes.to_numpy(), of)
    if hasattr(series, "sparse"):
        return array_column(name, series.sparse.to_dense().to_numpy())
    if hasattr(dtype, "pyarrow_dtype"):
        import pyarrow as pa

        found = series.array.__arrow_array__()
        return arrow_column(name, pa.chunked_array([found]) if isinstance(found, pa.Array) else found)
    if hasattr(series, "dt") and hasattr(series.dt, "to_timestamp"):  # periods
        series = series.dt.to_timestamp()
        kind = series.dtype.kind
    if kind in "iu" and dtype.itemsize == 8:
        there = series.dropna()
        if len(there) and max(-int(there.min()), int(there.max())) > LARGEST_EXACT:
            return object_column(name, series.tolist())
    if kind in "biuf":
        values = series.to_numpy(np.float64, na_value=np.nan)
        return Column(name, "boolean" if kind == "b" else "number", values)
    if kind == "M":
        if getattr(series.dt, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return Column(name, "date", np.asarray(series.to_numpy(), "datetime64[us]"))
    if kind == "m":
        return array_column(name, np.asarray(series.to_numpy(), "timedelta64[us]"))
    try:
        codes, unique = series.factorize()
    except TypeError:  # lists and dictionaries have no hash
        return object_column(name, series.tolist())
    found = unique.tolist()
    if all(isinstance(value, str) for value in found):
        lut, words = number_words([*found, None])
        return Column(name, "text", lut[codes], words)
    return object_column(name, series.tolist())


def _is_pandas(x: Any) -> bool:
    return hasattr(x, "iloc") and hasattr(x, "dtypes") and hasattr(x, "columns")


def _is_polars(x: Any) -> bool:
    return hasattr(x, "get_columns") or (hasattr(x, "collect") and hasattr(x, "collect_schema"))
