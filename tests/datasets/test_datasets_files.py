"""The user's own files: what is read, how it is divided, and what is said about a malformed one."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcnn_gpu import datasets
from fcnn_gpu._types import HostArray
from fcnn_gpu.datasets import DataFileError, read_features, write_idx
from fcnn_gpu.datasets._arrays import read_npy, read_npz

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
LABELS = np.arange(20) % 4
VALUES = RNG.normal(size=20)
ROWS = [(5.1, 3.5, "setosa"), (4.9, 3.0, "setosa"), (6.3, 3.3, "virginica"), (5.8, 2.7, "virginica")]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def csv_of(rows: list[tuple[Any, ...]], header: str = "", delimiter: str = ",") -> str:
    lines = [delimiter.join(map(str, row)) for row in rows]
    return "\n".join(([header] if header else []) + lines) + "\n"


IRIS = csv_of(ROWS, "length,width,species")


def every_row(data: datasets.Dataset) -> list[tuple[float, ...]]:
    """All samples with their targets, sorted: what no division into parts may change."""
    X_all = np.concatenate([data.X_train, data.X_test])
    y_all = np.concatenate([data.y_train, data.y_test])
    return sorted((*map(float, x), float(y)) for x, y in zip(X_all, y_all, strict=True))


# CSV: what is read


def test_csv_with_header_and_text_labels(tmp_path: Path) -> None:
    data = datasets.load(write(tmp_path / "iris.csv", IRIS), test_fraction=0)
    np.testing.assert_array_equal(data.X_train, np.array([row[:2] for row in ROWS], dtype=np.float32))
    assert data.X_train.flags.c_contiguous
    assert list(data.y_train) == [0, 0, 1, 1]
    assert data.y_train.dtype == np.int64
    assert data.X_test.shape == (0, 2)
    assert data.class_names == ("setosa", "virginica")
    assert data.feature_names == ("length", "width")
    assert (data.task, data.n_outputs, data.n_classes) == ("classification", 2, 2)
    assert data.licence is None
    assert repr(data) == (
        "Dataset('iris.csv': 4 training and 0 test samples, features (2,), classification, 2 classes)"
    )


@pytest.mark.parametrize(
    "text",
    [
        IRIS.replace(",", ";"),
        IRIS.replace(",", "\t"),
        IRIS.replace(",", "|"),
        IRIS.replace(",", " , "),
        IRIS.replace("\n", "\r\n"),
        IRIS.replace("\n", "\r"),
        IRIS.replace("\n", "\n\n"),
        "\ufeff" + IRIS,
        IRIS.rstrip("\n"),
        IRIS.replace("setosa", '"setosa"').replace("length", '"length"'),
        IRIS.replace("5.1", '"5.1"'),
        IRIS.replace("5.1", '"5.1"').replace("\n", "\n\n"),
    ],
)
def test_csv_dialects(tmp_path: Path, text: str) -> None:
    data = datasets.load(write(tmp_path / "iris.csv", text), test_fraction=0)
    np.testing.assert_array_equal(data.X_train, np.array([row[:2] for row in ROWS], dtype=np.float32))
    assert data.class_names == ("setosa", "virginica")
    assert data.feature_names == ("length", "width")


def test_quoted_cells_may_hold_the_delimiter(tmp_path: Path) -> None:
    text = IRIS.replace("setosa", '"setosa, ""wild"""')
    data = datasets.load(write(tmp_path / "iris.csv", text))
    assert data.class_names == ('setosa, "wild"', "virginica")


def test_none_is_a_label_but_no_number(tmp_path: Path) -> None:
    data = datasets.load(write(tmp_path / "a.csv", IRIS.replace("setosa", "none")))
    assert data.class_names == ("none", "virginica")
    with pytest.raises(DataFileError, match=r"missing value \('none'\)"):
        datasets.load(write(tmp_path / "a.csv", IRIS.replace("3.3", "none")))


def test_tsv_name_decides_the_delimiter(tmp_path: Path) -> None:
    data = datasets.load(write(tmp_path / "a.tsv", "1\ta,b\n2\tc,d\n"), test_fraction=0)
    assert data.class_names == ("a,b", "c,d")


