"""The same table from every kind of file and DataFrame: the same kinds, and the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu.tables import Table, TablePreparation, infer_kinds, read
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


def test_what_was_read_can_be_looked_at(tables: dict[str, Table]) -> None:
    assert tables["a.csv"]["town"].to_numpy()[:3].tolist() == ["New  York", "Paris", "Zürich"]
    assert tables["a.csv"]["size" if False else "größe"].to_numpy()[0] == COLUMNS["größe"][0]
    assert tables["a.parquet"]["day"].to_numpy()[1] == np.datetime64("2023-11-23")
    assert repr(tables["pandas"]["smokes"]) == "Column('smokes': 60 of text, 6 missing)"
