"""The same table from every kind of file and DataFrame: the same kinds, and the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu.datasets import DataFileError
from fcnn_gpu.tables import Table, TablePreparation, find_leaks, infer_kinds, read
from tests.support.messy_tables import COLUMNS, FILES, FRAMES, KINDS, N

for library in ("pandas", "polars", "pyarrow", "openpyxl"):
    pytest.importorskip(library)

SOURCES = [*FILES, *FRAMES]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    folder = tmp_path_factory.mktemp("tables")
    found: dict[str, Table] = {}
    for name, write in FILES.items():
        write(Path(folder, name))
        found[name] = read(Path(folder, name))
    return found | {name: read(make()) for name, make in FRAMES.items()}


@pytest.fixture(scope="module")
def fitted(tables: dict[str, Table]) -> TablePreparation:
    return TablePreparation(dtype="float64").fit(tables["a.csv"])


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_table_has_the_same_kinds(source: str, tables: dict[str, Table]) -> None:
    table = tables[source]
    assert table.names == tuple(COLUMNS)
    assert len(table) == N
    assert {kind.name: kind.kind for kind in infer_kinds(table)} == KINDS


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_table_becomes_the_same_numbers(
    source: str, tables: dict[str, Table], fitted: TablePreparation
) -> None:
    expected = fitted.transform(tables["a.csv"])
    assert np.isfinite(expected).all()
    own = TablePreparation(dtype="float64").fit(tables[source])
    assert own.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()
    for preparation in (own, fitted):
        np.testing.assert_array_equal(preparation.transform(tables[source]), expected)
        np.testing.assert_array_equal(preparation.transform(tables["a.csv"]), expected)
        assert preparation.unseen(tables[source]) == {}


def test_names_that_occur_twice_are_refused_by_name(tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table([[1], [2], [3]], names=["a", "b", "a"]), path)
    with pytest.raises(DataFileError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: has several columns named 'a'. Rename or drop them."
    with pytest.raises(ValueError, match=r"pandas.DataFrame has several columns named '1'\. Rename or drop them"):
        read(pd.DataFrame([[1, 2]], columns=pd.Index([1, "1"])))


def test_other_columns_of_libraries() -> None:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    frame = pd.DataFrame(
        {"x": [0.5, 7, 9], "when": pd.period_range("2024-01", periods=3, freq="M"), "list": [[1], [2], [3]]}
    )
    frame["bin"] = pd.cut(frame["x"], [0, 1, 8, 10])
    frame["sparse"] = pd.arrays.SparseArray([0, 0, 5])
    table = read(frame)
    assert [column.storage for column in table.columns] == ["number", "date", "other", "text", "number"]
    assert table["bin"].words == ["(0, 1]", "(1, 8]", "(8, 10]"]
    assert table["when"].values[1] == np.datetime64("2024-02-01")
    series = {
        "p": pl.Series([1, 2]),
        "a": pa.array(["x", None]),
        "c": pa.chunked_array([[1.5], [2]]),
        "s": frame["bin"][:2],
    }
    table = read(series)
    assert [column.storage for column in table.columns] == ["number", "text", "number", "text"]
    assert table["s"].is_category
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"])
    spans = pa.array([1, None, 60], pa.duration("s"))
    times = pa.array([1, None, 3_600_000], pa.time32("ms"))
    table = read(pa.table({"runs": runs, "spans": spans, "times": times, "maps": [{"a": 1}] * 3, "bytes": [b"x"] * 3}))
    assert [column.storage for column in table.columns] == ["text", "number", "text", "other", "other"]
    assert table["runs"].to_numpy().tolist() == ["x", "x", "y"]
    assert table["times"].n_missing == 1


def test_a_single_column_is_no_table() -> None:
    import pandas as pd
    import polars as pl

    for column in (pd.Series(["a", "b"]), pl.Series(["a", "b"])):
        with pytest.raises(TypeError, match=r"tables\.read expects a table, got a Series.*df\.iloc\[\[0\]\]"):
            read(column)


def test_kinds_and_leaks_of_data_frames() -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(40.0) ** 2, "y": np.arange(40.0) ** 2 * 3})
    kinds = infer_kinds(frame[["x"]])
    assert [kind.kind for kind in kinds] == ["number"]
    assert find_leaks(frame[["x"]], kinds, frame[["y"]]) == ["'x' is a linear function of the target 'y'"]


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_an_index_with_a_name_is_told(ending: str, tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": [1.5, 2.5]}, index=pd.date_range("2025-01-01", periods=2, name="time"))
    path = tmp_path / f"log.{ending}"
    getattr(frame, f"to_{ending}")(path)
    table = read(path)
    assert table.names == ("x",)
    assert table.notes == ("pandas' index 'time' is no column (reset_index makes it one)",)
    getattr(frame.rename_axis(None), f"to_{ending}")(path)
    assert read(path).notes == ()


def test_rows_and_columns_are_taken() -> None:
    table = read({"a": ["x", "y", "x"], "b": [1, 2, 3]})
    assert table.take([2, 0])["a"].words == ["x"]
    assert table.take(np.array([False, True, False]))["b"].values.tolist() == [2]
    assert len(table.take([])) == 0
    assert table.select(["b"]).names == table.drop("a").names == ("b",)
    with pytest.raises(KeyError, match="mapping has no column 'c'"):
        table.drop("c")


def test_what_was_read_can_be_looked_at(tables: dict[str, Table]) -> None:
    assert tables["a.csv"]["town"].to_numpy()[:3].tolist() == ["New  York", "Paris", "Zürich"]
    assert tables["a.csv"]["größe"].to_numpy()[0] == COLUMNS["größe"][0]
    assert tables["a.parquet"]["day"].to_numpy()[1] == np.datetime64("2023-11-23")
    assert repr(tables["pandas"]["smokes"]) == "Column('smokes': 60 of text, 6 missing)"