@pytest.mark.parametrize(("target", "expected"), [("species", 2), (None, 2), (2, 2), (-1, 2), ("length", 0), (0, 0)])
def test_csv_target_by_name_or_number(tmp_path: Path, target: str | int | None, expected: int) -> None:
    numeric = IRIS.replace("setosa", "10").replace("virginica", "3")
    path = write(tmp_path / "iris.csv", numeric)
    data = datasets.load(path, target=target, test_fraction=0, task="regression")
    columns = np.array([[5.1, 4.9, 6.3, 5.8], [3.5, 3.0, 3.3, 2.7], [10, 10, 3, 3]], dtype=np.float32)
    np.testing.assert_array_equal(data.y_train, columns[expected])
    np.testing.assert_array_equal(data.X_train, np.delete(columns, expected, axis=0).T)


def test_headerless_csv_and_what_counts_as_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "iris.data", csv_of(ROWS))
    assert datasets.load(path, test_fraction=0).feature_names is None
    forced = datasets.load(path, test_fraction=0, header=True)
    assert len(forced.X_train) == 3
    assert forced.feature_names == ("5.1", "3.5")
    numbered = write(tmp_path / "numbered.csv", csv_of([(1, 2, 0), (3, 4, 1)], "0,1,label"))
    with pytest.raises(DataFileError, match=r"line 1 may be the header.*column 3 is 'label' there.*header=True"):
        datasets.load(numbered)
    assert datasets.load(numbered, header=True, test_fraction=0).feature_names == ("0", "1")


def test_task_follows_the_targets(tmp_path: Path) -> None:
    def load(targets: list[Any], **options: Any) -> datasets.Dataset:
        rows = [(i + 0.5, target) for i, target in enumerate(targets)]
        return datasets.load(write(tmp_path / "a.csv", csv_of(rows)), test_fraction=0, **options)

    whole = load([10, 2, 2, 10])
    assert (whole.task, whole.class_names, list(whole.y_train)) == ("classification", ("2", "10"), [1, 0, 0, 1])
    assert load(["1.0", "3.0"]).class_names == ("1", "3")
    assert load(["1_0", "2_0"]).class_names == ("1_0", "2_0")
    fractions = load([0.5, 2, 3])
    assert (fractions.task, fractions.class_names, fractions.n_outputs) == ("regression", None, 1)
    assert fractions.y_train.dtype == np.float32
    assert load(list(range(101))).task == "regression"
    assert load(list(range(100))).task == "classification"
    assert load(list(range(101)), task="classification").n_classes == 101
    assert load([1, 2, 2], task="regression").task == "regression"
    with pytest.raises(
        DataFileError, match=r"line 2, column 2: expected a whole number or text as class label, got 2.5"
    ):
        load([1, 2.5], task="classification")
    with pytest.raises(DataFileError, match="line 1, column 2: expected a number as regression target, got 'a'"):
        load(["a", "b"], task="regression")
    with pytest.raises(DataFileError, match="only one class, '7'"):
        load([7, 7])


@pytest.mark.parametrize(("rows", "fault"), [("1,0.5", "at least 2 samples"), ("1,a\n2,b", "No class has 2 samples")])
def test_a_file_too_small_to_be_divided_is_named(tmp_path: Path, rows: str, fault: str) -> None:
    path = tmp_path / "small.csv"
    path.write_text(f"x,label\n{rows}\n", encoding="utf-8")
    with pytest.raises(DataFileError, match=rf"small\.csv: .*{fault}.*test_fraction=0"):
        datasets.load(path)
    assert len(datasets.load(path, test_fraction=0).X_train) == rows.count(",")


def test_class_names_of_a_model_are_kept(tmp_path: Path) -> None:
    names = ["virginica", "versicolor", "setosa"]
    data = datasets.load(write(tmp_path / "a.csv", IRIS), class_names=names, test_fraction=0)
    assert list(data.y_train) == [2, 2, 0, 0]
    assert data.class_names == tuple(names)
    with pytest.raises(DataFileError, match=r"line 4, column 3 \('species'\): label 'virginica' is not one of"):
        datasets.load(tmp_path / "a.csv", class_names=["setosa", "versicolor"])
    one = write(tmp_path / "one.csv", csv_of([(1, 3), (2, 3)]))
    assert list(datasets.load(one, class_names=["2", "3"], test_fraction=0).y_train) == [1, 1]


