"""Parquet files as pandas writes them, with an index or not, and names that no program writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.datasets import DataFileError, open_parquet

pd = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TABLE = pd.DataFrame({"a": np.arange(6.0), "b": np.arange(6.0) ** 2, "y": [0, 1] * 3})

INDEXES: dict[str, Any] = {
    "none": TABLE,
    "of a filtered table": TABLE[TABLE.a != 2],
    "with a name": TABLE.set_index(pd.Index([7, 1, 3, 9, 2, 0], name="id")),
    "of text": TABLE.set_index(pd.Index(list("uvwxyz"))),
    "of two levels": TABLE.set_index([pd.Index(range(6)), pd.Index(range(6), name="k")]),
    "a range with a name": TABLE.set_index(pd.RangeIndex(6, name="k")),
    "a range that is written": TABLE,
}


@pytest.mark.parametrize("kind", INDEXES)
def test_the_index_of_a_pandas_table_is_no_feature(kind: str, tmp_path: Path) -> None:
    table, path = INDEXES[kind], tmp_path / "a.parquet"
    table.to_parquet(path, **({"index": True} if kind == "a range that is written" else {}))
    source = open_parquet(path, "y")
    assert source.feature_names == ("a", "b")
    ((X, y, _),) = source.read(0)
    np.testing.assert_array_equal(X, table[["a", "b"]])
    np.testing.assert_array_equal(y, table["y"])


def test_an_index_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    TABLE.set_index("a").to_parquet(path)
    assert open_parquet(path, "y").feature_names == ("b",)
    assert open_parquet(path, "y", features=["a", "b"]).feature_names == ("a", "b")
    assert open_parquet(path, "a").feature_names == ("b", "y")


def test_an_index_whose_metadata_is_lost_is_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    TABLE[TABLE.a != 2].to_parquet(path)
    parquet.write_table(parquet.read_table(path).replace_schema_metadata(None), path)
    assert "__index_level_0__" in parquet.read_schema(path).names
    assert open_parquet(path, "y").feature_names == ("a", "b")


@pytest.mark.parametrize("written", [b"{", b"[]", b"\xff", json.dumps({"columns": []}).encode(), b"[" * 100_000])
def test_metadata_that_cannot_be_read(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": [1.0], "y": [0]}).replace_schema_metadata({b"pandas": written}), path)
    with pytest.raises(DataFileError, match=r"pandas metadata cannot be read .*features=\[...\]") as caught:
        open_parquet(path, "y")
    assert str(caught.value).startswith(f"{path}: ")
    assert open_parquet(path, "y", features=["a"]).feature_names == ("a",)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"abcdef": [1.0], "y": [0]}).replace_schema_metadata(None), path)
    content = path.read_bytes()
    assert b"abcdef" in content
    path.write_bytes(content.replace(b"abcdef", b"abc\xffef"))
    with pytest.raises(DataFileError, match=r"not a whole Parquet file .*(utf-8|UTF8)") as caught:
        open_parquet(path, "y")
    assert str(caught.value).startswith(f"{path}: ")


def test_lists_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    lists = pyarrow.array([[], []], pyarrow.list_(pyarrow.float32(), 0))
    parquet.write_table(pyarrow.table({"a": lists, "y": [0, 1]}), path)
    with pytest.raises(DataFileError, match="lists of length 0"):
        open_parquet(path, "y")


def test_pages_are_compared_with_their_checksums_where_they_have_them(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = np.random.default_rng(0).normal(size=1000)
    table = pyarrow.table({"a": values, "y": np.arange(1000) % 2})
    parquet.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[bytes(content).index(values[500:].tobytes()[:64])] ^= 1
    path.write_bytes(content)
    source = open_parquet(path, "y")
    with pytest.raises(DataFileError, match=r"row group 0 \(from row 0 on\) cannot be read .*checksum"):
        list(source.read(0))
