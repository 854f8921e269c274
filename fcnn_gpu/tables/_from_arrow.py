"""Columns of Arrow tables, whoever made them: files, or DataFrames through Arrow's interface (PyCapsule)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._column import LARGEST_EXACT, Column, category_column, empty_column, one_dictionary, text_column
from ._from_python import object_column, seconds


def arrow_columns(table: Any) -> list[Column]:
    """The columns of a `pyarrow.Table`."""
    return [arrow_column(str(name), table.column(i)) for i, name in enumerate(table.column_names)]


def arrow_column(name: str, values: Any) -> Column:
    """A `pyarrow.ChunkedArray` of any type."""
    import pyarrow as pa
    import pyarrow.compute as compute

    kind, is_type = values.type, pa.types
    if is_type.is_run_end_encoded(kind):
        values = compute.run_end_decode(values)
        kind = values.type
    if is_type.is_null(kind):
        return empty_column(name, len(values))
    if is_type.is_dictionary(kind):
        return _categories(name, values)
    if is_type.is_boolean(kind):
        return Column(name, "boolean", values.cast(pa.int8()).cast(pa.float64()).to_numpy())
    if is_type.is_integer(kind) and kind.bit_width == 64:
        ends = compute.min_max(values).as_py()
        if ends["max"] is not None and max(-ends["min"], ends["max"]) > LARGEST_EXACT:
            return text_column(name, values.cast(pa.string()))
    if is_type.is_integer(kind) or is_type.is_floating(kind):
        return Column(name, "number", values.to_numpy().astype(np.float64))
    if is_type.is_decimal(kind):
        return Column(name, "number", values.cast(pa.float64()).to_numpy())
    if is_type.is_date(kind) or is_type.is_timestamp(kind):
        return Column(name, "date", values.cast(pa.timestamp("us"), safe=False).to_numpy().astype("datetime64[us]"))
    if is_type.is_time(kind):
        return text_column(name, [None if time is None else str(time) for time in values.to_pylist()])
    if is_type.is_duration(kind):
        return Column(name, "number", seconds(values.to_numpy()))
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return text_column(name, values.cast(pa.large_string()) if is_type.is_string_view(kind) else values)
    missing = np.where(values.is_null().to_numpy(), -1, 0).astype(np.int8)
    return Column(name, "other", missing, holds=f"{kind} values")


def _categories(name: str, values: Any) -> Column:
    """A dictionary's values, which are categories whatever they are."""
    encoded = one_dictionary(values)
    found = encoded.dictionary.to_pylist()
    of = object_column(name, found)
    if of.storage == "other":  # intervals of pandas.cut, for example
        of = text_column(name, [None if value is None else str(value) for value in found])
    codes = encoded.indices.cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
    return category_column(name, codes, of)
