"""Data sets in files of every kind: the same samples as in arrays, and errors that name the file and the row."""

from __future__ import annotations

import builtins
import copy
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.datasets import BlockSource, DataFileError, load, open_csv, open_npy, open_npz, open_parquet, open_raw
from fcnn_gpu.files._numbers import StorageError

from ..data.test_sources import run, whole
from ..data.test_streaming import N_IN, assert_equal, samples, trainer

N = 103


def parts(n_files: int) -> list[slice]:
    return [slice(N * i // n_files, N * (i + 1) // n_files) for i in range(n_files)]


def data(dtype: str = "float32") -> tuple[HostArray, HostArray, HostArray]:
    X, y, w = samples(N)
    return X.astype(dtype), y, w


def in_npy(folder: Path, n_files: int) -> BlockSource:
    X, y, w = data()
    for i, part in enumerate(parts(n_files)):
        np.save(folder / f"X{i}.npy", X[part])
        np.save(folder / f"y{i}.npy", y[part])
        np.save(folder / f"w{i}.npy", w[part])
    return open_npy(folder / "X*.npy", str(folder / "y*.npy"), folder / "w*.npy", block_size=11)


def in_raw(folder: Path, n_files: int) -> BlockSource:
    X, y, w = data()
    (folder / "X.bin").write_bytes(b"header" + X.astype(">f4").tobytes() + b"tail")
    y.astype("uint8").tofile(folder / "y.bin")
    labels = np.memmap(folder / "y.bin", "uint8", "r")
    return open_raw(folder / "X.bin", ">f4", X.shape, labels, w, offset=6, block_size=11)


def in_npz(save: Callable[..., None]) -> Callable[[Path, int], BlockSource]:
    def write(folder: Path, n_files: int) -> BlockSource:
        X, y, w = data()
        for i, part in enumerate(parts(n_files)):
            save(folder / f"part{i}.npz", X=X[part], y=y[part], w=w[part], other=np.ones(3))
        return open_npz(folder / "part*.npz", "x", "y", "w", block_size=11)

    return write


def in_parquet(folder: Path, n_files: int, lists: bool = False) -> BlockSource:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    X, y, w = data()
    for i, part in enumerate(parts(n_files)):
        columns = {f"c{j}": X[part][:, j] for j in range(N_IN)}
        if lists:
            flat = pyarrow.array(X[part][:, 1:].reshape(-1))
            columns = {"c0": X[part][:, 0], "rest": pyarrow.FixedSizeListArray.from_arrays(flat, N_IN - 1)}
        table = pyarrow.table({"label": y[part], **columns, "w": w[part]})
        parquet.write_table(table, folder / f"part{i}.parquet", row_group_size=17)
    return open_parquet(folder / "part*.parquet", "label", sample_weight="w")


def in_parquet_lists(folder: Path, n_files: int) -> BlockSource:
    return in_parquet(folder, n_files, lists=True)


FORMATS = {
    "npy": in_npy,
    "raw": in_raw,
    "npz": in_npz(np.savez),
    "compressed npz": in_npz(np.savez_compressed),
    "parquet": in_parquet,
    "parquet lists": in_parquet_lists,
}


@pytest.mark.parametrize("n_files", [1, 3])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_the_same(kind: str, n_files: int, tmp_path: Path) -> None:
    X, y, w = data()
    source = FORMATS[kind](tmp_path, n_files)
    read = [np.concatenate(arrays) for arrays in zip(*whole(source), strict=True)]
    for actual, expected in zip(read, (X, y, w), strict=True):
        np.testing.assert_array_equal(actual, expected)
    beside = [pair for block in range(len(source.block_sizes)) for pair in source.read_targets(block)]
    np.testing.assert_array_equal(np.concatenate([t for t, _ in beside if t is not None]), y)
    np.testing.assert_array_equal(np.concatenate([v for _, v in beside if v is not None]), w)
    assert len(source) == source.n_samples == N
    assert source.n_features == N_IN
    assert source.dtype == np.float32
    assert source.place(N - 1).endswith(f", row {(N if n_files == 1 or kind == 'raw' else N - parts(3)[2].start) - 1}")
    expected_run = run(trainer(Ops()), X, y, w, shuffle=False)
    assert_equal(run(trainer(Ops()), source, shuffle=False), expected_run)


@pytest.mark.parametrize("n_files", [1, 2])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("block_bytes", [40, 300, 2**20])
def test_csv_is_read_as_load_reads_it(
    block_bytes: int, quoted: bool, n_files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", block_bytes)
    X, y, _ = data()
    names = np.array(["low", "mid", "high"])[y]
    lines = [
        ",".join([*(f"{value:.9g}" for value in row), f'"{name}"' if quoted else name])
        for row, name in zip(X, names, strict=True)
    ]
    for i, part in enumerate(parts(n_files)):
        text = "\r\n".join([",".join([*(f"c{j}" for j in range(N_IN)), "label"]), "", *lines[part], ""])
        (tmp_path / f"part{i}.csv").write_text("\ufeff" + text, "utf-8", newline="")
    source = open_csv(tmp_path / "part*.csv")
    (tmp_path / "all.csv").write_text("\n".join([",".join([*(f"c{j}" for j in range(N_IN)), "label"]), *lines]))
    expected = load(tmp_path / "all.csv", test_fraction=0.0)
    read = [np.concatenate(arrays) for arrays in zip(*((x, t) for x, t, _ in whole(source)), strict=True)]
    assert source.dtype == read[0].dtype == np.float64  # the model's dtype decides what of it is kept
    np.testing.assert_array_equal(read[0].astype(np.float32), expected.X_train)
    np.testing.assert_array_equal(read[1], expected.y_train)
    assert source.class_names == expected.class_names == ("high", "low", "mid")
    assert source.feature_names == expected.feature_names
    line = N + 2 - (parts(n_files)[1].start if n_files > 1 else 0)
    assert source.place(N - 1).endswith(f".csv, line {line}")
    assert_equal(
        run(trainer(Ops()), source, shuffle=False),
        run(trainer(Ops()), expected.X_train, expected.y_train, shuffle=False),
    )


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (["1", "3", "3", "7"], {}, [0, 1, 1, 2]),
        (["1", "3", "3", "7"], {"task": "regression"}, [1, 3, 3, 7]),
        (["1.5", "3", "3", "7"], {}, [1.5, 3, 3, 7]),
        (["1", "3", "a", "3"], {}, [0, 1, 2, 1]),
        (["b", "a", "b", "a"], {"class_names": ["b", "a"]}, [0, 1, 0, 1]),
    ],
)
def test_targets_of_csv(
    cells: list[str], options: dict[str, Any], expected: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", 8)
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{cell},{i}\n" for i, cell in enumerate(cells)))
    source = open_csv(path, 0, **options)
    assert len(source.block_sizes) > 1
    targets = np.concatenate([y for _, y, _ in whole(source) if y is not None])
    np.testing.assert_array_equal(targets, expected)
    np.testing.assert_array_equal(targets, load(path, target=0, test_fraction=0.0, **options).y_train)


def test_lone_carriage_returns_and_no_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", 7)
    (tmp_path / "a.csv").write_bytes(b"".join(b"%d,%d\r" % (i, i + 1) for i in range(20)))
    source = open_csv(tmp_path / "a.csv", None, header=False)
    X = np.concatenate([x for x, _, _ in whole(source)])
    np.testing.assert_array_equal(X, [(i, i + 1) for i in range(20)])
    assert not source.has_targets


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", "int32", "bool"])
def test_features_of_any_dtype(dtype: str, tmp_path: Path) -> None:
    X = (data()[0] > 100) if dtype == "bool" else data(dtype)[0]
    y = data()[1]
    np.save(tmp_path / "X.npy", X)
    source = open_npy(tmp_path / "X.npy", y, block_size=10)
    assert_equal(run(trainer(Ops()), source, shuffle=False), run(trainer(Ops()), X, y, shuffle=False))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_copy_of_a_source_reads_the_same(kind: str, tmp_path: Path) -> None:
    source = FORMATS[kind](tmp_path, 2)
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        for expected, got in zip(whole(source), whole(copied), strict=True):
            for a, b in zip(expected, got, strict=True):
                np.testing.assert_array_equal(a, b)


def test_images_are_flattened(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", X=np.arange(24.0).reshape(2, 3, 4), y=[0, 1])
    assert open_npz(tmp_path / "a.npz").n_features == 12
    np.savez(tmp_path / "b.npz", X=np.arange(24.0).reshape(2, 3, 4), y=[0, 1])
    for name in "ab":
        X = next(open_npz(tmp_path / f"{name}.npz").read(0))[0]
        np.testing.assert_array_equal(X, np.arange(24.0).reshape(2, 12))


class TestBadFiles:
    def refused(self, call: Callable[[], Any], *words: str, error: type[Exception] = DataFileError) -> None:
        with pytest.raises(error) as caught:
            call()
        for word in words:
            assert word in str(caught.value), str(caught.value)

    def trains(self, source: BlockSource, **options: Any) -> fcnn.Trainer:
        t = trainer(Ops())
        run(t, source, **options)
        return t

    def test_missing_files(self, tmp_path: Path) -> None:
        for opener in (open_npy, open_npz, open_csv):
            self.refused(lambda o=opener: o(tmp_path / "no.x"), "There is no file", error=FileNotFoundError)  # type: ignore[misc]
            self.refused(lambda o=opener: o(tmp_path / "no*.x"), "No file matches", error=FileNotFoundError)  # type: ignore[misc]
            self.refused(lambda o=opener: o([]), "a list of files", error=TypeError)  # type: ignore[misc]
        np.save(tmp_path / "a.npy", np.ones((3, 2)))
        self.refused(lambda: open_npy([tmp_path / "a.npy", tmp_path / "b.npy"]), "b.npy", error=FileNotFoundError)
        self.refused(
            lambda: open_npy([tmp_path / "a.npy"] * 2, tmp_path / "a.npy"), "a file for each of the 2", error=ValueError
        )

    def test_empty_files(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        (tmp_path / "a").touch()
        calls: list[Callable[[], Any]] = [
            lambda: open_npy(tmp_path / "a"),
            lambda: open_npz(tmp_path / "a"),
            lambda: open_csv(tmp_path / "a"),
            lambda: open_raw(tmp_path / "a", "f4", (2, 2)),
            lambda: open_parquet(tmp_path / "a", "y"),
        ]
        for call in calls:
            self.refused(call, str(tmp_path / "a"), "the file is empty")

    def test_npy(self, tmp_path: Path) -> None:
        path = tmp_path / "X.npy"
        np.save(path, np.ones((100, 3), np.float32))
        os.truncate(path, path.stat().st_size - 1)
        self.refused(lambda: open_npy(path), str(path), "truncated", "(100, 3) of float32 is 1,200 bytes")
        path.write_bytes(path.read_bytes() + b"12")
        self.refused(lambda: open_npy(path), str(path), "trailing bytes")
        np.save(path, np.asfortranarray(np.ones((100, 3))))
        self.refused(lambda: open_npy(path), str(path), "Fortran order")
        np.save(path, np.array([1.0, 2.0]))
        self.refused(lambda: open_npy(path), "shape (n_samples, n_features)", str(path), error=ValueError)
        np.save(path, np.array([["a", "b"]]))
        self.refused(lambda: open_npy(path), "real numbers", str(path))
        np.save(path, np.float32(3))
        self.refused(lambda: open_npy(path), str(path), "a single number")
        path.write_text("1,2,3")
        self.refused(lambda: open_npy(path), str(path), "not a .npy array")
        np.save(path, np.ones((100, 3)))
        np.save(tmp_path / "y.npy", np.ones(99))
        self.refused(lambda: open_npy(path, tmp_path / "y.npy"), "99", "y.npy", "100", "X.npy", error=ValueError)

    def test_columns_in_another_order(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        columns = {"a": [1.0, 2.0], "b": [3.0, 4.0], "y": [0, 1]}
        orders = ["a", "b", "y"], ["b", "y", "a"]
        for i, names in enumerate(orders):
            parquet.write_table(pyarrow.table({name: columns[name] for name in names}), tmp_path / f"{i}.parquet")
            rows = zip(*(columns[name] for name in names), strict=True)
            lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
            (tmp_path / f"{i}.csv").write_text("\n".join(lines))
        words = "the same features in the same order", "number 0 is 'a' in", "'b' in"
        self.refused(lambda: open_parquet(tmp_path / "?.parquet", "y"), *words, "1.parquet", error=ValueError)
        self.refused(lambda: open_csv(tmp_path / "?.csv", "y"), *words, "1.csv", error=ValueError)
        chosen = open_parquet(tmp_path / "?.parquet", "y", features=["b", "a"])
        np.testing.assert_array_equal(np.concatenate([X for X, _, _ in whole(chosen)]), [[3, 1], [4, 2]] * 2)

    def test_names_of_columns(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        path = tmp_path / "a.parquet"
        parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "w": [1.0, 1.0], "y": [0, 1]}), path)
        both = ["a", "y"], ["a", "w"]
        for features, what in zip(both, ("which is the target", "which is the sample_weight"), strict=True):
            self.refused(lambda f=features: open_parquet(path, "y", f, "w"), what, error=ValueError)  # type: ignore[misc]
        wrong: Any
        for wrong in ("a", 3, [3]):
            words = "open_parquet(features) expects names of columns", repr(wrong)
            self.refused(lambda w=wrong: open_parquet(path, "y", features=w), *words, error=TypeError)  # type: ignore[misc]
        wrong = -1
        self.refused(lambda: open_parquet(path, wrong), "open_parquet(target) expects names", error=TypeError)
        self.refused(lambda: open_parquet(path, "y", None, wrong), "open_parquet(sample_weight)", error=TypeError)

    def test_raw(self, tmp_path: Path) -> None:
        path = tmp_path / "X.bin"
        path.write_bytes(bytes(99))
        self.refused(lambda: open_raw(path, "u1", (10, 10)), str(path), "truncated", "100 bytes", "the file has 99")
        self.refused(lambda: open_raw(path, "u1", (9, 10), offset=10), "from byte 10 on; the file has 89")
        self.refused(lambda: open_raw(path, "u1", (0, 10)), "open_raw(shape)", error=ValueError)
        number: Any = 99
        self.refused(lambda: open_raw(path, "u1", number), "open_raw(shape) expects a tuple", error=TypeError)

    def test_shards_that_do_not_fit_together(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "0.npz", X=np.ones((3, 2)), y=[0, 1, 0])
        np.savez(tmp_path / "1.npz", X=np.ones((3, 4)), y=[0, 1, 0])
        self.refused(
            lambda: open_npz(tmp_path / "?.npz"), "the same n_features", "0.npz has 2", "1.npz has 4", error=ValueError
        )
        np.savez(tmp_path / "1.npz", X=np.ones((3, 2), np.float32), y=[0, 1, 0])
        self.refused(lambda: open_npz(tmp_path / "?.npz"), "0.npz has float64", "1.npz has float32", error=ValueError)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_npz(self, save: Callable[..., None], tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        save(path, X=np.ones((30, 2)), z=np.ones(30))
        self.refused(lambda: open_npz(path), str(path), "has no array 'y'; its arrays: X, z")
        save(path, X=np.ones((30, 2)), y=np.ones(29))
        self.refused(lambda: open_npz(path), str(path), "29", error=ValueError)
        save(path, X=np.ones(30), y=np.ones(30))
        self.refused(lambda: open_npz(path), "(n_samples, n_features)", error=ValueError)
        save(path, X=np.asfortranarray(np.ones((30, 2))), y=np.ones(30))
        self.refused(lambda: open_npz(path), str(path), "Fortran order")
        save(path, X=np.ones((30, 2)), y=np.ones(30))
        whole_file = path.read_bytes()
        path.write_bytes(whole_file[: len(whole_file) // 2])
        self.refused(lambda: open_npz(path), str(path), "not a whole .npz file")
        path.write_bytes(b"a,b\n1,2\n")
        self.refused(lambda: open_npz(path), str(path), "not a whole .npz file")

    def test_damage_within_a_compressed_shard(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        X, y, _ = data()
        np.savez_compressed(path, X=X, y=y)
        with zipfile.ZipFile(path) as archive:
            at = archive.getinfo("X.npy").header_offset + 400
        content = bytearray(path.read_bytes())
        content[at : at + 8] = b"\xff" * 8
        path.write_bytes(content)
        self.refused(lambda: self.trains(open_npz(path)), str(path), "Was it cut off or damaged?")

    def test_csv(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", 64)
        path = tmp_path / "a.csv"
        good = [f"{i},2,{i % 3}" for i in range(40)]
        for line, words in [
            ("1,2", ("line 31 has 2 columns",)),
            ("1,2,", ("line 31, column 3", "missing value")),
            ('1,"2,0', ("line", "bad quotes")),
        ]:
            path.write_text("\n".join([*good[:30], line, *good[31:]]))
            self.refused(lambda: open_csv(path), str(path), *words)
        for cell, words in [
            ("x", ("line 31, column 2", "expected a number, got 'x'")),
            ("nan", ("line 31", "missing")),
        ]:
            path.write_text("\n".join([*good[:30], f"1,{cell},0", *good[31:]]))
            source = open_csv(path)
            model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
            self.refused(lambda s=source, m=model: run(fcnn.Trainer(m), s), str(path), *words)  # type: ignore[misc]
        path.write_text("a,b,c\n")
        self.refused(lambda: open_csv(path), str(path), "header but no data rows")
        path.write_text("\n \n")
        self.refused(lambda: open_csv(path), str(path), "only blank lines")
        path.write_bytes(b"1,2,3\n4,5,\xff\n")
        self.refused(lambda: open_csv(path), str(path), "line 2", "not UTF-8")
        path.write_text("1\n2\n")
        self.refused(lambda: open_csv(path), str(path), "single column")
        task: Any = "classify"
        self.refused(lambda: open_csv(path, task=task), "open_csv(task) expects", "'classify'", error=ValueError)
        path.write_text("1,0\n2,1\n3,x\n")
        self.refused(lambda: open_csv(path, task="regression"), "expected a number", "got 'x'")
        other = tmp_path / "b.csv"
        other.write_text("1,0\n2,1\n")
        self.refused(lambda: open_csv([other, path], class_names=["0", "1"]), str(path), "label 'x' is not one of")
        path.write_text("a,b\n1,2\n1,3\n")
        self.refused(lambda: open_csv(path, "c"), str(path), "'c' does not exist")
        path.write_text("a,b\n1,2\n1,3\n")
        self.refused(lambda: open_csv(path, class_names=["2", "4"]), str(path), "label '3' is not one of the classes")

    def test_parquet(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        path = tmp_path / "a.parquet"

        def write(**columns: Any) -> None:
            parquet.write_table(pyarrow.table(columns), path, row_group_size=3)

        model = fcnn.Sequential([fcnn.Dense(3)], n_in=1, seed=0, backend="numpy")
        write(a=[1.0, 2.0, 3.0, 4.0, None, 6.0], y=[0, 1, 2, 0, 1, 2])
        source = open_parquet(path, "y")
        self.refused(lambda: run(fcnn.Trainer(model), source), str(path), "row 4, column 'a': missing value (null)")
        write(a=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], y=[0, 1, 2, 0, 1, None])
        source = open_parquet(path, "y")
        self.refused(lambda: run(fcnn.Trainer(model), source), str(path), "row 5, column 'y': missing value (null)")
        write(a=["x", "y"], y=[0, 1])
        self.refused(lambda: open_parquet(path, "y"), str(path), "column 'a' holds string values")
        self.refused(lambda: open_parquet(path, "z"), str(path), "column 'z' does not exist. Columns: a, y")
        write(y=[0, 1])
        self.refused(lambda: open_parquet(path, "y"), str(path), "no column left")
        write(a=pyarrow.array([], "float32"), y=pyarrow.array([], "int64"))
        self.refused(lambda: open_parquet(path, "y"), str(path), "no rows")
        path.write_bytes(path.read_bytes()[:-5])
        self.refused(lambda: open_parquet(path, "y"), str(path), "not a whole Parquet file")

    def test_parquet_without_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        imports = builtins.__import__

        def missing(name: str, *args: Any, **options: Any) -> Any:
            if name.startswith("pyarrow"):
                raise ImportError("No module named 'pyarrow'")
            return imports(name, *args, **options)

        monkeypatch.setattr(builtins, "__import__", missing)
        self.refused(lambda: open_parquet(tmp_path / "a", "y"), "pip install 'pyarrow", error=ImportError)

    @pytest.mark.parametrize("kind", [*FORMATS, "csv"])
    @pytest.mark.parametrize("vanishes", [False, True])
    def test_a_file_that_changes_or_vanishes_during_the_epoch(self, kind: str, vanishes: bool, tmp_path: Path) -> None:
        if kind == "csv":
            X, y, _ = data()
            np.savetxt(tmp_path / "a.csv", np.column_stack([X, y]), delimiter=",")
            source: BlockSource = open_csv(tmp_path / "a.csv")
        else:
            source = FORMATS[kind](tmp_path, 1)
        victim = next(path for path in sorted(tmp_path.iterdir()) if path.name[0] in "Xpa")

        class Meddling(fcnn.Callback):
            def on_epoch_end(self, trainer: Any, record: Any) -> None:
                if vanishes:
                    victim.unlink()
                else:
                    victim.write_bytes(victim.read_bytes() + b"\n")

        t = trainer(Ops())
        error: type[Exception] = StorageError if vanishes else DataFileError
        with pytest.raises(error) as caught:
            run(t, source, epochs=3, callbacks=[Meddling()])
        assert str(victim) in str(caught.value)
        assert ("is gone" if vanishes else "has changed since") in str(caught.value)
        assert len(t.history) == 1
        assert t.history.stopped_by == "error"
        assert all(np.isfinite(array).all() for array in t.model.named_arrays().values())

    def test_labels_out_of_range_name_the_file_and_the_row(self, tmp_path: Path) -> None:
        X, y, _ = data()
        y[77] = 3
        np.savez(tmp_path / "0.npz", X=X[:50], y=y[:50])
        np.savez(tmp_path / "1.npz", X=X[50:], y=y[50:])
        source = open_npz(tmp_path / "?.npz")
        self.refused(lambda: self.trains(source), str(tmp_path / "1.npz"), ", row 27", "got 3", error=ValueError)
        X[60, 1] = np.inf
        y[77] = 0
        np.savez(tmp_path / "1.npz", X=X[50:], y=y[50:])
        source = open_npz(tmp_path / "?.npz")
        self.refused(lambda: self.trains(source), f"{tmp_path / '1.npz'}, row 10, column 1", "inf", error=ValueError)

    def test_a_single_image_archive_is_opened_over_and_over(self, tmp_path: Path) -> None:
        """No file stays open between blocks, however many shards there are."""
        X, y, _ = data()
        for i, part in enumerate(parts(30)):
            np.savez(tmp_path / f"{i:02}.npz", X=X[part], y=y[part])
        source = open_npz(tmp_path / "*.npz")
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        self.trains(source)
        after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        assert after == before
