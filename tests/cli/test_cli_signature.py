"""The command line matches columns by name, and gives bytes the scale that a model was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.datasets import write_idx
from tests.support.cli_cases import Command, assert_mistake


def numbers(out: str) -> list[float]:
    return [float(line) for line in out.splitlines()[1:]]


class TestColumns:
    @pytest.fixture
    def model(self, command: Command, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"a": rng.uniform(0, 2, 200), "b": rng.uniform(0, 100, 200)})
        table["price"] = 3 * table["a"] + 0.01 * table["b"]
        table.to_csv(tmp_path / "train.csv", index=False)
        options = ("--layers", "none", "--epochs", 100, "--dropout", 0, "--out", tmp_path / "run", "--no-progress")
        assert command("train", "--data", tmp_path / "train.csv", *options)[0] == 0
        return tmp_path / "run" / "model.safetensors"

    def file(self, folder: Path, text: str) -> Path:
        (folder / "new.csv").write_text(text, encoding="utf-8")
        return folder / "new.csv"

    def test_predict_takes_them_by_name(self, command: Command, model: Path, tmp_path: Path) -> None:
        for text in ("a,b\n1,50\n", "b,a\n50,1\n", '"b";"a"\n50;1\n', "1,50\n"):
            code, out, _ = command("predict", model, self.file(tmp_path, text))
            assert code == 0
            assert numbers(out) == pytest.approx([3.5], abs=0.1)

    def test_predict_refuses_others(self, command: Command, model: Path, tmp_path: Path) -> None:
        output = command("predict", model, self.file(tmp_path, "x,a\n1,50\n"))
        assert_mistake(output, r"new\.csv lacks 'b'\. Known names: a, x\.$")
        extra = self.file(tmp_path, "price,id,b,a\n0,7,50,1\n")
        code, out, _ = command("predict", model, extra)
        assert code == 0
        assert numbers(out) == pytest.approx([3.5], abs=0.1)
        code, out, _ = command("predict", model, extra, "--keep", "id", "--keep", "0")
        assert out.splitlines()[0] == "id,price,prediction"
        assert out.splitlines()[1].startswith("7,0,3.")
        assert_mistake(command("predict", model, extra, "--keep", "ID"), "no column to keep 'ID'. Did you mean 'id'")

    def test_evaluate(self, command: Command, model: Path, tmp_path: Path) -> None:
        table = pd.read_csv(tmp_path / "train.csv")
        results = []
        for columns in (["a", "b", "price"], ["price", "b", "a"]):  # the target, too, is known by its name
            table[columns].to_csv(tmp_path / "new.csv", index=False)
            code, out, _ = command("evaluate", model, "--data", tmp_path / "new.csv", "--part", "all", "--json")
            assert code == 0
            results.append(json.loads(out)["r2"])
        assert results[0] == results[1] > 0.95
        table.assign(id=1).to_csv(tmp_path / "new.csv", index=False)
        evaluate = ("evaluate", model, "--data", tmp_path / "new.csv", "--part", "all")
        code, out, _ = command(*evaluate, "--json")
        assert (code, json.loads(out)["r2"]) == (0, results[0])
        table.rename(columns={"a": "c"}).to_csv(tmp_path / "new.csv", index=False)
        assert_mistake(command(*evaluate), "new.csv lacks 'a'")
        table.rename(columns={"price": "cost"}).to_csv(tmp_path / "new.csv", index=False)
        assert_mistake(command(*evaluate), "has no column 'price', which is predicted")


class TestBytes:
    """8×8 images as bytes: what a model was trained on is what it gets, whatever the file."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        y = np.arange(300) % 3
        X = (80 * np.eye(3, 16)[y] + rng.uniform(0, 60, (300, 16))).astype(np.uint8).reshape(300, 4, 4)
        write_idx(tmp_path / "images.idx", X)
        np.save(tmp_path / "images.npy", X)
        np.save(tmp_path / "y.npy", y)
        return {"X": X.reshape(300, 16), "y": y, "idx": tmp_path / "images.idx", "npy": tmp_path / "images.npy"}

    @pytest.mark.parametrize("trained_on", ["bytes, scaled", "bytes", "floats as bytes", "pixels", "from the command"])
    def test_accuracy(self, trained_on: str, files: dict[str, Any], command: Command, tmp_path: Path) -> None:
        X, y, targets = files["X"], files["y"], tmp_path / "y.npy"
        saved = tmp_path / "model.safetensors"
        if trained_on == "from the command":
            options = ("--epochs", 200, "--layers", "none", "--no-progress", "--out", tmp_path)
            assert command("train", "--data", files["idx"], "--target", targets, *options)[0] == 0
        else:
            scale = 1 / 255 if trained_on == "bytes, scaled" else 1.0
            given = {"floats as bytes": X.astype(float), "pixels": X / np.float32(255)}.get(trained_on, X)
            model = fcnn.Sequential([fcnn.Dense(3)], n_in=16, seed=0, backend="numpy", input_scale=scale)
            rate = 0.01 if given.max() > 1 and scale == 1 else 0.1
            fcnn.Trainer(model, "cross_entropy", fcnn.Adam(rate)).fit(given, y, epochs=150, progress=False)
            assert (model.predict_classes(given) == y).mean() > 0.95
            model.save(saved)
        for kind in ("idx", "npy"):
            code, out, err = command("predict", saved, files[kind])
            assert code == 0, err
            assert np.mean([int(label) == truth for label, truth in zip(out.split()[1:], y, strict=True)]) > 0.95
            data = ("--data", files[kind], "--target", targets, "--part", "all", "--json")
            code, out, err = command("evaluate", saved, *data)
            assert code == 0, err
            assert json.loads(out)["accuracy"] > 0.95

    def test_standardized_inputs_say_nothing_about_bytes(
        self, files: dict[str, Any], command: Command, tmp_path: Path
    ) -> None:
        X = (files["X"] - files["X"].mean()) / files["X"].std()
        model = fcnn.Sequential([fcnn.Dense(3)], n_in=16, seed=0, backend="numpy")
        fcnn.Trainer(model, "cross_entropy").fit(X, files["y"], epochs=1, progress=False)
        model.save(tmp_path / "m.safetensors")
        message = "holds bytes up to 139, and the network was trained on numbers from -.*: nothing says how"
        assert_mistake(command("predict", tmp_path / "m.safetensors", files["idx"]), message)
        targets = ("--data", files["npy"], "--target", tmp_path / "y.npy", "--part", "all")
        assert_mistake(command("evaluate", tmp_path / "m.safetensors", *targets), message)

    def test_a_file_of_another_scale_is_named(self, files: dict[str, Any], command: Command, tmp_path: Path) -> None:
        X, saved = files["X"], tmp_path / "m.safetensors"
        for given, other, message in (
            (X, X / np.float32(255), r"trained on bytes \(0 to 255\) as they are, and X holds fractions.*the bytes\."),
            (X / np.float32(255), X.astype(int), r"X holds whole numbers up to 139: bytes, .* X·1/255\."),
        ):
            model = fcnn.Sequential([fcnn.Dense(3)], n_in=16, seed=0, backend="numpy")
            fcnn.Trainer(model, "cross_entropy").fit(given, files["y"], epochs=1, progress=False)
            model.save(saved)
            np.save(tmp_path / "other.npy", other)
            assert_mistake(command("predict", saved, tmp_path / "other.npy"), rf"other\.npy: .*{message}$")
            targets = ("--data", tmp_path / "other.npy", "--target", tmp_path / "y.npy", "--part", "all")
            assert_mistake(command("evaluate", saved, *targets), rf"other\.npy: .*{message}$")

    def test_parts_of_two_kinds(self, files: dict[str, Any], command: Command, tmp_path: Path) -> None:
        X, y = files["X"], files["y"]
        np.savez(tmp_path / "a.npz", X_train=X, y_train=y, X_test=X / np.float32(255), y_test=y)
        assert_mistake(command("train", "--data", tmp_path / "a.npz"), "training inputs are uint8 and the test inputs")


