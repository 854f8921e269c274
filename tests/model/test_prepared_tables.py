"""Networks that take tables as they are: a preparation in the signature, in the model file, and in every pass."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.files import ModelFile, ModelFileError, read_model, write_model
from fcnn_gpu.tables import Table, TableError, TablePreparation


def houses(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "area": rng.uniform(30, 200, n).round(1),
            "town": rng.choice(["Rome", "Oslo", "Bonn"], n),
            "built": pd.date_range("1980-01-01", periods=n, freq="200D"),
            "garden": rng.choice([True, False], n),
        }
    )
    table.loc[::5, "area"] = np.nan
    return table


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return houses()


def network(table: pd.DataFrame, loss: str, n_out: int, **signature: Any) -> fcnn.Sequential:
    preparation = TablePreparation().fit(table)
    X = preparation.transform(table)
    model = fcnn.Sequential([fcnn.Dense(8, activation="relu"), fcnn.Dense(n_out)], X.shape[1], seed=0, backend="numpy")
    y = np.arange(len(X)) % max(n_out, 2) if loss == "cross_entropy" else np.linspace(0, 1, len(X) * n_out)
    fcnn.Trainer(model, loss).fit(
        X, y if n_out > 1 and loss == "cross_entropy" else y.reshape(len(X), -1), epochs=2, progress=False
    )
    names = preparation.get_feature_names_out().tolist()
    model.signature = fcnn.Signature(names, preparation=preparation, **signature)
    return model


@pytest.fixture
def model(table: pd.DataFrame) -> fcnn.Sequential:
    return network(table, "cross_entropy", 3, class_names=["low", "middle", "high"])


class TestTables:
    def test_every_pass_takes_the_table_as_it_is(self, model: fcnn.Sequential, table: pd.DataFrame) -> None:
        assert model.preparation is not None
        X = model.preparation.transform(table)
        for call in (model, model.predict, model.predict_classes, model.predict_labels):
            np.testing.assert_array_equal(call(table), call(X))
        np.testing.assert_array_equal(model.forward(table), model.forward(X))
        trainer = fcnn.Trainer(model)
        y = np.arange(len(table)) % 3
        assert trainer.evaluate(table, y) == trainer.evaluate(X, y)
        copied = copy.deepcopy(model)
        trainer.fit(table, y, epochs=1, progress=False)
        fcnn.Trainer(copied).fit(X, y, epochs=1, progress=False)
        assert model.preparation is not None
        np.testing.assert_array_equal(model(X), copied(X))

    def test_columns_are_found_by_name(self, model: fcnn.Sequential, table: pd.DataFrame) -> None:
        expected = model.predict(table)
        moved = table[["garden", "built", "town", "area"]].assign(owner="nobody")
        as_dict = {name: table[name].to_numpy() for name in table}
        for other in (
            moved,
            pl.from_pandas(table),
            as_dict,
            Table.of(table),
            moved.convert_dtypes(dtype_backend="pyarrow"),
        ):
            np.testing.assert_array_equal(model.predict(other), expected)

    def test_what_it_cannot_read_is_said_at_once(self, model: fcnn.Sequential, table: pd.DataFrame) -> None:
        with pytest.raises(TableError, match=r"^model\.predict: pandas\.DataFrame lacks 'town', 'area'|'area', 'town'"):
            model.predict(table[["garden", "built"]])
        bad = table.astype({"area": object, "built": object})
        bad.loc[1, "area"], bad.loc[2, "built"] = "large", "long ago"
        with pytest.raises(
            TableError, match=r"(?s)column 'area'.*'large' \(row 1\).*column 'built'.*'long ago' \(row 2\)"
        ):
            model(bad)

    def test_class_names(self, model: fcnn.Sequential, table: pd.DataFrame) -> None:
        labels = model.predict_labels(table)
        assert set(labels) <= {"low", "middle", "high"}
        np.testing.assert_array_equal(labels, np.array(["low", "middle", "high"])[model.predict_classes(table)])
        model.signature = dataclasses.replace(model.signature, class_names=None)
        with pytest.raises(AttributeError, match="its signature names no classes"):
            model.predict_labels(table)
        labels_of_a_sigmoid = network(table, "binary_cross_entropy", 2, class_names=["a", "b"])
        with pytest.raises(AttributeError, match="several labels, or none"):
            labels_of_a_sigmoid.predict_labels(table)

    def test_values_stay_in_the_range_of_training(self, table: pd.DataFrame) -> None:
        model = network(table, "mse", 2, target_range=[(-0.01, 0.01), (-100.0, 100.0)])
        raw, values = model(table), model.predict(table)
        assert np.abs(raw[:, 0]).max() > 0.01, "else the range would change nothing"
        np.testing.assert_array_equal(values[:, 0], np.clip(raw[:, 0], np.float32(-0.01), np.float32(0.01)))
        np.testing.assert_array_equal(values[:, 1], raw[:, 1])
        assert values.dtype == raw.dtype


class TestFiles:
    def test_saved_and_loaded(self, model: fcnn.Sequential, table: pd.DataFrame, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        model.save(path)
        loaded = fcnn.load(path, backend="numpy")
        assert loaded.signature == model.signature
        np.testing.assert_array_equal(loaded.predict(table), model.predict(table))
        assert loaded.preparation is not None
        assert [kind.reason for kind in loaded.preparation.kinds_] == [k.reason for k in model.preparation.kinds_]  # type: ignore[union-attr]
        assert header(path)["format_version"] == "4", "which releases without preparations refuse"

    def test_copies_and_pickles(self, model: fcnn.Sequential, table: pd.DataFrame) -> None:
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert other.signature == model.signature
            np.testing.assert_array_equal(other.predict(table), model.predict(table))

    def test_weights_on_disk(self, table: pd.DataFrame, tmp_path: Path) -> None:
        preparation = TablePreparation().fit(table)
        n_in = preparation.n_outputs_
        layers = [fcnn.Dense(8, placement="disk"), fcnn.Dense(2)]
        model = fcnn.Sequential(layers, n_in, seed=0, backend="numpy", storage=tmp_path / "weights")
        fcnn.Trainer(model).fit(preparation.transform(table), np.arange(len(table)) % 2, epochs=1, progress=False)
        model.signature = fcnn.Signature(preparation=preparation)
        expected = model.predict(table)
        model.close()
        opened = fcnn.load(tmp_path / "weights", backend="numpy")
        np.testing.assert_array_equal(opened.predict(table), expected)
        opened.close()

    @pytest.mark.parametrize(
        "change",
        [
            lambda plain: plain.update(version=2),
            lambda plain: plain.pop("encoders"),
            lambda plain: plain["encoders"].pop(),
            lambda plain: plain["encoders"][0].update(kind="picture"),
            lambda plain: plain["encoders"][0].update(source="elsewhere"),
            lambda plain: plain["encoders"][0].pop("scale"),
            lambda plain: plain.update(dtype="int8"),
        ],
    )
    def test_a_foreign_preparation(self, model: fcnn.Sequential, tmp_path: Path, change: Any) -> None:
        plain = json.loads(json.dumps(model.signature.plain()))
        change(plain["preparation"])
        model.save(tmp_path / "good.safetensors")
        saved = read_model(tmp_path / "good.safetensors")
        write_model(tmp_path / "bad.safetensors", ModelFile(saved.config, saved.tensors, saved.info, plain))
        with pytest.raises(ModelFileError, match="has a signature that does not fit its network"):
            fcnn.load(tmp_path / "bad.safetensors", backend="numpy")


def header(path: Path) -> dict[str, str]:
    with open(path, "rb") as file:
        [length] = struct.unpack("<Q", file.read(8))
        metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
        return metadata


class TestSignatures:
    def test_only_those_that_fit(self, table: pd.DataFrame) -> None:
        preparation = TablePreparation().fit(table)
        model = fcnn.Sequential([fcnn.Dense(2)], 3, seed=0, backend="numpy")
        with pytest.raises(ValueError, match=r"preparation makes \d+ inputs, and the network has 3"):
            model.signature = fcnn.Signature(preparation=preparation)
        with pytest.raises(ValueError, match="has 1 ranges, and the network has 2 outputs"):
            model.signature = fcnn.Signature(target_range=[(0, 1)])

    @pytest.mark.parametrize("ranges", ["ab", 3, [(1,)], [(2, 1)], [(0, float("inf"))], [("a", "b")], [(True, 2)]])
    def test_ranges(self, ranges: Any) -> None:
        with pytest.raises((TypeError, ValueError), match="target_range"):
            fcnn.Signature(target_range=ranges)

    def test_an_unfitted_preparation(self) -> None:
        with pytest.raises(ValueError, match="not fitted"):
            fcnn.Signature(preparation=TablePreparation())

    def test_it_stays_what_it_was(self, model: fcnn.Sequential, table: pd.DataFrame) -> None:
        """Whatever becomes of the transformer that it was made with."""
        preparation = TablePreparation().fit(table)
        model.signature = fcnn.Signature(preparation=preparation)
        expected = model.predict(table)
        preparation.fit(table.assign(area=table["area"] * 1000))
        np.testing.assert_array_equal(model.predict(table), expected)

    def test_it_shows_what_it_has(self, table: pd.DataFrame) -> None:
        signature = fcnn.Signature(preparation=TablePreparation().fit(table), target_range=[(0, 2.5)])
        assert repr(signature) == "Signature(target_range=((0.0, 2.5),), preparation=TablePreparation())"
        assert fcnn.Signature.of(json.loads(json.dumps(signature.plain()))) == signature