@pytest.mark.parametrize("seed", [0, 7])
def test_division_keeps_every_sample_and_follows_the_seed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, X=X, y=LABELS)
    data = datasets.load(path, test_fraction=0.4, seed=seed)
    assert list(np.bincount(data.y_test)) == [2, 2, 2, 2]
    assert every_row(data) == every_row(datasets.load(path, test_fraction=0))
    np.testing.assert_array_equal(data.X_test, datasets.load(path, test_fraction=0.4, seed=seed).X_test)
    assert not np.array_equal(data.X_test, datasets.load(path, test_fraction=0.4, seed=seed + 1).X_test)


@settings(deadline=None, max_examples=30)
@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 6), st.integers(1, 5)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_float32_survives_csv_exactly(
    values: HostArray, delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    np.savetxt(path, values, delimiter=delimiter, fmt="%.9g")
    np.testing.assert_array_equal(read_features(path, header=False).astype(np.float32), values)


# CSV: what is refused

BAD_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty file": ("", "the file is empty"),
    "blank file": ("\n \n", "holds only blank lines"),
    "header alone": ("a,b,y\n", "has a header but no data rows"),
    "one column": ("y\n1\n2\n", "has a single column"),
    "text in a number column": (
        IRIS.replace("3.3", "wide"),
        r"line 4, column 2 \('width'\): expected a number, got 'wide'",
    ),
    "text in the first line": (
        csv_of([("x", 1, 0), (2, 1, 1)]),
        r"line 1 may be .* column 1 is 'x' there, and numbers below",
    ),
    "underscore in a number": (IRIS.replace("3.3", "3_3"), "line 4, column 2 .*got '3_3'"),
    "decimal comma": (IRIS.replace(",", ";").replace("3.3", "3,3"), "line 4, column 2 .*got '3,3'"),
    "missing feature": (IRIS.replace("3.3", ""), r"line 4, column 2 \('width'\): missing value\."),
    "missing feature as NaN": (IRIS.replace("3.3", "NaN"), r"line 4, column 2 .*missing value \('NaN'\)"),
    "missing feature as ?": (IRIS.replace("6.3", "?"), r"line 4, column 1 .*missing value \('\?'\)"),
    "digits of another script": (IRIS.replace("3.3", "\u0663"), "line 4, column 2 .*got '\u0663'"),
    "missing label": (IRIS.replace("3.3,virginica", "3.3,"), r"line 4, column 3 \('species'\): missing value"),
    "infinite feature": (IRIS.replace("3.3", "-inf"), "line 4, column 2 .*finite number .* got '-inf'"),
    "feature beyond float32": (IRIS.replace("3.3", "1e39"), "line 4, column 2 .*float32 can hold, got '1e39'"),
    "infinite target": (csv_of([(1, 2), (2, "inf")]), "line 2, column 2: expected a finite target"),
    "ragged, long": (IRIS.replace("3.3", "3.3,1"), "line 4 has 4 columns, but line 1 has 3"),
    "ragged, short": (IRIS.replace("3.3,", ""), "line 4 has 2 columns, but line 1 has 3"),
    "ragged, with quotes": (IRIS.replace("3.3", '"3.3",1'), "line 4 has 4 columns, but line 1 has 3"),
    "unnamed column": (IRIS.replace("length", ""), "column 1 has no name in the header.*index=False"),
    "open quote": (IRIS.replace("setosa", '"setosa'), "bad quotes|runs over a line break"),
    "text after a quote": (IRIS.replace("setosa", '"set"osa'), "line 2: bad quotes"),
    "line break in a cell": (IRIS.replace("setosa", '"set\nosa"'), "line 3: a quoted cell runs over a line break"),
    "binary": (b"1,2\n\x00,3\n", "holds binary data"),
    "UTF-16": (IRIS.encode("utf-16"), "UTF-16"),
    "Latin-1": (IRIS.encode().replace(b"virginica", b"virg\xefnica"), "line 4: byte 0xef is not UTF-8"),
    "control characters": (IRIS.replace("setosa", "set\x1fosa"), "control characters"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_malformed_csv_is_named_with_line_and_column(case: str, tmp_path: Path) -> None:
    text, fault = BAD_CSV[case]
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataFileError, match=fault) as caught:
        datasets.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_csv_target_that_does_not_exist(tmp_path: Path) -> None:
    path = write(tmp_path / "iris.csv", IRIS)
    with pytest.raises(
        DataFileError, match=r"the target column 'kind' does not exist. Columns: length, width, species"
    ):
        datasets.load(path, target="kind")
    with pytest.raises(DataFileError, match="the target column 3 does not exist: the file has 3 columns"):
        datasets.load(path, target=3)
    with pytest.raises(DataFileError, match=r"has no header, so the target column 'species'.*header=True"):
        datasets.load(write(tmp_path / "bare.csv", csv_of(ROWS)), target="species")
    with pytest.raises(DataFileError, match="'a' occurs more than once"):
        datasets.load(write(tmp_path / "twice.csv", "a,a\n1,2\n"), target="a")
    with pytest.raises(TypeError, match="a column's name or number"):
        datasets.load(path, target=tmp_path)


# .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_one_pair(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", X=X, y=VALUES)
    data = datasets.load(tmp_path / "a.npz")
    assert (data.X_train.shape, data.X_test.shape) == ((16, 3), (4, 3))
    assert data.task == "regression"
    assert data.y_train.dtype == np.float32


def test_npz_with_its_own_test_part_keeps_the_order(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (20, 4, 5)).astype(np.uint8)
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=images[:15], y_train=LABELS[:15], x_test=images[15:], y_test=LABELS[15:], note=np.array("a"))
    data = datasets.load(path)
    np.testing.assert_array_equal(data.X_train, images[:15].reshape(15, 20).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(data.y_test, LABELS[15:])
    assert data.feature_shape == (4, 5)


def test_npz_targets_of_every_kind(tmp_path: Path) -> None:
    def load(y: HostArray, **options: Any) -> datasets.Dataset:
        np.savez(tmp_path / "a.npz", X=X, y=y)
        return datasets.load(tmp_path / "a.npz", test_fraction=0, **options)

    text = load(np.array(["cat", "dog"] * 10))
    assert text.class_names == ("cat", "dog")
    assert load(np.array([b"cat", b"dog"] * 10)).class_names == ("cat", "dog")
    assert load(LABELS == 1).class_names == ("False", "True")
    np.testing.assert_array_equal(load(LABELS[:, np.newaxis]).y_train, LABELS)
    np.testing.assert_array_equal(load(np.eye(4)[LABELS]).y_train, LABELS)
    several = RNG.integers(0, 2, (20, 3))
    several[0] = 1
    multilabel = load(several)
    assert (multilabel.multilabel, multilabel.n_outputs, multilabel.task) == (True, 3, "classification")
    np.testing.assert_array_equal(multilabel.y_train, several)
    two = load(X[:, :2])
    assert (two.task, two.n_outputs) == ("regression", 2)
    assert load(np.arange(20) * 1e20).task == "regression"
    with pytest.raises(DataFileError, match="targets have 3 classes, but class_names has 2"):
        load(several, class_names=["a", "b"])
    with pytest.raises(DataFileError, match="must be zeros and ones"):
        load(X[:, :2], task="classification")
    with pytest.raises(DataFileError, match="expected one label per sample"):
        load(np.full((20, 2), "a"))
    with pytest.raises(DataFileError, match=r"sample 3: expected a finite target .* got nan"):
        load(np.where(np.arange(20) == 3, np.nan, VALUES))
    with pytest.raises(DataFileError, match=r"the targets have shape \(20, 1, 1\)"):
        load(VALUES.reshape(20, 1, 1))


NPZ_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no known name": ({"inputs": X, "y": LABELS}, r"has the arrays inputs \(20, 3\), y \(20,\); expected X and y"),
    "no arrays": ({}, r"has the arrays \(none\)"),
    "X alone": ({"X": X}, "expected X and y"),
    "X_test without y_test": ({"X_train": X, "y_train": LABELS, "X_test": X}, "expected X and y"),
    "X beside X_train": ({"X": X, "y": LABELS, "X_train": X}, "expected X and y"),
    "two spellings": ({"X": X, "x": X, "y": LABELS}, "two arrays named 'x' but for upper and lower case"),
    "other lengths": ({"X": X, "y": LABELS[:-1]}, "there are 19 targets for 20 samples"),
    "scalar target": ({"X": X, "y": np.float64(1)}, "there are 0 targets for 20 samples"),
    "other test lengths": (
        {"X_train": X, "y_train": LABELS, "X_test": X, "y_test": LABELS[:3]},
        "there are 3 test targets for 20 test samples",
    ),
    "other test shape": (
        {"X_train": X, "y_train": LABELS, "X_test": X[:, :2], "y_test": LABELS},
        r"X_test's samples have shape \(2,\), X_train's \(3,\)",
    ),
    "other test targets": (
        {"X_train": X, "y_train": LABELS, "X_test": X, "y_test": LABELS.astype(str)},
        "targets are of different kinds",
    ),
    "bad test target": (
        {"X_train": X, "y_train": VALUES, "X_test": X, "y_test": VALUES * np.inf},
        "test sample 0: expected a finite target",
    ),
    "vector of inputs": ({"X": VALUES, "y": LABELS}, r"x have shape \(20,\); expected \(n_samples, n_features\)"),
    "no samples": ({"X": X[:0], "y": LABELS[:0]}, r"x have shape \(0, 3\)"),
    "NaN input": (
        {"X": np.where(np.arange(60).reshape(20, 3) == 7, np.nan, X), "y": LABELS},
        "x: sample 2, feature 1 is nan",
    ),
    "input beyond float32": ({"X": X * 1e300, "y": LABELS}, "x: sample 0, feature 0 is .*float32 can hold"),
    "text input": ({"X": X.astype(str), "y": LABELS}, "expected real numbers"),
    "complex input": ({"X": X + 1j, "y": LABELS}, "X.npy: holds complex128 elements"),
    "object labels": ({"X": X, "y": LABELS.astype(object)}, r"y.npy: holds Python objects .*astype\(str\)"),
    "dates": ({"X": X, "y": LABELS.astype("M8[D]")}, r"y.npy: holds datetime64\[D\] elements"),
}


