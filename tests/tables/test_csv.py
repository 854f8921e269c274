"""CSV files as people make them: through Arrow's reader and through Python's, and what is said of bad ones."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnn_gpu.datasets import DataFileError
from fcnn_gpu.tables import Column, Table, infer_kinds, read
from tests.support.messy_tables import csv_text

pytest.importorskip("pyarrow")

FIND = importlib.util.find_spec


def without_arrow(path: Path, **settings: Any) -> Table:
    """The table as it is read where pyarrow is not installed."""
    blocked = mock.patch(
        "importlib.util.find_spec", lambda name, *rest: None if name == "pyarrow" else FIND(name, *rest)
    )
    with blocked:
        return read(path, **settings)


def written(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_same(a: Column, b: Column) -> None:
    assert (a.name, a.storage, a.holds, a.is_category) == (b.name, b.storage, b.holds, b.is_category)
    assert list(map(str, a.to_numpy())) == list(map(str, b.to_numpy()))


def both(path: Path, **settings: Any) -> Table:
    """The table, the same through both readers."""
    table, other = read(path, **settings), without_arrow(path, **settings)
    assert (table.names, table.has_names, table.notes, len(table)) == (
        other.names,
        other.has_names,
        other.notes,
        len(other),
    )
    for a, b in zip(table.columns, other.columns, strict=True):
        assert_same(a, b)
    return table


def cells(table: Table) -> list[list[Any]]:
    """The rows, None where a value is missing."""
    columns = [
        [None if gap else value for value, gap in zip(c.to_numpy().tolist(), c.missing, strict=True)]
        for c in table.columns
    ]
    return [list(row) for row in zip(*columns, strict=True)]


ODD_CELLS = [
    "", " ", "NA", "nan", "-NaN", "?", "nUlL", " NA ", "#N/A", "+5", "1e5", "-1E-3", ".5", "5.", "1_000", "inf",
    "-Infinity", "０１", "²", "1e999", "1e-999", "0x10", "007", "00", "-0", "12345678901234567890", "1,5", "1.234",
    "1,234.5", "True", "a b", " a", "a ", "\u00a0a", "\u2003", 'say "hi"', '"', '""', "x\ny", "x\r\ny", "x;y", "x,y",
    "x\ty", "'", "é", "日本", "\x1c", "2024-01-05", "05.01.2024", "--", "nat", "1 000", "5 %", "#", "\\", "\\n", "e",
    "1d5", "nan(1)", "\ufeff", "\x85", "\0x",
]  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(ODD_CELLS),
    st.floats(allow_nan=False).map(repr),
    st.integers().map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1f"), max_size=6),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], str, str, bool]:
    n_columns, n_rows = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    columns = []
    for _ in range(n_columns):  # cells of one sort, with others between them
        sort = draw(st.sampled_from([CELLS, st.integers(-99, 99).map(str), st.floats(-1e3, 1e3).map(str)]))
        columns.append([draw(sort if draw(st.integers(0, 5)) else CELLS) for _ in range(n_rows)])
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    return (
        [list(row) for row in zip(*columns, strict=True)],
        delimiter,
        draw(st.sampled_from(["\n", "\r\n", "\r"])),
        draw(st.booleans()),
    )


@given(tables())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_readers_see_the_same_cells(tmp_path: Path, made: tuple[list[list[str]], str, str, bool]) -> None:
    rows, delimiter, end, quote_all = made
    text = io.StringIO(newline="")
    broken = any("\n" in cell or "\r" in cell for row in rows for cell in row)  # the writer sees to one of them only
    quoting: Any = csv.QUOTE_ALL if quote_all or broken else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow([f"column {i}" for i in range(len(rows[0]))])
    writer.writerows(rows)
    if "\0" in text.getvalue():
        with pytest.raises(DataFileError, match="binary data"):
            read(written(tmp_path, text.getvalue()))
        return
    table = both(written(tmp_path, text.getvalue()), delimiter=delimiter, header=True)
    assert len(table) == len(rows)


@given(st.text(st.sampled_from('ab1,;"\n\r \t.-'), min_size=1, max_size=60))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_table_to_both_or_to_neither(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    outcomes: list[str] = []
    for reader in (read, without_arrow):
        try:
            table = reader(path)
            outcomes.append(repr([(c.name, c.storage, list(map(str, c.to_numpy()))) for c in table.columns]))
        except DataFileError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_a_file_goes_on_otherwise_than_it_began(tmp_path: Path) -> None:
    lines = [f"{i},{i / 8},x" for i in range(9000)]
    lines[5000] = "five,0.5,007"
    lines[7000] = " + 5,NULL ,1"
    table = both(written(tmp_path, "a,b,c\n" + "\n".join(lines)))
    assert [column.storage for column in table.columns] == ["text", "number", "text"]
    assert np.isnan(table["b"].values[7000])
    numbered = both(written(tmp_path, "a,b\n" + "1,2\n" * 60_000 + "+3,?\n" + "1,2\n" * 60_000))
    assert numbered["a"].values[60_000] == 3
    assert numbered["b"].n_missing == 1


def test_where_pyarrow_cannot_be_imported(tmp_path: Path) -> None:
    path = written(tmp_path, csv_text())
    code = (
        "import sys; sys.modules['pyarrow'] = None; import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pyarrow' else find(name, *rest)\n"
        "from fcnn_gpu.tables import read, TablePreparation\n"
        f"table = read({str(path)!r})\n"
        "print(len(table), len(TablePreparation().fit(table).get_feature_names_out()))\n"
        "for name in ('a.parquet', 'a.feather', 'a.csv.zst'):\n"
        "    open(name, 'wb').write(b'x')\n"
        "    try: read(name)\n"
        "    except ImportError as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    first, *errors = done.stdout.splitlines()
    assert first.startswith("60 ")
    assert errors == [
        f"{what} are read by pyarrow, which is not installed: pip install pyarrow"
        for what in ("Parquet files", "Arrow files", ".zst files")
    ]


GOOD: dict[str, tuple[str | bytes, list[str], list[list[Any]]]] = {
    "a mark of UTF-8": (b"\xef\xbb\xbfa,b\n1,x\n", ["a", "b"], [[1, "x"]]),
    "UTF-16": ("a;b\n1;ü\n".encode("utf-16"), ["a", "b"], [[1, "ü"]]),
    "UTF-16, big-endian": (b"\xfe\xff" + "a;b\n1;ü\n".encode("utf-16-be"), ["a", "b"], [[1, "ü"]]),
    "UTF-32": ("a;b\n1;ü\n".encode("utf-32"), ["a", "b"], [[1, "ü"]]),
    "cp1252": ("a;b\n1;5 €\n".encode("cp1252"), ["a", "b"], [[1, "5 €"]]),
    "R's row names": ('"x","y"\n"1",2,"a"\n"2",3,"b"\n', ["Unnamed: 0", "x", "y"], [[1, 2, "a"], [2, 3, "b"]]),
    "delimiters at the rows' ends": ("x,y\n1,a,\n2,b,\n", ["x", "y", "Unnamed: 2"], [[1, "a", None], [2, "b", None]]),
    "delimiters at all ends": ("x,y,\n1,a,\n2,b,\n", ["x", "y", "Unnamed: 2"], [[1, "a", None], [2, "b", None]]),
    "names twice and none": (
        "a,a,,a.1,\n1,2,x,4,5\n",
        ["a", "a.2", "Unnamed: 2", "a.1", "Unnamed: 4"],
        [[1, 2, "x", 4, 5]],
    ),
    "one column": ("x\n1\n\n2\n", ["x"], [[1], [2]]),
    "one column, quoted gaps": ('x\na\n""\nb\n', ["x"], [["a"], [None], ["b"]]),
    "no line end at the end": ("a,b\n1,x", ["a", "b"], [[1, "x"]]),
    "carriage returns": ("a,b\r1,x\r2,y\r", ["a", "b"], [[1, "x"], [2, "y"]]),
    "blank lines": ("\n\na,b\n\n1,x\n\n\n2,y\n  \n", ["a", "b"], [[1, "x"], [2, "y"]]),
    "lines broken in quotes": ('"a\nb",c\n"1\r\n2",x\n', ["a\nb", "c"], [["1\r\n2", "x"]]),
    "blanks around quotes": ('a, "b"\n1, "x, y"\n', ["a", "b"], [[1, "x, y"]]),
    "blanks before the first quotes": ('a,b\n "x, y",1\n', ["a", "b"], [["x, y", 1]]),
    "a quote within a cell": ('a,b\n5" pipe,1\n6" pipe,2\n', ["a", "b"], [['5" pipe', 1], ['6" pipe', 2]]),
    "no names": ("1,x\n2,y\n3,x\n", ["0", "1"], [[1, "x"], [2, "y"], [3, "x"]]),
    "blanks between": ("A1 6 x\nA2 48 y\nA1 7 y\n", ["0", "1", "2"], [["A1", 6, "x"], ["A2", 48, "y"], ["A1", 7, "y"]]),
    "Excel's line of the delimiter": ("sep=;\r\na;b\r\n1;x, y\r\n", ["a", "b"], [[1, "x, y"]]),
    "the same behind a mark": (b"\xef\xbb\xbfSEP=,\na,b\n1,x;y\n", ["a", "b"], [[1, "x;y"]]),
    "a mark as the first cell": ("a\n\ufeff\nx\n", ["a"], [["\ufeff"], ["x"]]),
    "bars": ("a|b\n1|x\n", ["a", "b"], [[1, "x"]]),
    "leading zeros and many digits": ("a,b\n01,12345678901234567890\n", ["a", "b"], [["01", "12345678901234567890"]]),
}


@pytest.mark.parametrize("kind", GOOD)
def test_odd_files_are_tables(kind: str, tmp_path: Path) -> None:
    content, names, rows = GOOD[kind]
    table = both(written(tmp_path, content))
    assert list(table.names) == names
    assert cells(table) == rows


BAD: dict[str, tuple[str | bytes, str]] = {
    "no bytes": ("", "the file is empty; expected a table"),
    "only blank lines": ("\n \n\n", "holds only blank lines; expected a table"),
    "only a header": ("a,b\n", "has a header but no rows"),
    "only a header, no end": ("a,b", "has a header but no rows"),
    "ragged rows": ("a,b\n1,x\n2\n3,y,z\n", "has 2 columns, but not in all lines: line 3 has 1; line 4 has 3. Is a"),
    "very ragged": ("a,b\n1,x\n" + "2\n" * 9, r"line 7 has 1; 4 more lines are like that\. Is a cell with ',' in it"),
    "binary": (b"a,b\n\0\1\2\n", "is not a CSV file: it holds binary data"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a CSV file: it holds binary data"),
    "neither UTF-8 nor Windows'": (b"a,b\n1,x\n2,\x81\n", "line 3: byte '81' is neither UTF-8 nor Windows text"),
    "UTF-8 by its mark, and none": (b"\xef\xbb\xbfa,b\n1,\xff\n", "line 2: byte 'ff' is neither UTF-8 nor"),
    "half of UTF-16": ("a,b\n1,x".encode("utf-16")[:-1], "is not whole UTF-16 text"),
    "UTF-16 without its mark": ("a,b\n1,x".encode("utf-16-le"), "UTF-16 text without its mark: then say its encoding"),
    "names or a sample": ("0,1,2\n5.5,x,2\n", "line 1 may be the header or the first sample"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_by_what_is_wrong(kind: str, tmp_path: Path) -> None:
    content, message = BAD[kind]
    path = written(tmp_path, content)
    for reader in (read, without_arrow):
        with pytest.raises(DataFileError, match=message) as caught:
            reader(path)
        assert str(caught.value).startswith(str(path))


def test_a_header_of_thousands_of_columns(tmp_path: Path) -> None:
    names = ",".join(["same"] * 2500 + [f"c{i}" for i in range(2500)])
    rows = "\n".join(",".join(["1.5", "x"] * 2500) for _ in range(3))
    table = both(written(tmp_path, f"{names}\n{rows}\n"))
    assert len(set(table.names)) == 5000
    assert [column.storage for column in table.columns[:2]] == ["number", "text"]
    assert len(infer_kinds(table)) == 5000


def test_settings_are_as_given(tmp_path: Path) -> None:
    assert both(written(tmp_path, "a,b;c\n1,2;3\n"), delimiter=",").names == ("a", "b;c")
    assert not both(written(tmp_path, "a,b\nc,d\n"), header=False).has_names
    assert both(written(tmp_path, "1,2\n3,4\n"), header=True).names == ("1", "2")
    assert both(written(tmp_path, "\ufeffgrün,b\n1,2\n".encode()), encoding="utf-8").names == ("grün", "b")
    assert both(written(tmp_path, "grün,b\n1,2\n".encode("utf-16-le")), encoding="utf-16-le").names == ("grün", "b")
    for encoding in ("no such", "ascii", "base64"):
        with pytest.raises(DataFileError, match=f"is not text in encoding '{encoding}'"):
            read(written(tmp_path, "grün,b\n1,2\n"), encoding=encoding)


def _settings_faults() -> Sequence[tuple[str, dict[str, Any], str]]:
    return [
        ("a.csv", {"sheet": "x"}, r"tables.read\(sheet\) is for Excel files; .*a.csv is read as .csv"),
        ("a.jsonl", {"delimiter": ";"}, r"tables.read\(delimiter\) is for CSV files; .*a.jsonl is read as .jsonl"),
        ("a.parquet", {"header": True}, r"tables.read\(header\) is for CSV files"),
        ("a.xls", {}, r"\.xls files are not read here. Save it as .xlsx or .csv"),
        ("a.pkl", {}, r"A pickle runs whatever code it holds"),
        ("a.parquet.gz", {}, r"a packed .parquet is not read here; .csv.gz or .jsonl.gz would be"),
    ]


@pytest.mark.parametrize(("name", "given", "message"), _settings_faults())
def test_what_is_not_read_says_why(name: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, "a,b\n1,2\n", name), **given)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    written(tmp_path, "a,b\n1,2\n", "houses.csv")
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'houses.csv' in the same folder\?"):
        read(tmp_path / "house.csv")
    with pytest.raises(IsADirectoryError, match="is a folder; expected a table"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"tables.read\(sheet\) is for files, and got a dict"):
        read({"a": [1]}, sheet="b")
    with pytest.raises(TypeError, match=r"tables.read expects a table, got BytesIO"):
        read(io.BytesIO(b"a,b\n"))
