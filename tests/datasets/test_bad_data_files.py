"""Damaged and hostile data files: what is said of them, and how much memory they take."""

from __future__ import annotations

import errno
import functools
import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu import datasets
from fcnn_gpu._types import HostArray
from fcnn_gpu.datasets import BlockSource, DataFileError, open_csv, open_npy, open_npz, open_parquet, read_features

from ..support.limited import needs_file_limits, needs_limits, run_limited

MB = 2**20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
LABELS = np.arange(40) % 4


def consume(source: BlockSource) -> None:
    for block in range(len(source.block_sizes)):
        for _ in source.read_targets(block):
            pass
        for _ in source.read(block):
            pass


READERS: dict[str, list[Callable[[Path], Any]]] = {
    "npz": [
        lambda path: datasets.load(path, test_fraction=0),
        read_features,
        lambda path: consume(open_npz(path)),
    ],
    "npy": [read_features, lambda path: consume(open_npy(path))],
    "csv": [
        lambda path: datasets.load(path, test_fraction=0),
        lambda path: read_features(path, drop=-1),
        lambda path: consume(open_csv(path)),
    ],
    "idx": [read_features],
    "gz": [read_features],
    "parquet": [lambda path: consume(open_parquet(path, "y"))],
}


def refused(path: Path, fault: str, readers: list[Callable[[Path], Any]] | None = None) -> None:
    for read in readers or READERS[path.suffix[1:]]:
        with pytest.raises(DataFileError, match=fault) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")


def refusal(read: Callable[[Path], Any], path: Path) -> str | None:
    try:
        read(path)
    except DataFileError as error:
        return str(error)
    return None


def npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def parquet() -> bytes:
    pyarrow, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    written.write_table(pyarrow.table({"a": X[:, 0], "b": LABELS, "y": LABELS}), stream, row_group_size=15)
    return stream.getvalue()


IDX = bytes.fromhex("00000d02 00000028 00000003") + X.astype(">f4").tobytes()
LINES = [",".join([*(f"{value:.3f}" for value in row), "abcd"[label]]) for row, label in zip(X, LABELS, strict=True)]
VALID: dict[str, Callable[[], bytes]] = {
    "stored.npz": lambda: npz(X=X, y=LABELS),
    "packed.npz": lambda: npz(np.savez_compressed, X=X > 0, y=np.array(["cat", "dog"])[LABELS % 2]),
    "bytes.npz": lambda: npz(X=X, y=np.array([b"cat", b"dog"])[LABELS % 2]),
    "a.npy": lambda: npz(X=X)[30 + 5 + 20 :],
    "a.csv": lambda: "\n".join(["a,b,c,y", *LINES]).encode(),
    "quoted.csv": lambda: "\n".join(f'"{line}"'.replace(",", '","') for line in ["a,b,c,y", *LINES]).encode(),
    "a.idx": lambda: IDX,
    "a.gz": lambda: gzip.compress(IDX, mtime=0),
    "a.parquet": parquet,
}


