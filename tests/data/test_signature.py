"""What a network remembers of its training data: columns by name, classes by name, bytes and pixels."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._arrays import column_names
from fcnn_gpu.datasets import BlockSource, open_arrays, open_csv, open_npy, open_parquet

NAMES = ("a", "b", "c", "d")
TABLES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "polars": lambda frame: pl.DataFrame({name: frame[name].to_numpy() for name in frame}),
    "arrow": lambda frame: pa.table({name: frame[name].to_numpy() for name in frame}),
}


def frame(n: int = 20, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).standard_normal((n, len(NAMES))).astype("float32"), columns=NAMES)


def target(table: pd.DataFrame) -> Any:
    return (3 * table["a"] - table["b"] + 0.01 * table["c"]).to_numpy()


def trainer(n_in: int = len(NAMES), n_out: int = 1, loss: str = "mse", **options: Any) -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(n_out)], n_in=n_in, seed=0, backend="numpy", **options)
    return fcnn.Trainer(model, loss=loss, optimizer=fcnn.Adam(0.05))


def fitted(X: Any, y: Any, epochs: int = 30, **options: Any) -> fcnn.Trainer:
    t = trainer()
    t.fit(X, y, epochs=epochs, batch_size=5, progress=False, **options)
    return t


class TestColumns:
    @pytest.mark.parametrize("kind", TABLES)
    def test_a_table_in_any_order(self, kind: str) -> None:
        X = frame()
        t = fitted(TABLES[kind](X), target(X))
        assert t.model.signature.feature_names == NAMES
        shuffled = TABLES[kind](X[["c", "a", "d", "b"]])
        expected = t.model(X.to_numpy())
        for outputs in (t.model(shuffled), t.predict(shuffled), t.model.forward(shuffled)):
            np.testing.assert_array_equal(outputs, expected)
        assert t.evaluate(shuffled, target(X)) == t.evaluate(X, target(X))

    def test_every_entry_trains_and_validates_alike(self) -> None:
        X, held_out = frame(), frame(7, seed=1)
        expected = fitted(X, target(X), validation_data=(held_out, target(held_out)))
        backwards = held_out[list(NAMES[::-1])]
        t = trainer()
        t.fit(X, target(X), epochs=20, batch_size=5, progress=False, validation_data=(backwards, target(held_out)))
        t.fit(  # going on: the network knows the names by now
            X[list(NAMES[::-1])],
            target(X),
            epochs=10,
            batch_size=5,
            progress=False,
            validation_data=(backwards, target(held_out)),
        )
        np.testing.assert_array_equal(t.model.flat.values, expected.model.flat.values)
        assert t.history["val_loss"][-1] == expected.history["val_loss"][-1]

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (["a", "b", "c"], "lacks 'd'. Its features: 'a', 'b', 'c', 'd'. Select them"),
            ([*NAMES, "e"], "has 'e', which the model does not know"),
            (["a", "b", "c", "e"], "lacks 'd' and has 'e'"),
        ],
    )
    def test_other_columns_are_refused_and_nothing_changes(self, columns: list[str], message: str) -> None:
        X = frame()
        t = fitted(X, target(X))
        before, history = t.model.snapshot(), t.history
        other = pd.DataFrame(np.ones((5, len(columns)), "float32"), columns=columns)
        calls: list[Callable[[], Any]] = [
            lambda: t.model(other),
            lambda: t.predict(other),
            lambda: t.model.predict_classes(other),
            lambda: t.model.forward(other),
            lambda: t.evaluate(other, np.ones(5)),
            lambda: t.fit(other, np.ones(5), progress=False),
            lambda: t.fit(X, target(X), validation_data=(other, np.ones(5)), progress=False),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=message):
                call()
        assert t.history is history
        for name, array in t.model.snapshot().items():
            np.testing.assert_array_equal(array, before[name])

    def test_what_has_no_names(self) -> None:
        X = frame().to_numpy()
        for nameless in (X, X.tolist(), pd.DataFrame(X), np.asfortranarray(X)):
            assert column_names(nameless, "fit") is None
        t = fitted(pd.DataFrame(X), target(frame()))
        assert t.model.signature.feature_names is None
        t.fit(frame(), target(frame()), epochs=1, progress=False)  # names that come later are those of the columns
        assert t.model.signature.feature_names == NAMES

    def test_half_named_and_twice_named_columns(self) -> None:
        X = frame()
        X.columns = pd.Index(["a", "b", 3, "d"])
        with pytest.raises(TypeError, match=r"named by text and others not \(3\)"):
            trainer().fit(X, np.ones(20), progress=False)
        X.columns = pd.Index(["a", "b", "a", "d"])
        with pytest.raises(ValueError, match="two columns 'a'"):
            trainer().fit(X, np.ones(20), progress=False)

    @given(st.permutations(NAMES), st.permutations(NAMES))
    def test_any_order_against_any_other(self, first: list[str], second: list[str]) -> None:
        X = frame(6)
        model = trainer().model
        model.signature = fcnn.Signature(first)
        np.testing.assert_array_equal(model(X[second]), model(X[first].to_numpy()))


class TestWhereItGoes:
    def test_saved_copied_pickled(self, tmp_path: Path) -> None:
        signature = fcnn.Signature(NAMES, ["no", 2, True], ["u", "v", "w"], 1 / 255, (0.0, 1.0))
        model = trainer(n_out=3).model
        model.signature = signature
        model.save(tmp_path / "m.safetensors")
        for other in (
            fcnn.load(tmp_path / "m.safetensors", backend="numpy"),
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
        ):
            assert other.signature == signature

    def test_a_folder_keeps_it(self, tmp_path: Path) -> None:
        X = frame()
        layers = [fcnn.Dense(1, placement="disk")]
        model = fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy", storage=tmp_path / "net")
        t = fcnn.Trainer(model, loss="mse", optimizer="sgd")
        t.fit(X, target(X), epochs=1, batch_size=5, progress=False)
        outputs = t.model(X)
        t.model.close()
        opened = fcnn.load(tmp_path / "net", backend="numpy")
        assert opened.signature.feature_names == NAMES
        np.testing.assert_array_equal(opened(X[["d", "c", "b", "a"]]), outputs)

    @pytest.mark.parametrize(
        ("signature", "error"),
        [
            ({"feature_names": ["a"]}, "names 1 feature, and the network has 4"),
            ({"class_names": ["a", "b", "c"]}, "names 3 classes, and the network has 1"),
            ({"target_names": ["a", "b"]}, "names 2 targets, and the network has 1"),
        ],
    )
    def test_one_that_does_not_fit(self, signature: dict[str, Any], error: str) -> None:
        with pytest.raises(ValueError, match=error):
            trainer().model.signature = fcnn.Signature(**signature)

    def test_a_threshold_is_of_two_classes(self) -> None:
        model = fcnn.Sequential([fcnn.Dense(3)], n_in=4, seed=0, backend="numpy")
        with pytest.raises(ValueError, match="a threshold of two classes, and the network has 3 outputs"):
            model.signature = fcnn.Signature(threshold=0.2)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"feature_names": "abcd"}, TypeError, "expects a list, got 'abcd'"),
            ({"feature_names": ["a", 1]}, TypeError, r"does not take 1 \(int\)"),
            ({"class_names": ["a", None]}, TypeError, "does not take None"),
            ({"class_names": []}, ValueError, "is empty"),
            ({"feature_names": ["a", "a"]}, ValueError, "names something twice"),
            ({"class_names": ["1", 1]}, ValueError, "names something twice"),
            ({"class_names": ["a", float("inf")]}, ValueError, "does not take inf"),
            ({"byte_scale": 0}, ValueError, "a number above 0"),
            ({"byte_scale": True}, ValueError, "a number above 0"),
            ({"input_range": (False, 1)}, ValueError, "smallest, largest"),
            ({"input_range": (0, float("nan"))}, ValueError, "smallest, largest"),
            ({"threshold": 1.0}, ValueError, r"Signature\(threshold\) expects a number between 0 and 1, got 1.0"),
            ({"threshold": True}, ValueError, "between 0 and 1"),
            ({"threshold": float("nan")}, ValueError, "between 0 and 1"),
        ],
    )
    def test_bad_ones(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            fcnn.Signature(**options)
        with pytest.raises(TypeError, match="is a Signature, got dict"):
            trainer().model.signature = options  # type: ignore[assignment]


def csv_file(path: Path, header: str, rows: Any) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


class TestSources:
    def open(self, kind: str, folder: Path, columns: list[str]) -> tuple[BlockSource, Any]:
        X = frame(40)
        table = X.assign(price=target(X))[[*columns, "price"]]
        if kind == "csv":
            table.to_csv(folder / f"{''.join(columns)}.csv", index=False)
            return open_csv(folder / f"{''.join(columns)}.csv", target="price"), X
        table.to_parquet(folder / f"{''.join(columns)}.parquet", index=False, row_group_size=16)
        return open_parquet(folder / f"{''.join(columns)}.parquet", target="price"), X

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_columns_in_another_order(self, kind: str, tmp_path: Path) -> None:
        (source, X), (shuffled, _) = (self.open(kind, tmp_path, order) for order in (list(NAMES), ["d", "b", "a", "c"]))
        t = trainer()
        history = t.fit(source, epochs=20, batch_size=8, progress=False, validation_data=shuffled)
        assert history["val_loss"][-1] == pytest.approx(t.evaluate(source)["loss"], rel=1e-5)
        np.testing.assert_array_equal(t.predict(shuffled), t.predict(source))
        np.testing.assert_array_equal(t.predict(X), t.predict(source))
        other, _ = self.open(kind, tmp_path, ["a", "b", "c"])
        for call in (lambda: t.predict(other), lambda: t.evaluate(other)):
            with pytest.raises(ValueError, match="lacks 'd'"):
                call()

    @pytest.mark.parametrize("kind", TABLES)
    def test_a_table_keeps_its_names_in_a_source(self, kind: str, tmp_path: Path) -> None:
        X = frame()
        y = pd.DataFrame({"u": target(X), "v": -target(X)})
        t = trainer(n_out=2)
        t.fit(X, y, epochs=5, batch_size=5, progress=False)
        expected = t.evaluate(X, y)
        shuffled, swapped = (TABLES[kind](table) for table in (X[["c", "a", "d", "b"]], y[["v", "u"]]))
        np.save(tmp_path / "X.npy", np.ascontiguousarray(X))
        whole, of_file = open_arrays(shuffled, swapped, block_size=6), open_npy(tmp_path / "X.npy", swapped)
        for data in ((whole, None), (of_file, None), (open_arrays(shuffled), swapped)):
            assert t.evaluate(*data)["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert (whole.feature_names, whole.target_names) == (("c", "a", "d", "b"), ("v", "u"))
        np.testing.assert_array_equal(t.predict(whole), t.predict(X))

    def test_fixed_size_lists_have_a_name_per_number(self, tmp_path: Path) -> None:
        pq = pytest.importorskip("pyarrow.parquet")
        values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12, dtype="float32")), 3)
        pq.write_table(pa.table({"x": values, "z": np.ones(4, "float32"), "y": np.ones(4)}), tmp_path / "a.parquet")
        source = open_parquet(tmp_path / "a.parquet", target="y")
        assert source.feature_names == ("x[0]", "x[1]", "x[2]", "z")

    def test_targets_in_another_order(self, tmp_path: Path) -> None:
        X = frame(40)
        y = pd.DataFrame({"u": target(X), "v": -target(X)})
        pd.concat([X, y], axis=1).to_parquet(tmp_path / "a.parquet", index=False)
        swapped = open_parquet(tmp_path / "a.parquet", target=["v", "u"])
        for data, held_out in (
            ((X, y), (X, y[["v", "u"]])),
            ((open_parquet(tmp_path / "a.parquet", target=["u", "v"]), None), swapped),
        ):
            t = trainer(n_out=2)
            history = t.fit(*data, epochs=20, batch_size=8, progress=False, validation_data=held_out)
            assert t.model.signature.target_names == ("u", "v")
            expected = t.evaluate(X.to_numpy(), y.to_numpy())["loss"]
            assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-5)
            assert t.evaluate(swapped)["loss"] == pytest.approx(expected, rel=1e-5)
            with pytest.raises(ValueError, match=r"y lacks 'v' and has 'w', .* Its targets: 'u', 'v'. Select"):
                t.evaluate(X, y.rename(columns={"v": "w"}))

    def test_classes_numbered_in_another_way(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        kinds = np.array(["cat", "dog", "emu"])
        y = rng.integers(3, size=60)
        rows = [[*(3 * np.eye(3)[k] + 0.1 * rng.standard_normal(3)), kinds[k]] for k in y]
        train = csv_file(tmp_path / "train.csv", "a,b,c,kind", rows)
        late = csv_file(tmp_path / "late.csv", "a,b,c,kind", [row for row in rows if row[3] != "cat"])
        strange = csv_file(tmp_path / "strange.csv", "a,b,c,kind", [[1, 1, 1, "cat"], [1, 1, 1, "fox"]])
        model = fcnn.Sequential([fcnn.Dense(3)], n_in=3, seed=0, backend="numpy")
        t = fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.1), metrics=["accuracy"])
        history = t.fit(open_csv(train), epochs=20, batch_size=10, progress=False, validation_data=open_csv(late))
        assert model.signature.class_names == ("cat", "dog", "emu")
        assert history["val_accuracy"][-1] == t.evaluate(open_csv(late))["accuracy"] == 1.0
        t.fit(open_csv(late), epochs=1, progress=False)  # going on with some of the classes
        assert t.evaluate(open_csv(train))["accuracy"] == 1.0
        for call in (
            lambda: t.evaluate(open_csv(strange)),
            lambda: t.fit(open_csv(train), validation_data=open_csv(strange), progress=False),
        ):
            with pytest.raises(ValueError, match=r"strange.csv has the class 'fox', .* Its classes: cat, dog, emu"):
                call()

    @pytest.mark.parametrize("label", [-1, 2, 0.5, np.nan])
    def test_a_label_that_is_none_of_the_classes_of_its_source(self, label: float) -> None:
        model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
        model.signature = fcnn.Signature(class_names=["cat", "dog", "emu"])
        source = open_arrays(np.ones((6, 2), "float32"), np.array([0, 1, 0, 1, label, 1]), block_size=3)
        source.class_names = ("emu", "dog")
        with pytest.raises(ValueError, match=f"the label {label} at row 4 is none of the data set's 2 classes"):
            fcnn.Trainer(model).evaluate(source)

    def test_a_source_with_wrong_names_is_refused_before_anything_changes(self) -> None:
        source = open_arrays(np.ones((4, 3), "float32"), np.ones(4))
        source.feature_names = ("a", "b")
        t = trainer(n_in=3)
        with pytest.raises(ValueError, match="names 2 features, and the network has 3"):
            t.fit(source, progress=False)
        assert len(t.history) == 0
        assert t.model.signature == fcnn.Signature()


class TestBytes:
    X = np.random.default_rng(0).integers(0, 256, (30, 9), dtype=np.uint8)
    y = np.arange(30) % 3

    def fitted(self, X: Any, **options: Any) -> fcnn.Sequential:
        t = trainer(9, 3, "cross_entropy", **options)
        t.fit(X, self.y, epochs=1, progress=False)
        return t.model

    def test_what_is_noted(self) -> None:
        ends = (float(self.X.min()), float(self.X.max()))
        assert self.fitted(self.X).signature == fcnn.Signature(byte_scale=1.0, input_range=ends)
        assert self.fitted(self.X / np.float32(255)).signature.input_range == (0.0, 1.0)
        assert self.fitted(self.X.astype(float)).signature.input_range == ends

    @pytest.mark.parametrize("source", [False, True])
    def test_another_scale_than_in_training_is_refused(self, source: bool, tmp_path: Path) -> None:
        def given_as(X: Any) -> Any:
            np.save(tmp_path / "X.npy", X)
            return open_npy(tmp_path / "X.npy") if source else X

        pixels = self.X / np.float32(255)
        of_bytes, of_pixels = self.fitted(self.X, input_scale=1 / 255), self.fitted(pixels)
        np.testing.assert_allclose(of_bytes(given_as(self.X)), of_pixels(given_as(pixels)), rtol=1e-5, atol=1e-6)
        with pytest.raises(
            ValueError, match=r"trained on bytes \(0 to 255\) as they are, and X holds fractions from 0"
        ):
            of_bytes(given_as(pixels))
        with pytest.raises(
            ValueError, match=r"trained on numbers from 0 to 1, and X holds bytes up to 255. Scale them"
        ):
            of_pixels(given_as(self.X))
        for dtype in ("int64", "float32"):
            if not source:
                with pytest.raises(ValueError, match=r"and X holds whole numbers up to 255: bytes, .* X·1/255"):
                    of_pixels(self.X.astype(dtype))
        of_pixels.signature = fcnn.Signature()
        assert of_pixels(given_as(self.X)).shape == (30, 3)

    @pytest.mark.parametrize("dtype", [np.int64, np.float32])
    def test_bytes_in_another_dtype_from_a_source(self, dtype: Any) -> None:
        of_pixels = self.fitted(self.X / np.float32(255))
        for call in (of_pixels, of_pixels.predict):
            with pytest.raises(ValueError, match="X holds whole numbers up to 255: bytes, it seems"):
                call(open_arrays(self.X.astype(dtype)))
        before = of_pixels.snapshot()
        t = fcnn.Trainer(of_pixels, "cross_entropy")
        with pytest.raises(ValueError, match="bytes, it seems"):
            t.fit(open_arrays(self.X.astype(dtype), self.y), epochs=1, progress=False)
        np.testing.assert_array_equal(of_pixels.snapshot()["0.W"], before["0.W"])

    def test_numbers_that_may_well_be_meant(self) -> None:
        of_bytes = self.fitted(self.X)
        of_floats = self.fitted(self.X.astype("float32"))
        np.testing.assert_array_equal(of_bytes(self.X), of_floats(self.X))
        np.testing.assert_array_equal(of_bytes(self.X.astype(float)), of_floats(self.X))
        zeros_and_ones = self.X > 127
        of_ones = self.fitted(zeros_and_ones.astype("float32"))
        np.testing.assert_array_equal(of_ones(zeros_and_ones), of_ones(zeros_and_ones.astype(np.uint8)))
        shares = np.random.default_rng(0).random((5, 9), "float32")  # mixtures of categories, for example
        np.testing.assert_array_equal(self.fitted(zeros_and_ones.astype(np.uint8))(shares), of_ones(shares))

    @pytest.mark.parametrize(
        ("signature", "bytes_up_to", "expected"),
        [
            (fcnn.Signature(byte_scale=1.0), 255, 1.0),
            (fcnn.Signature(byte_scale=1 / 16), 16, 1 / 16),
            (fcnn.Signature(), 255, 1 / 255),
            (fcnn.Signature(input_range=(0.0, 1.0)), 255, 1 / 255),
            (fcnn.Signature(input_range=(0.0, 0.9)), 0, 1 / 255),
            (fcnn.Signature(input_range=(0.0, 250.0)), 255, 1.0),
            (fcnn.Signature(input_range=(0.0, 1.0)), 1, None),
            (fcnn.Signature(input_range=(-0.4, 2.8)), 255, None),
            (fcnn.Signature(input_range=(0.0, 4095.0)), 255, None),
        ],
    )
    def test_bytes_of_a_file(self, signature: fcnn.Signature, bytes_up_to: int, expected: float | None) -> None:
        X = np.full((2, 2), bytes_up_to, np.uint8)
        if expected is not None:
            assert signature.scale_of_bytes(X, "images.idx") == expected
            return
        with pytest.raises(ValueError, match=r"images.idx holds bytes up to .* nothing says how"):
            signature.scale_of_bytes(X, "images.idx")
