"""Files that were cut off or changed: a typed error that names the file, or a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.datasets import DataFileError
from fcnn_gpu.tables import TableError, TablePreparation, read
from tests.support.messy_tables import FILES
from tests.support.mutants import ANY_FILE, TEXT_FILE, mutant

for library in ("pyarrow", "openpyxl"):
    pytest.importorskip(library)

_TEXT = ("a.csv", "semicolons.csv", "utf16.txt", "a.jsonl")
_SEEDS = {"a.xlsx": 15, "a.csv": 25, "semicolons.csv": 25, "utf16.txt": 25, "a.jsonl": 25}
_CUT = {
    "a.csv.gz": "is no whole gzip file .* Was it cut off or damaged?",
    "a.csv.zst": "is no whole Zstandard file .* Was it cut off or damaged?",
    "a.parquet": "is no whole Parquet file .* Was it cut off or damaged?",
    "a.feather": "is no whole Arrow file .* Was it cut off or damaged?",
    "a.arrows": "is no whole Arrow file .* Was it cut off or damaged?",
    "a.xlsx": r"is no whole .xlsx file \(.*\)",
    "a.jsonl": "line .* is no JSON",
}


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("a.tsv", "crlf.csv")])
def test_a_changed_file_is_refused_or_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    sound = path.read_bytes()
    for seed in range(_SEEDS.get(name, 60)):
        path.write_bytes(mutant(seed, sound, mutations=TEXT_FILE if name in _TEXT else ANY_FILE))
        said = f"{path}: "
        try:
            table = read(path)
            TablePreparation().fit(table).transform(table)
        except DataFileError as error:
            said = str(error)
        except TableError as error:
            said = str(error).replace(f"{path} has", f"{path}: has")
        assert said.startswith(f"{path}:"), seed


@pytest.mark.parametrize("name", _CUT)
def test_a_file_that_was_cut_off_says_so(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    content = path.read_bytes()
    for share in (0.2, 0.6, 0.97):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataFileError, match=_CUT[name]):
            read(path)
    path.write_bytes(b"something else")
    with pytest.raises(DataFileError, match=_CUT[name]):
        read(path)


JSON: dict[str, tuple[str, str]] = {
    "a number": ("5\n", "record 1 is no object with names and values: 5"),
    "a list of numbers": ("[1, 2]", "record 1 is no object with names and values: 1"),
    "no records": ("[]", "holds no records"),
    "blank": ("\n\n", "holds no records"),
    "half": ('{"a": 1}\n{"a": ', "line 2 is no JSON"),
    "half a list": ('[{"a": 1}, ', "is no JSON"),
    "deep": ("[" * 100_000, "is no JSON"),
    "columns": ('{"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}', "is one object of columns; .* orient='records'"),
    "lists": ('{"a": [1, 2], "b": [3, 4]}', "is one object of columns; .* orient='records'"),
    "no names": ("{}\n{}\n", "has 0 columns"),
}


@pytest.mark.parametrize("kind", JSON)
def test_bad_json_is_refused_by_what_is_wrong(kind: str, tmp_path: Path) -> None:
    text, message = JSON[kind]
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataFileError, match=message):
        read(path)


def test_json_of_all_kinds(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"a": 1, "b": "x\u2028y\x85z", "c": True, "d": [1], "e": 10**400},
        {"a": None, "b": "", "c": None, "f": "late"},
        {"a": 2.5, "c": False, "d": None, "e": 5},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    table = read(path)
    (tmp_path / "b.json").write_text(json.dumps(records, indent=1))
    other = read(tmp_path / "b.json")
    for t in (table, other):
        assert [c.storage for c in t.columns] == ["number", "text", "boolean", "other", "text", "text"]
        assert [c.n_missing for c in t.columns] == [1, 2, 1, 2, 1, 2]
        assert t["b"].words == ["x\u2028y\x85z"]
        assert t["d"].holds == "list values"


def test_sheets_of_excel_files(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book, path = Workbook(), tmp_path / "a.xlsx"
    book.active.title = "Empty"
    sheet = book.create_sheet("Sales")
    for row in ([], [None, "x", "when", None], [None, 1, "1,5"], [], [None, "n/a", "2,5"]):
        sheet.append(row)
    book.create_sheet("Names").append(["a", "b"])
    book.save(path)
    with pytest.raises(DataFileError, match="sheet 'Empty' is empty"):
        read(path)
    with pytest.raises(
        DataFileError, match=r"has no sheet 'sales'\. Did you mean 'Sales'\? Its sheets: Empty, Sales, Names"
    ):
        read(path, sheet="sales")
    with pytest.raises(DataFileError, match="sheet 'Names' has a header but no rows"):
        read(path, sheet="Names")
    table = read(path, sheet="Sales")
    assert table.names == ("Unnamed: 0", "x", "when")
    assert table["x"].to_numpy().tolist() == ["1", None]
    del book["Empty"]
    book.save(path)
    assert read(path).notes == ("sheet 'Sales' was read; there are also 'Names'",)
    assert read(path, header=False).names == ("0", "1", "2")