@pytest.mark.parametrize("case", NPZ_FAULTS)
def test_npz_with_the_wrong_arrays(case: str, tmp_path: Path) -> None:
    arrays, fault = NPZ_FAULTS[case]
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataFileError, match=fault) as caught:
        datasets.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def npy_bytes(array: HostArray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
    return stream.getvalue()


def lying_npy(shape: tuple[int, ...], content: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


NPY = npy_bytes(X)
NPY_FAULTS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "the file is empty"),
    "not npy": (b"1,2,3\n4,5,6\n", "not a .npy array: it starts with b'1,2,3"),
    "short": (NPY[:7], "not a .npy array"),
    "unknown version": (NPY[:6] + b"\x09\x00" + NPY[8:], "version 9.0 is not known"),
    "cut header": (NPY[:40], "damaged or truncated .npy header"),
    "damaged header": (NPY.replace(b"'descr'", b"'desc\xff'"), "damaged or truncated .npy header"),
    "unclosed header": (NPY.replace(b"}", b" "), "damaged or truncated .npy header"),
    "Python 2 header": (NPY.replace(b"(20, 3), }", b"(20L, 3),}"), "damaged or truncated .npy header"),
    "signalling NaN": (NPY[:-8] + b"\x01\0\0\0\0\0\xf0\x7f", "sample 19, feature 2 is nan"),
    "cut data": (NPY[:-1], r"truncated: the header promises shape \(20, 3\) of float64 = 480 bytes, .* holds 479"),
    "trailing bytes": (NPY + b"x", r"trailing bytes after shape \(20, 3\)"),
    "promise beyond memory": (lying_npy((2**40, 2**40), b""), "which no memory can hold"),
    "negative promise": (lying_npy((-1, 3), b""), "which no memory can hold"),
    "text of no length": (NPY.replace(b"'<f8'", b"'<U0'"), "holds <U0 elements"),
    "objects": (npy_bytes(np.array([[{}, 1]], dtype=object)), "holds Python objects"),
    "structured": (npy_bytes(np.zeros(3, dtype=[("a", "f4")])), "expected real numbers"),
}


