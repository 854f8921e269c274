"""The command line on files of one's own: training, evaluating, predicting, and scaling folded into the weights."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.cli._data import column
from fcnn_gpu.model._standardize import Standardization, fold_features, fold_targets
from tests.support.cli_cases import QUICK, Command, assert_mistake, iris_like, linear


class TestOwnData:
    def test_classes_by_name(self, command: Command, tmp_path: Path) -> None:
        file = iris_like(tmp_path / "trees.csv")
        code, out, _ = command("train", "--data", file, "--layers", "16", "--epochs", 100, "--out", tmp_path / "run")
        assert code == 0
        assert "trees.csv: 120 training and 30 test samples of 2 features, 3 classes" in out
        assert re.search(r"^ +always +constant +– +always 7 *$", out, re.M)
        assert "birch" in out
        model = tmp_path / "run" / "model.safetensors"
        accuracy = re.search(r"^Test .*(accuracy \S+)$", out, re.M)
        assert accuracy is not None
        assert float(accuracy[1].split()[1]) > 0.9

        # the same test part again, by the column and the share that training used
        code, again, _ = command("evaluate", model, "--data", file)
        assert code == 0
        assert accuracy[1] in again
        code, everything, _ = command("evaluate", model, "--data", file, "--part", "all")
        assert "All (150 samples)" in everything

        code, predicted, err = command("predict", model, file, "--proba")
        assert (code, err) == (0, "")
        rows = list(csv.reader(predicted.splitlines()))
        assert rows[0] == ["label", "p(ash)", "p(birch)", "p(cedar)"]
        with open(file, encoding="utf-8") as stream:
            truth = [row["species"] for row in csv.DictReader(stream)]
        assert np.mean([row[0] == label for row, label in zip(rows[1:], truth, strict=True)]) > 0.9
        assert sum(map(float, rows[1][1:])) == pytest.approx(1.0, abs=1e-5)

    def test_a_file_with_few_of_the_classes(self, command: Command, tmp_path: Path) -> None:
        file = iris_like(tmp_path / "trees.csv")
        command("train", "--data", file, *QUICK, "--out", tmp_path / "run")
        lines = file.read_text(encoding="utf-8").splitlines()
        cedars = tmp_path / "cedars.csv"
        cedars.write_text("\n".join([lines[0], *(line for line in lines if "cedar" in line)]), encoding="utf-8")
        code, out, _ = command(
            "evaluate", tmp_path / "run" / "model.safetensors", "--data", cedars, "--part", "all", "--json"
        )
        assert code == 0
        support = {row["name"]: row["support"] for row in json.loads(out)["classes"]}
        assert support["ash"] == 0
        assert support["cedar"] > 0

    def test_regression(self, command: Command, tmp_path: Path) -> None:
        file = linear(tmp_path / "prices.csv")
        code, out, _ = command(
            "train", "--data", file, "--layers", "none", "--lr", 0.05, "--epochs", 60, "--out", tmp_path / "run"
        )
        assert code == 0
        assert "Standardized: the targets" in out
        found = re.search(r"^Test \(40 samples\):  loss (\S+)  r2 (\S+)  mae (\S+)  rmse (\S+)$", out, re.M)
        assert found is not None
        loss, r2, _, rmse = map(float, found.groups())
        assert r2 > 0.999
        digits = float(np.spacing(np.float32(1e6)))  # of prices, as the network gives them
        assert rmse == pytest.approx(np.sqrt(loss), rel=3e-3, abs=digits)  # in the target's own unit
        code, predicted, _ = command("predict", tmp_path / "run" / "model.safetensors", file, "--drop", "price")
        assert code == 0
        table = np.loadtxt(file, delimiter=",", skiprows=1)
        values = np.array([float(value) for value in predicted.splitlines()[1:]])
        assert predicted.splitlines()[0] == "prediction"
        assert np.corrcoef(values, table[:, 2])[0, 1] > 0.999
        assert values.mean() == pytest.approx(table[:, 2].mean(), rel=0.01)

    def test_several_targets(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(2)
        X = rng.standard_normal((80, 3))
        np.savez(tmp_path / "two.npz", X=X, y=X[:, :2] * [1, 100] + [0, 1e4])
        code, _, _ = command(
            "train", "--data", "two.npz", "--layers", "", "--lr", 0.05, "--epochs", 60, "--out", "run", "--no-progress"
        )
        assert code == 0
        code, out, _ = command("evaluate", "run/model.safetensors", "--data", "two.npz", "--json")
        assert json.loads(out)["r2"] > 0.99
        np.save(tmp_path / "new.npy", X[:2])
        code, out, _ = command("predict", "run/model.safetensors", "new.npy", "--out", "answers.csv")
        assert (code, out) == (0, "")
        lines = (tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()
        assert lines[0] == "prediction_0,prediction_1"
        assert len(lines) == 3

    def test_several_labels(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        X = rng.standard_normal((200, 4))
        y = (X[:, :3] > 0).astype(np.int64)
        np.savez(tmp_path / "labels.npz", X=X, y=y)
        code, out, _ = command("train", "--data", "labels.npz", "--layers", "32", "--epochs", 150, "--out", "run")
        assert code == 0
        assert "3 labels, several per sample" in out
        assert re.search(r"accuracy 0\.[89]\d+  f1 0\.9\d+", out)
        assert "confusion_matrix.png" not in out
        np.save(tmp_path / "new.npy", X[:20])
        _, out, _ = command("predict", "run/model.safetensors", "new.npy")
        rows = [[int(cell) for cell in line.split(",")] for line in out.splitlines()[1:]]
        assert out.splitlines()[0] == "0,1,2"
        assert np.mean(np.array(rows) == y[:20]) > 0.9
        _, out, _ = command("predict", "run/model.safetensors", "new.npy", "--proba")
        assert out.splitlines()[0] == "p(0),p(1),p(2)"
        one = y.sum(axis=1) == 1
        np.savez(tmp_path / "one.npz", X=X[one], y=y[one])
        code, out, _ = command("evaluate", "run/model.safetensors", "--data", "one.npz", "--part", "all")
        assert code == 0
        assert "f1" in out

    def test_target_given_by_number(self) -> None:
        assert column("2") == 2
        assert column("-1") == -1
        assert column("²") == "²"

    def test_very_many_classes_show_the_worst(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(5)
        y = np.tile(np.arange(60), 6)
        np.savez(tmp_path / "many.npz", X=rng.standard_normal((360, 3)), y=y)
        _, out, _ = command("train", "--data", "many.npz", "--layers", "8", "--epochs", 1)
        assert "15 classes with the lowest F1" in out


class TestModelsFromPython:
    """Models saved from Python have no `info`: their link says what they do."""

    def test_classifier(self, command: Command, tmp_path: Path) -> None:
        model = fcnn.Sequential([fcnn.Dense(10)], n_in=64, seed=0, backend="numpy")
        fcnn.Trainer(model)
        model.save(tmp_path / "m.safetensors")
        code, out, _ = command("evaluate", "m.safetensors", "--data", "digits")
        assert code == 0
        assert "accuracy" in out
        assert_mistake(command("evaluate", "m.safetensors"), "--data FILE. It does not say what it was trained on")

    def test_one_output(self, command: Command, tmp_path: Path) -> None:
        model = fcnn.Sequential([fcnn.Dense(1)], n_in=3, seed=0, backend="numpy")
        fcnn.Trainer(model, loss="binary_cross_entropy")
        model.save(tmp_path / "m.safetensors")
        X = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
        np.savez(tmp_path / "d.npz", X=X, y=np.arange(30) % 2)
        assert command("evaluate", "m.safetensors", "--data", "d.npz", "--part", "all")[0] == 0
        code, out, _ = command("predict", "m.safetensors", "d.npz", "--proba")
        assert code == 0
        rows = [line.split(",") for line in out.splitlines()]
        assert rows[0] == ["label", "p(0)", "p(1)"]
        np.testing.assert_array_equal([int(row[0]) for row in rows[1:]], model.predict_classes(X))

    def test_a_model_without_a_loss(self, command: Command, tmp_path: Path) -> None:
        fcnn.Sequential([fcnn.Dense(10)], n_in=64, seed=0, backend="numpy").save(tmp_path / "m.safetensors")
        assert_mistake(command("evaluate", "m.safetensors", "--data", "digits"), "saved before it had a loss")

    @pytest.mark.parametrize(
        "info",
        [
            {"class_names": [str(i) for i in range(11)]},
            {"class_names": 5, "feature_names": "abc"},
            {"loss": 0.25, "multilabel": "no", "data": ["x"], "target": 3.5, "test_fraction": "half"},
        ],
    )
    def test_what_a_program_notes_for_itself_is_its_own(
        self, command: Command, tmp_path: Path, info: dict[str, Any]
    ) -> None:
        model = fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy")
        fcnn.Trainer(model)
        table = tmp_path / "table.csv"
        table.write_text("a,label\n" + "1,0\n2,1\n" * 5, encoding="utf-8")
        said = []
        for noted in ({}, info):
            model.info = noted
            model.save(tmp_path / "m.safetensors")
            assert fcnn.load(tmp_path / "m.safetensors", backend="numpy").info == noted
            said.append(command("evaluate", "m.safetensors", "--data", table))
            assert said[-1][0] == 0
            assert_mistake(command("evaluate", "m.safetensors"), "Say which data")
        assert said[0] == said[1]

    def test_a_loss_that_is_not_known(self, command: Command, tmp_path: Path) -> None:
        model = fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy")
        fcnn.Trainer(model)
        model.info = {"loss": {"name": "their_own"}}
        model.save(tmp_path / "m.safetensors")
        assert_mistake(command("evaluate", "m.safetensors", "--data", "digits"), "m.safetensors notes a loss")

    @pytest.mark.parametrize("to_file", [False, True])
    def test_any_class_name_comes_back_from_what_is_predicted(
        self, command: Command, tmp_path: Path, to_file: bool
    ) -> None:
        names = ["a\rb", 'say "c"', "d,e", "f\ng", "", "\udc80", "ü"]
        model = fcnn.Sequential([fcnn.Dense(len(names))], n_in=len(names), seed=0, backend="numpy")
        model.named_arrays()["0.W"][:] = np.eye(len(names))
        fcnn.Trainer(model)
        model.signature = fcnn.Signature(class_names=names)
        model.save(tmp_path / "m.safetensors")
        np.save(tmp_path / "X.npy", 9 * np.eye(len(names), dtype=np.float32))
        code, out, _ = command("predict", "m.safetensors", "X.npy", *(("--out", "out.csv") if to_file else ()))
        assert code == 0
        text = (tmp_path / "out.csv").read_bytes().decode() if to_file else out
        rows = list(csv.reader(io.StringIO(text, newline="")))
        written = [row[0] for row in rows[1:]]
        assert [name.replace("\\udc80", "\udc80") for name in written] == names


class TestStandardization:
    def test_folded_network_gives_the_same_outputs(self) -> None:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((50, 4)) * [1e-3, 1.0, 1e4, 0.0] + [5.0, -2.0, 3e4, 7.0]
        y = rng.standard_normal((50, 2)) * [0.1, 500.0] + [3.0, -1e4]
        features, targets = Standardization.of(X), Standardization.of(y)
        standardized = features.apply(X)
        np.testing.assert_allclose(standardized[:, :3].mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(standardized[:, :3].std(axis=0), 1)
        np.testing.assert_array_equal(standardized[:, 3], 0)  # a constant feature

        layers = [fcnn.Dense(6, activation="tanh"), fcnn.Dense(2)]
        model = fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy", dtype="float64")
        for layer in layers:
            layer.b[...] = rng.standard_normal(layer.b.shape)
        before = model(standardized)
        fold_features(model, features)
        np.testing.assert_allclose(model(X), before, rtol=1e-10)
        fold_targets(model, targets)
        np.testing.assert_allclose(model(X), before * targets.scale + targets.mean, rtol=1e-10)
        np.testing.assert_allclose(targets.apply(model(X)), before, rtol=1e-8)

    def test_the_saved_model_is_the_trained_one(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What `train` saves gives on raw data what the network in training gave on standardized data."""
        seen: list[Any] = []
        original = fcnn.Trainer.fit

        def fit(self: fcnn.Trainer, X: Any, y: Any, **options: Any) -> Any:
            history = original(self, X, y, **options)
            seen.extend([X, self.model(X)])
            return history

        monkeypatch.setattr(fcnn.Trainer, "fit", fit)
        table = fcnn.datasets.load(iris_like(tmp_path / "trees.csv"), test_fraction=0)
        file = tmp_path / "trees.npz"
        np.savez(file, X=table.X_train, y=table.y_train)
        command("train", "--data", file, *QUICK, "--batch-norm", "--out", tmp_path / "run")
        model = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
        raw = fcnn.datasets.load(file).X_train
        assert np.abs(seen[0].mean(axis=0)).max() < 1e-4  # it did train on standardized features
        np.testing.assert_allclose(model(raw), seen[1], rtol=1e-3, atol=1e-3)

    def test_validation_samples_do_not_enter_mean_and_spread(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shapes: list[int] = []
        original = Standardization.of

        def of(values: Any) -> Standardization:
            shapes.append(len(values))
            return original(values)

        monkeypatch.setattr(Standardization, "of", of)
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "trees.npz", X=rng.normal(size=(150, 3)), y=rng.integers(0, 3, 150))
        command("train", "--data", "trees.npz", *QUICK, "--validation-split", 0.25)
        [n_samples] = shapes
        assert 88 <= n_samples <= 92  # of 150: 30 for the test, and a quarter of the rest for validation

    @pytest.mark.parametrize(
        ("arguments", "standardized"),
        [
            (["--data", "digits"], False),
            (["--data", "digits", "--standardize"], True),
            (["--data", "numbers.npz"], True),
            (["--data", "numbers.npz", "--no-standardize"], False),
            (["--data", "trees.csv"], False),  # whose preparation does that
        ],
    )
    def test_what_is_standardized(
        self, command: Command, tmp_path: Path, arguments: Sequence[str], standardized: bool
    ) -> None:
        iris_like(tmp_path / "trees.csv")
        np.savez(tmp_path / "numbers.npz", X=np.random.default_rng(0).normal(size=(60, 3)), y=np.arange(60) % 2)
        _, out, _ = command("train", *arguments, *QUICK)
        assert ("Standardized: " in out) == standardized

    @pytest.mark.parametrize(
        ("layers", "fault"),
        [
            ([fcnn.Dropout(0.2), fcnn.Dense(3)], r"first layer that is Dense with a bias; .* Dropout\(0\.2\)"),
            ([fcnn.Dense(3, bias=False)], "Dense with a bias"),
        ],
    )
    def test_refusals_of_features(self, layers: list[Any], fault: str) -> None:
        model = fcnn.Sequential(layers, n_in=2, seed=0, backend="numpy")
        before = np.array(model.flat.values)
        with pytest.raises(ValueError, match=fault):
            fold_features(model, Standardization(np.zeros(2), np.ones(2)))
        np.testing.assert_array_equal(model.flat.values, before)

    def test_refusal_of_targets_behind_an_activation(self) -> None:
        model = fcnn.Sequential([fcnn.Dense(1, activation="relu")], n_in=2, seed=0, backend="numpy")
        with pytest.raises(ValueError, match="linear last layer"):
            fold_targets(model, Standardization(np.zeros(1), np.ones(1)))