@settings(deadline=None, max_examples=500)
@given(data=st.data(), name=st.sampled_from(sorted(VALID)))
def test_a_mutated_file_is_read_or_refused_by_its_name(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(VALID[name]())
    for _ in range(data.draw(st.integers(1, 3))):
        # Zip, gzip and Parquet keep what they say of themselves at the end.
        at = data.draw(st.one_of(st.integers(0, len(content)), st.integers(max(0, len(content) - 200), len(content))))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.mktemp("mutated", numbered=True) / name
    path.write_bytes(content or b"x")
    for read in READERS[path.suffix[1:]]:
        assert (said := refusal(read, path)) is None or said.startswith(f"{path}: ")


# archives


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array: HostArray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_flipped_bit_in_a_stored_array_is_found_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    content = bytearray(npz(X=X, y=LABELS, unused=X + 1))
    for array in (X, LABELS):
        at = bytes(content).index(array[20:].tobytes())
        content[at] ^= 1
        path.write_bytes(content)
        refused(path, "Bad CRC-32 for file", [open_npz, lambda path: datasets.load(path)])
        content[at] ^= 1
    content[bytes(content).index((X + 1).tobytes())] ^= 1
    path.write_bytes(content)
    consume(open_npz(path))  # what is not used is not read
    datasets.load(path)


def test_members_that_numpy_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    both = {"X.npy": npy(X), "y.npy": npy(LABELS)}
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(zipped(path, both, method), rf"X.npy is packed by method {method}; expected 0 or 8")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", npy(X))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("X.npy", npy(X + 1))
    refused(path, "has two arrays named 'X'")
    refused(zipped(path, {"X": npy(X), **both}), "holds 'X', which is no .npy array")


def with_header(descr: str, shape: str, content: bytes = b"", version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + content


HEADERS: dict[str, tuple[bytes, str]] = {
    "100 dimensions": (
        with_header("'<f8'", "(" + "1, " * 100 + ")", bytes(8)),
        "has 100 dimensions; expected at most 64",
    ),
    "no dtype": (with_header("()", "(2, 1)", bytes(16)), "damaged or truncated .npy header"),
    "nested dtypes": (with_header("(" * 150 + ")" * 150, "(2, 1)", bytes(16)), "damaged or truncated .npy header"),
    "a long header": (
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(100),
        "says that it is 4,294,967,295",
    ),
    "a byte that is no boolean": (with_header("'|b1'", "(3, 1)", b"\1\0\7"), "row 2 holds a byte that is neither"),
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("archive", [False, True])
def test_headers_that_numpy_does_not_write(case: str, archive: bool, tmp_path: Path) -> None:
    content, fault = HEADERS[case]
    path = tmp_path / ("a.npz" if archive else "a.npy")
    if archive:
        zipped(path, {"X.npy": content, "y.npy": npy(np.arange(int(case.startswith("a byte")) + 2))})
    else:
        path.write_bytes(content)
    refused(path, fault)


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz(X=X[:3], y=np.array([b"cat", b"d\xffg", b"cat"])))
    refused(path, r"sample 1: the label b'd\\xffg' is no UTF-8 text", READERS["npz"][:1])
    for code in (0x110000, 0xD800):
        labels = np.array([97, 98, code], np.uint32).view("U1")
        path.write_bytes(npz(X=X[:3], y=labels))
        refused(path, r"y.npy: row 2 holds text of what are no characters", READERS["npz"][:1])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_sources_take_numbers(save: Callable[..., None], tmp_path: Path) -> None:
    text = np.array(["cat", "dog"])[LABELS % 2]
    save(tmp_path / "a.npz", X=X, y=text)
    refused(tmp_path / "a.npz", "y holds <U3 values; expected real numbers", [open_npz])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", text)
    refused(tmp_path / "y.npy", "y holds <U3 .* Number the classes from 0", [lambda y: open_npy(tmp_path / "X.npy", y)])


# CSV


@pytest.mark.parametrize("quoted", [False, True])
def test_a_cell_too_long(quoted: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for where in (1, 200):
        rows = [f"{i},{'ab'[i % 2]}" for i in range(300)]
        rows[where] = f"1,{'x' * 131_073}"
        text = "\n".join(["n,y", *rows])
        path.write_text(text.replace("n", '"n"') if quoted else text)
        refused(path, f"line {where + 2}.*(a cell of 131,073 characters; expected at most 131,072|a cell is too long)")
    path.write_text('"n","y"\n' + "1," + '"' + "x" * 131_073 + '"\n')
    refused(path, "line 2: a cell is too long")


@pytest.mark.parametrize("spelling", ["-nan", "+nan", "NaN", "+inf", "-Infinity", "1e999", "-1.#IND", "<NA>", "NULL"])
@pytest.mark.parametrize("column", [0, 1])
def test_what_is_no_finite_number_is_found_at_reading(spelling: str, column: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cells = ["1.5", "2.5"]
    cells[column] = spelling
    path.write_text("a,b,y\n1,2,0.5\n3,4,1.5\n" + ",".join([*cells, "2.5"]) + "\n")
    refused(path, rf"line 4, column {column + 1} \('{'ab'[column]}'\): (missing value|expected a finite number)")
    path.write_text("a,y\n1,0.5\n2,1.5\n3," + spelling + "\n")
    finite = "expected a (finite target|number)"  # or a class, where targets are text
    if spelling not in ("-1.#IND", "<NA>", "NULL"):
        for read in (READERS["csv"][0], READERS["csv"][2]):
            refused(path, rf"line 4, column 2 \('y'\): (missing value|{finite})", [read])


MISSING_ROWS = {
    "quotes around nothing": ('x\n1.0\n""\n3.0\n', r"line 3, column 1 \('x'\): missing value"),
    "quotes around blanks": ('x\n1.0\n"  "\n3.0\n', r"line 3, column 1 \('x'\): missing value"),
    "a blank line": ("x\n1.0\n\n3.0\n", "line 3 is blank, between rows of a single column: is a value missing"),
    "a blank line in a file of quotes": ('"x"\n1\n\n3\n', "line 3 is blank"),
    "a blank line below the header": ("x\n\n3\n", "line 2 is blank"),
    "spaces": ("x\n1.0\n  \n3.0\n", "line 3 is blank"),
}


@pytest.mark.parametrize("case", MISSING_ROWS)
@pytest.mark.parametrize("run_bytes", [4, 2**20])
def test_no_row_of_a_single_column_vanishes(
    case: str, run_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", run_bytes)
    text, fault = MISSING_ROWS[case]
    path = tmp_path / "a.csv"
    path.write_text(text)
    refused(path, fault, [read_features, lambda path: consume(open_csv(path, None))])


def test_what_pandas_and_polars_write_for_a_missing_value(tmp_path: Path) -> None:
    import pandas as pd  # here: the memory that this file's processes take is measured
    import polars as pl

    path = tmp_path / "a.csv"
    readers: list[Callable[[Path], Any]] = [read_features, lambda path: consume(open_csv(path, None))]
    pd.DataFrame({"x": [1.0, None, 3.0]}).to_csv(path, index=False)
    refused(path, "line 3, column 1 .*missing value", readers)
    pl.DataFrame({"x": [1.0, None, 3.0]}).write_csv(path)
    refused(path, "line 3 is blank", readers)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_a_row_of_tabs_is_a_row(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("a\tb\ty\n1\t2\t0\n\t\t\n3\t4\t1\n")
    refused(path, r"line 3, column [13].*missing value", READERS["csv"])
    path.write_text("a\tb\ty\n1\t2\t0\n\n3\t4\t1\n \n")  # a blank line is none
    for read in READERS["csv"]:
        read(path)


def test_the_file_with_the_bad_target_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("a,y\n1,0.5\n")
    path = tmp_path / "1.csv"
    path.write_text("a,y\n1,1.5\n2,inf\n")
    refused(path, r"line 3, column 2 \('y'\): expected a finite target", [lambda _: open_csv(tmp_path / "?.csv")])
    path.write_text("a,y\n1,1.5\n2,low\n")
    refused(path, "line 3.*got 'low'", [lambda _: open_csv(tmp_path / "?.csv", task="regression")])


# the operating system


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.csv", "a.npz", "a.npy", "a.idx", "a.parquet"):
        os.mkfifo(tmp_path / name)
        refused(tmp_path / name, "is a pipe or a device, which is read only once.*Save its content in a file")


@needs_file_limits
@pytest.mark.parametrize("name", sorted(VALID))
def test_what_the_system_refuses_names_the_file(name: str, tmp_path: Path) -> None:
    import resource

    path = tmp_path / name
    path.write_bytes(VALID[name]())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for read in READERS[path.suffix[1:]]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no file can be opened
        try:
            with pytest.raises(OSError, match=name) as caught:
                read(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno == errno.EMFILE


# memory

READ = """
import sys
from pathlib import Path
from tests.datasets.test_bad_data_files import READERS
from fcnn_gpu import datasets
path = Path(sys.argv[2])
result = []
for read in READERS[path.suffix[1:]]:
    try:
        read(path)
        result.append("read")
    except datasets.DataFileError as error:
        result.append(str(error))
"""


@functools.cache
def base() -> int:
    """What a process takes before it reads."""
    return run_limited("from tests.datasets import test_bad_data_files").peak


def lying_gzip() -> bytes:
    """200 MiB are promised, and all but the last of them there."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(struct.pack(">BBBBII", 0, 0, 8, 2, 200, 2**20))
        for _ in range(199):
            stream.write(bytes(2**20))
    return packed.getvalue()


def unused_array() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("X.npy", npy(X))
        archive.writestr("y.npy", npy(LABELS))
        with archive.open("extra.npy", "w", force_zip64=True) as member:
            member.write(with_header("'<f8'", str((2**25,))))
            for _ in range(256):
                member.write(bytes(2**20))
    return stream.getvalue()


HUNGRY: dict[str, Callable[[], bytes]] = {
    "long.csv": lambda: b"x,y\n1," + b"a" * 100_000 + b"\n" + b"".join(b"1,%d\n" % (i % 5000) for i in range(20_000)),
    "short.csv": lambda: b'"x","y"\n' + b"1,2\n1,3\n" * 130_000,
    "wide.csv": lambda: b",".join([b"ab"] * 290_000) + b"\n" + b",".join([b"12"] * 290_000),
    "unused.npz": unused_array,
    "lying.gz": lying_gzip,
}


@needs_limits
@pytest.mark.parametrize("name", HUNGRY)
def test_memory_is_in_proportion_to_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(HUNGRY[name]())
    done = run_limited(READ, path)
    taken = done.peak - base()
    assert taken < 16 * path.stat().st_size + 64 * MB, f"{taken / MB:.1f} MiB, {done.result}"
    if name == "unused.npz":
        assert set(done.result) == {"read"}