@pytest.mark.parametrize("case", NPY_FAULTS)
def test_malformed_npy(case: str, tmp_path: Path) -> None:
    content, fault = NPY_FAULTS[case]
    path = tmp_path / "X.npy"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=fault) as caught:
        read_features(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("array", [X, np.asfortranarray(X), X.astype(">f4"), np.array("text"), np.zeros((0, 3))])
def test_npy_is_read_as_numpy_reads_it(tmp_path: Path, array: HostArray, version: tuple[int, int]) -> None:
    (tmp_path / "a.npy").write_bytes(npy_bytes(array, version))
    back = read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(back, np.load(tmp_path / "a.npy"))
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.shape == array.shape


def test_npy_memory_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(lying_npy((2**20, 1000), bytes(8000)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.npy", "X.npy")
    for read, fault in (
        (lambda: read_npy(tmp_path / "a.npy"), "the file holds 8000"),
        (lambda: read_npz(tmp_path / "a.npz")["X"], "the archive holds 8,000"),
    ):
        tracemalloc.start()
        with pytest.raises(DataFileError, match=fault):
            read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20


def npz_bytes(compression: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("X.npy", npy_bytes(X))
        archive.writestr("y.npy", npy_bytes(LABELS))
    return stream.getvalue()


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    stored, deflated = npz_bytes(zipfile.ZIP_STORED), npz_bytes(zipfile.ZIP_DEFLATED)
    middle = deflated.index(b"X.npy") + 60
    damaged = deflated[:middle] + bytes(40) + deflated[middle + 40 :]
    encrypted = bytearray(stored)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = stored.index(signature) + offset
        encrypted[at : at + 2] = struct.pack("<H", 1)
    for content in (b"", b"PK", stored[:100], stored[:-30], damaged, bytes(encrypted), NPY):
        path.write_bytes(content)
        with pytest.raises(DataFileError, match="is empty" if not content else "not a whole .npz file"):
            datasets.load(path)
    flipped = bytearray(stored)
    flipped[stored.index(npy_bytes(X)[-8:])] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DataFileError, match="CRC"):
        datasets.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "dear reader")
    with pytest.raises(DataFileError, match=r"holds 'letter.txt', which is no .npy array"):
        datasets.load(path)


VALID = {
    "a.csv": IRIS.encode(),
    "quoted.csv": IRIS.replace("setosa", '"setosa"').encode(),
    "a.npy": NPY,
    "stored.npz": npz_bytes(zipfile.ZIP_STORED),
    "deflated.npz": npz_bytes(zipfile.ZIP_DEFLATED),
    "a.idx": bytes.fromhex("00000802 00000002 00000003") + bytes(6),
    "a.gz": gzip.compress(bytes.fromhex("00000d02 00000002 00000003") + bytes(24), mtime=0),
}


@settings(deadline=None, max_examples=400)
@given(data=st.data(), name=st.sampled_from(sorted(VALID)))
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(VALID[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(start + 4, len(content))))
        content[start:stop] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.mktemp("damaged", numbered=True) / name
    path.write_bytes(content)
    with contextlib.suppress(DataFileError):
        features = read_features(path, drop=-1 if name.endswith("csv") else None)
        assert features.ndim == 2
        assert features.dtype in (np.float32, np.float64)
        assert np.isfinite(features.astype(np.float32)).all()


# .npy and IDX pairs, folders


def test_npy_with_its_targets(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    np.save(tmp_path / "y.npy", LABELS)
    data = datasets.load(tmp_path / "X.npy", target=str(tmp_path / "y.npy"), test_fraction=0)
    np.testing.assert_array_equal(data.X_train, X.astype(np.float32))
    np.testing.assert_array_equal(data.y_train, LABELS)
    write_idx(tmp_path / "y.idx", LABELS.astype(np.uint8))
    data = datasets.load(tmp_path / "X.npy", target=tmp_path / "y.idx", test_fraction=0)
    np.testing.assert_array_equal(data.y_train, LABELS)
    with pytest.raises(ValueError, match=r"target='y.npy'"):
        datasets.load(tmp_path / "X.npy")
    with pytest.raises(ValueError, match=r"is read as csv; expected a .npy or an IDX file"):
        datasets.load(tmp_path / "X.npy", target=write(tmp_path / "y.csv", "1\n"))
    with pytest.raises(FileNotFoundError, match="a file with the targets"):
        datasets.load(tmp_path / "X.npy", target=tmp_path / "z.npy")
    np.save(tmp_path / "y.npy", LABELS[:-2])
    with pytest.raises(DataFileError, match=r"y.npy: there are 18 targets for 20 samples"):
        datasets.load(tmp_path / "X.npy", target=tmp_path / "y.npy")


def test_folder_of_idx_files(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (20, 2, 3)).astype(np.uint8)
    y = LABELS.astype(np.uint8)
    folder = tmp_path / "fashion"
    folder.mkdir()
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    with pytest.raises(FileNotFoundError, match="lacks train-labels-idx1-ubyte, t10k-images"):
        datasets.load(folder)
    write_idx(folder / "train-labels-idx1-ubyte", y)
    assert len(datasets.load(folder).X_test) == 4
    write_idx(folder / "t10k-images-idx3-ubyte.gz", images[:5])
    with pytest.raises(FileNotFoundError, match="lacks t10k-labels-idx1-ubyte"):
        datasets.load(folder)
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", y[:5])
    data = datasets.load(folder)
    assert (data.name, data.feature_shape, len(data.X_train), len(data.X_test)) == ("fashion", (2, 3), 20, 5)
    np.testing.assert_array_equal(data.y_train, LABELS)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", images[:5, :, :2])
    with pytest.raises(DataFileError, match=r"t10k.*samples have shape \(2, 2\), the training samples \(2, 3\)"):
        datasets.load(folder)
    with pytest.raises(ValueError, match="target= is for single files"):
        datasets.load(folder, target="y")


def test_arguments_that_do_not_fit_the_kind_of_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=X, y=LABELS)
    with pytest.raises(ValueError, match="header= is for CSV files"):
        datasets.load(tmp_path / "a.npz", header=True)
    with pytest.raises(ValueError, match=r"target= is for .npy, IDX and CSV files"):
        datasets.load(tmp_path / "a.npz", target="y")
    with pytest.raises(ValueError, match="drop= and header= are for CSV files"):
        read_features(tmp_path / "a.npz", drop="y")


# inputs alone


def test_read_features_of_every_kind(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (6, 2, 2)).astype(np.uint8)
    expected = images.reshape(6, 4).astype(np.float32) / np.float32(255)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "one.npz", anything=images)
    np.savez(tmp_path / "more.npz", x=images, y=LABELS)
    write_idx(tmp_path / "images-idx3-ubyte.gz", images)
    for name in ("a.npy", "one.npz", "more.npz", "images-idx3-ubyte.gz"):
        features = read_features(tmp_path / name, n_features=4)
        np.testing.assert_array_equal(features, expected)
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
    np.savez(tmp_path / "unclear.npz", a=images, b=images)
    with pytest.raises(DataFileError, match=r"has the arrays a .* expected one named X, or a single array"):
        read_features(tmp_path / "unclear.npz")


def test_read_features_of_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "iris.csv", IRIS)
    expected = np.array([row[:2] for row in ROWS])
    np.testing.assert_array_equal(read_features(path, drop="species"), expected)
    np.testing.assert_array_equal(read_features(path, drop=-1, header=True), expected)
    with pytest.raises(DataFileError, match=r"line 2, column 3 .*expected a number, got 'setosa'"):
        read_features(path)
    numeric = write(tmp_path / "numeric.csv", "a,b,y\n1,2,0\n")
    with pytest.raises(DataFileError, match=r"has 3 features per sample, expected 2. If one column is the target"):
        read_features(numeric, n_features=2)
    single = write(tmp_path / "single.csv", "a\n1\n2\n")
    np.testing.assert_array_equal(read_features(single), np.array([[1], [2]], dtype=np.float32))
    with pytest.raises(DataFileError, match="has no column left"):
        read_features(single, drop="a")


def test_kind_is_told_by_content_when_the_name_says_nothing(tmp_path: Path) -> None:
    expected = X.astype(np.float32)
    np.savez(tmp_path / "a.npz", X=X)
    np.save(tmp_path / "a.npy", X)
    write_idx(tmp_path / "a.idx", expected)
    write_idx(tmp_path / "packed.gz", expected)
    np.savetxt(tmp_path / "a.csv", X, delimiter=",")
    for number, name in enumerate(("a.npz", "a.npy", "a.idx", "packed.gz", "a.csv")):
        plain = tmp_path / f"data{number}"
        plain.write_bytes((tmp_path / name).read_bytes())
        np.testing.assert_array_equal(read_features(plain).astype(np.float32), expected)
