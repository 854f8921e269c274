"""The command line: its help, training with it, and the process as a whole."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fcnn_gpu as fcnn
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.cli import _known, app
from fcnn_gpu.cli._commands import COMMANDS, load_command
from fcnn_gpu.cli._defaults import defaults_for
from fcnn_gpu.cli._options import LEARNING_RATES
from fcnn_gpu.datasets import CATALOGUE
from fcnn_gpu.initializers import INITIALIZERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.metrics import METRICS
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.schedules import SCHEDULES
from fcnn_gpu.tables.kinds import GIVEN
from tests.support.cli_cases import QUICK, Command, assert_mistake, iris_like, linear, spawn

KEPT = {"model.safetensors", "history.csv", "run.json", "training_rows.npy"}
"""Of each run."""


class TestHelp:
    def test_help_names_the_commands(self) -> None:
        result = CliRunner().invoke(app, ["--help"])
        assert result.exit_code == 0
        for name in ("train", "evaluate", "predict", "doctor"):
            assert name in result.output

    def test_every_option_has_a_help_text(self) -> None:
        for name, purpose in COMMANDS.items():
            subcommand = load_command(name)
            assert subcommand.help.partition("\n\n")[0].replace("\n", " ") == purpose
            for parameter in subcommand.params:
                assert parameter.help, f"{name} {parameter.name}"
                assert "[" not in parameter.help, "rich takes brackets for markup and swallows them"

    def test_the_help_of_train_names_all_that_there_is(self) -> None:
        told: dict[str, Iterable[str]] = {
            _known.ACTIVATIONS: ACTIVATIONS,
            _known.DATA_SETS: CATALOGUE,
            _known.INITIALIZERS: [name for name in INITIALIZERS if name != "array"],
            _known.KINDS: GIVEN,
            _known.LOSSES: LOSSES,
            _known.METRICS: METRICS,
            _known.OPTIMIZERS: OPTIMIZERS,
            _known.SCHEDULES: SCHEDULES,
        }
        assert {names: ", ".join(registry) for names, registry in told.items()} == {names: names for names in told}

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

    def test_the_help_says_what_the_defaults_are(self) -> None:
        images, table = defaults_for(5000, True), defaults_for(5000, False)
        assert (images.layers, images.dropout, images.epochs, images.batch_size) == ("128", 0.2, 20, 32)
        assert (table.layers, table.dropout) == ("128,128", 0.1)
        assert defaults_for(999, False).layers == "64"
        assert LEARNING_RATES == {"adam": 0.003, "adamw": 0.003}
        assert (table.init, table.bias_init) == ("fan_in_uniform", "fan_in_uniform")
        for n, batch, epochs in (
            (1, 32, 100),
            (150, 32, 86),
            (999, 32, 30),
            (5000, 64, 60),
            (40_000, 256, 39),
            (10**6, 256, 30),
        ):
            told = defaults_for(n, False)
            assert (told.batch_size, told.epochs) == (batch, epochs)
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

    @pytest.mark.usefixtures("drawn")
    def test_folder(self, command: Command, tmp_path: Path) -> None:
        out_folder = tmp_path / "runs" / "first"
        code, out, err = command(
            "train", "--data", "digits", *QUICK, "--validation-split", 0.1, "--l2", 1e-4, "--out", out_folder
        )
        assert (code, err) == (0, "")
        names = {path.name for path in out_folder.iterdir()}
        assert names == {*KEPT, "curves.png", "confusion_matrix.png"}
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
        for name in ("curves.png", "confusion_matrix.png"):
            assert (out_folder / name).read_bytes().startswith(b"\x89PNG")
            assert (out_folder / name).stat().st_size > 10_000
        model = fcnn.load(out_folder / "model.safetensors", backend="numpy")
        data = fcnn.datasets.load("digits")
        accuracy = float(np.mean(model.predict_classes(data.X_test) == data.y_test))
        assert accuracy == pytest.approx(results["test"]["accuracy"])
        assert model.signature == fcnn.Signature(None, tuple("0123456789"), None, 1 / 16, (0.0, 1.0))
        assert model.info["feature_shape"] == [8, 8]
        assert model.info["data"] == "digits"

    def test_without_matplotlib_it_says_how_to_get_pictures(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "curves.png").write_bytes(b"of an earlier run")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        code, out, _ = command("train", "--data", "digits", *QUICK, "--out", folder, "--overwrite")
        assert code == 0
        assert "pip install 'matplotlib" in out
        assert {path.name for path in folder.iterdir()} == KEPT

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

    @pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "exponential", "one_cycle"])
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
    """The defaults reach 93 % on the test images, mean of two seeds."""
    accuracies = []
    for seed in range(2):
        command("train", "--seed", seed, "--no-progress", "--out", tmp_path / "run")
        results = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
        accuracies.append(results["test"]["accuracy"])
    print(f"accuracy by seed: {accuracies}, mean {np.mean(accuracies):.4f}")
    assert np.mean(accuracies) >= 0.93
