"""The command line: what it prints, writes and answers, and how it takes mistakes."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import fcnn_gpu as fcnn
from fcnn_gpu.cli import app, run
from fcnn_gpu.cli import train as train_module
from fcnn_gpu.cli._data import column
from fcnn_gpu.cli._options import LEARNING_RATES, SCHEDULE_NAMES, TrainOptions
from fcnn_gpu.cli._standardize import Standardization, fold_features, fold_targets

CHECKOUT = Path(__file__).resolve().parents[1]
Output = tuple[int, str, str]
Command = Callable[..., Output]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`fcnn-gpu` on the CPU in an empty folder, in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FCNN_BACKEND", "numpy")

    def call(*arguments: object) -> Output:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def spawn(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """`python -m fcnn_gpu` as a process of its own."""
    environment = os.environ | {"FCNN_BACKEND": "numpy", "PYTHONPATH": str(CHECKOUT), "PYTHONIOENCODING": "utf-8"}
    line = [sys.executable, "-m", "fcnn_gpu", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment, **options)


def assert_mistake(output: Output, message: str, code: int = 2) -> None:
    """One line on standard error that holds `message`, and the exit code."""
    found, _, err = output
    assert err.startswith("fcnn-gpu: error: ")
    assert err.count("\n") == 1, err
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert found == code


def iris_like(path: Path, n: int = 150) -> Path:
    """A CSV file with three named classes and features of very different scales."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "weight", "always", "species"])
        for label in labels:
            x, z = label + 0.1 * rng.standard_normal(), 5000 - 900 * label + 100 * rng.standard_normal()
            writer.writerow([f"{x:.4f}", f"{z:.2f}", "7", ("ash", "birch", "cedar")[label]])
    return path