class TestEstimators:
    @pytest.mark.parametrize("labels", [[1, 2, 3], ["ash", "birch", "cedar"], [True, False]])
    def test_labels_and_features_are_in_the_saved_model(
        self, labels: list[Any], command: Command, tmp_path: Path
    ) -> None:
        rng = np.random.default_rng(0)
        which = np.arange(90) % len(labels)
        X = pd.DataFrame({"a": which + 0.1 * rng.standard_normal(90), "b": rng.standard_normal(90)})
        y = np.array(labels)[which]
        estimator = fcnn.FCNNClassifier((16,), learning_rate=0.02, random_state=0, backend="numpy", epochs=30)
        estimator.fit(X, y)
        estimator.model_.save(tmp_path / "m.safetensors")
        X[["b", "a"]].to_csv(tmp_path / "X.csv", index=False)
        code, out, _ = command("predict", tmp_path / "m.safetensors", tmp_path / "X.csv")
        assert code == 0
        assert out.split()[1:] == [str(label) for label in estimator.predict(X).tolist()]

    @pytest.mark.parametrize("kind", ["regressor", "several labels"])
    def test_names_of_several_targets(self, kind: str, command: Command, tmp_path: Path) -> None:
        X = pd.DataFrame({"a": np.linspace(0, 1, 20), "b": np.ones(20)})
        y = pd.DataFrame({"red": X["a"], "blue": -X["a"]})
        estimator: Any = fcnn.FCNNRegressor((2,), backend="numpy", epochs=1)
        if kind == "several labels":
            estimator, y = fcnn.FCNNClassifier((2,), backend="numpy", epochs=1), (y > 0.5).astype(int)
        estimator.fit(X, y)
        estimator.model_.save(tmp_path / "m.safetensors")
        X.to_csv(tmp_path / "X.csv", index=False)
        code, out, _ = command("predict", tmp_path / "m.safetensors", tmp_path / "X.csv")
        expected = "red,blue" if kind == "several labels" else "prediction_red,prediction_blue"
        assert (code, out.split()[0]) == (0, expected)

    def test_a_pickled_estimator_keeps_them(self) -> None:
        import pickle

        X = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
        estimator = fcnn.FCNNClassifier((2,), backend="numpy", epochs=1).fit(X, [5, 7, 9])
        signature = pickle.loads(pickle.dumps(estimator)).model_.signature
        assert signature == fcnn.Signature(("a", "b"), (5, 7, 9), None, None, (0.0, 2.0))