def linear(path: Path, n: int = 200) -> Path:
    """A CSV file with a regression whose target is a plane, far from 0."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, 2)) * [1.0, 1000.0] + [50.0, -4000.0]
    y = 20_000 * X[:, 0] - 30 * X[:, 1] + 5
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", header="a,b,price", comments="")
    return path


QUICK = ("--layers", "16", "--epochs", "8", "--no-progress")


class TestHelp:
    def test_help_names_the_commands(self) -> None:
        result = CliRunner().invoke(app, ["--help"])
        assert result.exit_code == 0
        for name in ("train", "evaluate", "predict", "doctor"):
            assert name in result.output

    def test_every_option_has_a_help_text(self) -> None:
        group: Any = typer.main.get_command(app)
        assert set(group.commands) >= {"train", "evaluate", "predict", "doctor"}
        for name, subcommand in group.commands.items():
            assert subcommand.help, name
            for parameter in subcommand.params:
                assert parameter.help, f"{name} {parameter.name}"
                assert "[" not in parameter.help, "rich takes brackets for markup and swallows them"

    @pytest.mark.parametrize("name", ["train", "evaluate", "predict", "doctor"])
    def test_help_of_a_command(self, name: str, command: Command) -> None:
        code, out, err = command(name, "--help")
        assert (code, err) == (0, "")
        assert "Usage" in out

    def test_without_arguments_it_prints_the_help(self, command: Command) -> None:
        code, out, _ = command()
        assert code == 0
        assert "doctor" in out

    def test_version(self, command: Command) -> None:
        assert command("--version") == (0, f"fcnn-gpu {fcnn.__version__}\n", "")

    def test_the_help_says_what_the_learning_rates_are(self) -> None:
        assert LEARNING_RATES == {"adam": 0.003, "adamw": 0.003}
        assert {fcnn.optimizers.OPTIMIZERS[n]().learning_rate for n in ("sgd", "rmsprop", "adagrad")} == {0.01}  # type: ignore[call-arg]


class TestTrain:
    def test_report_and_nothing_written(self, command: Command, tmp_path: Path) -> None:
        code, out, err = command("train", "--data", "digits", "--layers", "32", "--epochs", 5)
        assert (code, err) == (0, "")
        assert out.startswith("Backend: CPU (NumPy")
        assert "as FCNN_BACKEND=numpy says" in out.splitlines()[0]
        assert "Data: digits: 1,438 training and 359 test images of 8×8, 10 classes; CC BY 4.0" in out
        assert "32×64" in out  # the summary has the shape of W
        assert len(re.findall(r"^epoch \d/5  loss \d\.\d{4}  accuracy \d\.\d{4}  learning_rate", out, re.M)) == 5
        assert re.search(r"^Trained 5 epochs in \d+\.\d s$", out, re.M)
        assert re.search(r"^Test \(359 samples\):  loss \d\.\d+  accuracy 0\.9\d+$", out, re.M)
        assert all(word in out for word in ("precision", "recall", "F1", "macro mean", "weighted mean"))
        assert "Nothing is kept. Add --out DIR" in out
        assert list(tmp_path.iterdir()) == []

    def test_no_progress_prints_no_epochs(self, command: Command) -> None:
        _, out, _ = command("train", "--data", "digits", *QUICK)
        assert "epoch 1/" not in out
        assert "Test (359 samples)" in out

    def test_a_long_run_prints_some_of_its_epochs(self, command: Command) -> None:
        _, out, _ = command("train", "--data", "digits", "--layers", "none", "--epochs", 60, "--batch-size", 500)
        lines = re.findall(r"^epoch +(\d+)/60", out, re.M)
        assert len(lines) <= 26
        assert lines[0] == "1"
        assert lines[-1] == "60"

    def test_backend_reason(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        _, out, _ = command("train", "--data", "digits", "--backend", "numpy", *QUICK)
        assert "as --backend numpy says" in out.splitlines()[0]
        monkeypatch.delenv("FCNN_BACKEND")
        _, out, _ = command("train", "--data", "digits", *QUICK)
        assert re.search("no CUDA device can be used: |a CUDA device answers", out.splitlines()[0])

    def test_folder(self, command: Command, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        out_folder = tmp_path / "runs" / "first"
        code, out, err = command(
            "train", "--data", "digits", *QUICK, "--validation-split", 0.1, "--l2", 1e-4, "--out", out_folder
        )
        assert (code, err) == (0, "")
        names = {path.name for path in out_folder.iterdir()}
        assert names == {"model.safetensors", "history.csv", "run.json", "curves.png", "confusion_matrix.png"}
        assert f"Written to {out_folder}: model.safetensors, history.csv" in out
        with open(out_folder / "history.csv", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
        assert len(records) == 8
        assert {"loss", "penalty", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= records[0].keys()
        results = json.loads((out_folder / "run.json").read_text(encoding="utf-8"))
        assert results["fcnn_gpu"] == fcnn.__version__
        assert results["options"]["l2"] == 1e-4
        assert results["options"]["seed"] == 0
        assert results["epochs"] == 8
        assert f"accuracy {results['test']['accuracy']:.4f}" in out
        assert len(results["test"]["classes"]) == 12
        assert (out_folder / "curves.png").read_bytes().startswith(b"\x89PNG")
        model = fcnn.load(out_folder / "model.safetensors", backend="numpy")
        data = fcnn.datasets.load("digits")
        accuracy = float(np.mean(model.predict_classes(data.X_test) == data.y_test))
        assert accuracy == pytest.approx(results["test"]["accuracy"])
        assert model.info["class_names"] == list("0123456789")
        assert model.info["feature_shape"] == [8, 8]
        assert model.info["data"] == "digits"

    def test_without_matplotlib_it_says_how_to_get_pictures(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "curves.png").write_bytes(b"of an earlier run")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        code, out, _ = command("train", "--data", "digits", *QUICK, "--out", folder)
        assert code == 0
        assert "pip install 'fcnn_gpu[plot]'" in out
        assert {path.name for path in folder.iterdir()} == {"model.safetensors", "history.csv", "run.json"}

    def test_same_seed_same_network(self, command: Command, tmp_path: Path) -> None:
        weights = []
        for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
            command("train", "--data", "digits", *QUICK, "--seed", seed, "--out", tmp_path / folder)
            weights.append(np.asarray(fcnn.load(tmp_path / folder / "model.safetensors", backend="numpy").layers[0].W))  # type: ignore[attr-defined]
        np.testing.assert_array_equal(weights[0], weights[1])
        assert not np.array_equal(weights[0], weights[2])

    def test_early_stopping_takes_the_best_epoch(self, command: Command, tmp_path: Path) -> None:
        arguments = "--layers 64 --epochs 200 --lr 0.02 --schedule constant --validation-split 0.2 --early-stopping 3"
        code, out, _ = command("train", "--data", "digits", *arguments.split(), "--out", tmp_path / "run")
        assert code == 0
        results = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
        assert results["epochs"] < 200
        assert results["best_epoch"] == results["epochs"] - 3
        assert f"early stopping: val_loss was best in epoch {results['best_epoch']}; the weights are those of" in out

    @pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
    def test_schedules(self, command: Command, schedule: str) -> None:
        code, out, _ = command("train", "--data", "digits", "--layers", "16", "--epochs", 4, "--schedule", schedule)
        rates = [float(rate) for rate in re.findall(r"learning_rate (\S+)", out)]
        assert code == 0
        assert (len(set(rates)) == 1) == (schedule == "constant")

    def test_network_options(self, command: Command, tmp_path: Path) -> None:
        arguments = "--layers 12,8 --activation tanh --batch-norm --dropout 0.1 --l1 1e-5 --l2 1e-4 --dtype float64"
        more = "--optimizer sgd --lr 0.1 --clip-norm 1 --epochs 2 --batch-size 50 --no-progress"
        code, _, err = command(
            "train", "--data", "digits", *arguments.split(), *more.split(), "--out", tmp_path / "run"
        )
        assert (code, err) == (0, "")
        model = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
        kinds = [layer.name for layer in model.layers]
        assert kinds == ["dense", "batch_norm", "activation", "dropout"] * 2 + ["dense"]
        assert model.dtype == np.float64
        first: Any = model.layers[0]
        assert (first.n_out, first.l1, first.l2, first.bias) == (12, 1e-5, 1e-4, False)
        assert first.init.name == "xavier_uniform"

    @pytest.mark.parametrize("layers", ["", "none"])
    def test_a_linear_model(self, command: Command, layers: str, tmp_path: Path) -> None:
        code, _, _ = command(
            "train", "--data", "digits", "--layers", layers, "--epochs", 3, "--no-progress", "--out", tmp_path / "run"
        )
        assert code == 0
        assert len(fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy").layers) == 1

    def test_a_last_batch_of_one_sample_with_batch_norm(self, command: Command) -> None:
        # 1,438 samples in batches of 3 leave one over, which has no variance
        code, _, err = command("train", "--data", "digits", *QUICK, "--batch-norm", "--batch-size", 3, "--epochs", 1)
        assert (code, err) == (0, "")

    def test_no_test_part(self, command: Command, tmp_path: Path) -> None:
        code, out, _ = command("train", "--data", iris_like(tmp_path / "trees.csv"), *QUICK, "--test-fraction", 0)
        assert code == 0
        assert "no test part" in out

    def test_diverging_run(self, command: Command, tmp_path: Path) -> None:
        # Without standardization the prices' squared error overflows at once.
        file = linear(tmp_path / "prices.csv")
        output = command(
            "train", "--data", file, "--no-standardize", "--optimizer", "sgd", "--lr", 1e6, "--no-progress"
        )
        assert_mistake(output, r"Training diverged in epoch 1, step \d+: .*--clip-norm 1\.0", code=1)


class TestOwnData:
    def test_classes_by_name(self, command: Command, tmp_path: Path) -> None:
        file = iris_like(tmp_path / "trees.csv")
        code, out, _ = command("train", "--data", file, "--layers", "16", "--epochs", 100, "--out", tmp_path / "run")
        assert code == 0
        assert "trees.csv: 120 training and 30 test samples of 3 features, 3 classes" in out
        assert "Standardized: 3 features, to mean 0" in out
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

        code, predicted, err = command("predict", model, file, "--drop", "species", "--proba")
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
        assert "Standardized: 2 features and the targets" in out
        found = re.search(r"^Test \(40 samples\):  loss (\S+)  r2 (\S+)  mae (\S+)  rmse (\S+)$", out, re.M)
        assert found is not None
        loss, r2, _, rmse = map(float, found.groups())
        assert r2 > 0.999
        assert rmse == pytest.approx(np.sqrt(loss), rel=3e-3)  # in the target's own unit
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

    def test_a_wrong_number_of_class_names(self, command: Command, tmp_path: Path) -> None:
        model = fcnn.Sequential([fcnn.Dense(10)], n_in=64, seed=0, backend="numpy")
        fcnn.Trainer(model)
        model.info = {"class_names": ["a", "b"]}
        model.save(tmp_path / "m.safetensors")
        assert_mistake(command("evaluate", "m.safetensors", "--data", "digits"), "names 2 classes for 10")


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
        file = iris_like(tmp_path / "trees.csv")
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
        command("train", "--data", iris_like(tmp_path / "trees.csv"), *QUICK, "--validation-split", 0.25)
        [n_samples] = shapes
        assert 88 <= n_samples <= 92  # of 150: 30 for the test, and a quarter of the rest for validation

    @pytest.mark.parametrize(
        ("arguments", "standardized"),
        [
            (["--data", "digits"], False),
            (["--data", "digits", "--standardize"], True),
            (["--data", "trees.csv"], True),
            (["--data", "trees.csv", "--no-standardize"], False),
        ],
    )
    def test_what_is_standardized(
        self, command: Command, tmp_path: Path, arguments: Sequence[str], standardized: bool
    ) -> None:
        iris_like(tmp_path / "trees.csv")
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


MISTAKES: list[tuple[str, str]] = [
    ("--epochs 0", "--epochs expects an integer of at least 1, got 0"),
    ("--epochs many", "--epochs.*valid integer"),
    ("--batch-size 0", "--batch-size expects an integer of at least 1, got 0"),
    ("--batch-size -3", "--batch-size expects an integer of at least 1, got -3"),
    ("--lr -0.1", "--lr expects a finite number of at least 0, got -0.1"),
    ("--lr nan", "--lr expects a finite number"),
    ("--lr inf", "--lr expects a finite number"),
    ("--dropout 1", r"--dropout expects a finite number in \[0, 1\), got 1"),
    ("--l1 -1", "--l1 expects"),
    ("--l2 -1", "--l2 expects"),
    ("--clip-norm 0", "--clip-norm expects a finite number greater than 0"),
    ("--seed -1", "--seed expects an integer of at least 0"),
    ("--layers 12,,3", r"--layers expects the hidden layers' widths, as in 128 or 512,512 \(or none\), got '12,,3'"),
    ("--layers 0", "--layers expects"),
    ("--layers 1.5", "--layers expects"),
    ("--layers wide", "--layers expects"),
    ("--activation rleu", "--activation does not know 'rleu'. Did you mean 'relu'?"),
    ("--optimizer adm", "--optimizer does not know 'adm'. Did you mean 'adam'?"),
    ("--schedule cosin", "Did you mean 'cosine'?"),
    ("--dtype float16", "--dtype does not know 'float16'"),
    ("--task clustering", "--task does not know 'clustering'"),
    ("--backend cpu", "backend does not know 'cpu'"),
    ("--validation-split 1", r"--validation-split expects a finite number in \[0, 1\)"),
    ("--test-fraction -0.5", "--test-fraction expects"),
    ("--early-stopping 0 --validation-split 0.1", "--early-stopping expects an integer of at least 1"),
    ("--early-stopping 3", "add --validation-split 0.1"),
    ("--data mnst-mini", "Unknown data set 'mnst-mini'. Did you mean 'mnist-mini'?"),
    ("--data missing.csv", "There is no file .*missing.csv"),
    ("--data digits --target 3", "--target is for files of your own; 'digits' has its own"),
    ("--data digits --header", "--header is for files of your own"),
    ("--epoch 3", "No such option: --epoch"),
    ("--data x.csv surplus", "surplus"),
]


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
    def test_options(self, command: Command, tmp_path: Path, arguments: str, message: str) -> None:
        assert_mistake(command("train", *arguments.split(), "--out", "run"), message)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "the file is empty"),
            ("a,b,y\n1,2,0\n1,nan,1\n", r"line 3, column 2 \('b'\): missing value"),
            ("a,b,y\n1,2,0\n1,inf,1\n", "expected a finite number"),
            ("a,b,y\n1,2,0\n1,two,1\n", "expected a number, got 'two'"),
            ("a,b,y\n1,2,0\n1,2\n", "line 3 has 2 columns"),
            ("a,b,y\n1,2,0\n", "only one class"),
            ("a,b,y\n1,2,cat\nx,2,cat\n", "only one class|expected a number"),
            ("a,b,y\n1,2,0\n3,4,\n", "line 3.*missing value"),
        ],
    )
    def test_malformed_csv(self, command: Command, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "bad.csv").write_text(content, encoding="utf-8")
        assert_mistake(command("train", "--data", "bad.csv", "--out", "run"), message)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("X", "y", "message"),
        [
            (np.zeros((4, 2)), np.array([0, 1, 0]), "3 targets for 4 samples"),
            (np.array([[1.0, np.nan], [0, 1]]), np.array([0, 1]), "expected a finite number"),
            (np.array([[1j, 0], [0, 1]]), np.array([0, 1]), "complex"),
            (np.zeros((0, 2)), np.zeros(0), "shape"),
            (np.zeros((3, 2)), np.array([0.5, np.inf, 1]), "finite"),
            (np.zeros(3), np.array([0, 1, 1]), "shape"),
        ],
    )
    def test_malformed_npz(self, command: Command, tmp_path: Path, X: Any, y: Any, message: str) -> None:
        np.savez(tmp_path / "bad.npz", X=X, y=y)
        assert_mistake(command("train", "--data", "bad.npz", "--out", "run"), message)
        assert not (tmp_path / "run").exists()

    def test_python_objects_are_not_loaded(self, command: Command, tmp_path: Path) -> None:
        np.savez(tmp_path / "bad.npz", X=np.array([[{}], [1]], dtype=object), y=np.array([0, 1]))
        assert_mistake(command("train", "--data", "bad.npz"), "holds Python objects")

    def test_class_labels_that_are_no_whole_numbers(self, command: Command, tmp_path: Path) -> None:
        np.savez(tmp_path / "bad.npz", X=np.zeros((4, 2)), y=np.array([0, 1, 0.5, 1]))
        assert_mistake(command("train", "--data", "bad.npz", "--task", "classification"), "whole number")

    def test_a_validation_part_without_samples(self, command: Command, tmp_path: Path) -> None:
        iris_like(tmp_path / "trees.csv", n=12)
        output = command("train", "--data", "trees.csv", "--validation-split", 0.01, "--out", "run")
        assert_mistake(output, "--validation-split 0.01 of .* samples leaves")

    def test_out_is_a_file(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("mine", encoding="utf-8")
        assert_mistake(command("train", "--data", "digits", "--out", "run", *QUICK), "expects a folder")
        assert (tmp_path / "run").read_text(encoding="utf-8") == "mine"

    def test_out_below_a_file(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert_mistake(command("train", "--data", "digits", "--out", "file/run", *QUICK), "file/run: Not a directory")

    def test_backend_variable(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FCNN_BACKEND", "gpu")
        assert_mistake(command("train", "--data", "digits", *QUICK), "variable FCNN_BACKEND does not know 'gpu'")

    def test_a_backend_that_is_not_to_be_had(self, command: Command) -> None:
        # device 99 exists nowhere: the machine fails, not the user
        assert_mistake(command("train", "--data", "digits", "--backend", "cupy:99", *QUICK), r"\w+: .+\.", code=1)

    def test_no_memory(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(options: TrainOptions) -> int:
            raise MemoryError("Unable to allocate 9 TiB")

        monkeypatch.setattr(train_module, "run_training", fail)
        assert_mistake(command("train"), "Not enough memory. Unable to allocate 9 TiB", code=1)

    def test_a_bug_keeps_its_traceback(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(options: TrainOptions) -> int:
            raise KeyError("a bug")

        monkeypatch.setattr(train_module, "run_training", fail)
        with pytest.raises(KeyError, match="a bug"):
            command("train")

    def test_traceback_on_request(self, command: Command) -> None:
        code, _, err = command("--traceback", "train", "--epochs", 0)
        assert code == 2
        assert err.startswith("Traceback")
        assert err.endswith("got 0.\n")

    def test_unknown_command(self, command: Command) -> None:
        assert_mistake(command("trian"), "No such command 'trian'")

    @pytest.mark.parametrize("name", ["evaluate", "predict"])
    def test_missing_argument(self, command: Command, name: str) -> None:
        assert_mistake(command(name), "Missing argument")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "There is no model file"),
            (b"", "damaged or no safetensors"),
            (b"hello" * 100, "damaged or no safete"),
        ],
    )
    def test_model_files(self, command: Command, tmp_path: Path, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / "m.safetensors").write_bytes(content)
        assert_mistake(command("evaluate", "m.safetensors", "--data", "digits"), message)
        assert_mistake(command("predict", "m.safetensors", "x.npy"), message)


class TestMistakesWithAModel:
    @pytest.fixture
    def model(self, command: Command) -> str:
        command("train", "--data", "digits", *QUICK, "--epochs", 1, "--out", "run")
        return "run/model.safetensors"

    def test_a_truncated_model(self, command: Command, model: str, tmp_path: Path) -> None:
        content = (tmp_path / model).read_bytes()
        (tmp_path / model).write_bytes(content[: len(content) // 2])
        assert_mistake(command("evaluate", model), "damaged")

    def test_evaluate(self, command: Command, model: str, tmp_path: Path) -> None:
        assert_mistake(command("evaluate", model, "--part", "tset"), "Did you mean 'test'?")
        assert_mistake(command("evaluate", model, "--test-fraction", 2), "--test-fraction expects")
        assert_mistake(
            command("evaluate", model, "--data", "mnist-mini"), "mnist-mini has 784 features per sample, .* expects 64"
        )
        np.savez(tmp_path / "r.npz", X=np.zeros((9, 64)), y=np.linspace(0, 1, 9))
        assert_mistake(command("evaluate", model, "--data", "r.npz"), "expected a whole number or text as class label")
        np.savez(tmp_path / "c.npz", X=np.zeros((4, 64)), y=np.array([1, 2, 11, 1]))
        assert_mistake(command("evaluate", model, "--data", "c.npz"), "label '11' is not one of the classes")
        np.savez(tmp_path / "d.npz", X=np.zeros((4, 64)), y=np.array([1, 2, 3, 1]))
        no_part = command("evaluate", model, "--data", "d.npz", "--test-fraction", 0)
        assert_mistake(no_part, "d.npz has no test part. Evaluate on every sample with --part all")

    def test_a_data_set_of_another_task(self, command: Command, tmp_path: Path) -> None:
        for name, link in (("r", "mse"), ("c", "cross_entropy")):
            model = fcnn.Sequential([fcnn.Dense(3)], n_in=64, seed=0, backend="numpy")
            fcnn.Trainer(model, loss=link)
            model.save(tmp_path / f"{name}.safetensors")
        assert_mistake(
            command("evaluate", "r.safetensors", "--data", "digits"), "digits is a classification, .* does regression"
        )
        assert_mistake(command("evaluate", "c.safetensors", "--data", "digits"), "digits has 10 classes, .* knows 3")
        assert_mistake(command("predict", "r.safetensors", "x.npy", "--proba"), "--proba is for classes")

    def test_predict(self, command: Command, model: str, tmp_path: Path) -> None:
        assert_mistake(command("predict", model, "missing.npy"), "There is no file")
        np.save(tmp_path / "x.npy", np.zeros((3, 7)))
        assert_mistake(command("predict", model, "x.npy"), "7 features per sample, expected 64")
        np.savetxt(tmp_path / "x.csv", np.zeros((3, 65)), delimiter=",")
        assert_mistake(command("predict", model, "x.csv"), r"leave it out with --drop\.")
        assert_mistake(command("predict", model, "x.npy", "--drop", "a"), "--drop and --header are for CSV files")
        np.save(tmp_path / "ok.npy", np.zeros((3, 64)))
        assert_mistake(command("predict", model, "ok.npy", "--out", "no/where.csv"), "there is no folder no")

    def test_predict_images(self, command: Command, tmp_path: Path) -> None:
        command("train", *QUICK, "--epochs", 1, "--out", "run")
        images = tmp_path / "some-images-idx3-ubyte.gz"
        pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
        fcnn.datasets.write_idx(images, pixels)
        code, out, _ = command("predict", "run/model.safetensors", images)
        assert code == 0
        expected = fcnn.load("run/model.safetensors", backend="numpy").predict_classes(pixels.reshape(5, -1) / 255)
        assert out.splitlines() == ["label", *map(str, expected)]


class TestProcess:
    def test_quiet_where_there_is_no_terminal(self, tmp_path: Path) -> None:
        process = spawn("train", "--data", "digits", "--layers", "16", "--epochs", 2, cwd=tmp_path)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0
        assert err == ""
        assert "\x1b" not in out
        assert "\r" not in out

    def test_a_mistake(self, tmp_path: Path) -> None:
        process = spawn("train", "--optimizer", "amad", cwd=tmp_path)
        out, err = process.communicate(timeout=120)
        assert_mistake((process.returncode, out, err), "Did you mean 'adam'?")

    def test_ctrl_c_keeps_the_weights(self, tmp_path: Path) -> None:
        arguments = ("--data", "digits", "--layers", "16", "--epochs", 1_000_000, "--out", "run")
        process = spawn("train", *arguments, cwd=tmp_path)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 130
        assert err == "fcnn-gpu: interrupted\n"
        assert "; interrupted" in out
        assert fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy").n_in == 64
        assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["stopped_by"] == "interrupt"

    def test_a_reader_that_has_seen_enough(self, tmp_path: Path) -> None:
        process = spawn("train", "--data", "digits", "--layers", "16", "--epochs", 1, cwd=tmp_path)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=120) == 1
        assert err == ""


@pytest.mark.slow
def test_defaults_on_mnist_mini(command: Command, tmp_path: Path) -> None:
    """The defaults reach 93 % on the test images, mean of five seeds."""
    accuracies = []
    for seed in range(5):
        command("train", "--seed", seed, "--no-progress", "--out", tmp_path / "run")
        results = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
        accuracies.append(results["test"]["accuracy"])
    print(f"accuracy by seed: {accuracies}, mean {np.mean(accuracies):.4f}")
    assert np.mean(accuracies) >= 0.93
