"""`fcnn-gpu train --preset best` and `--folds`: a network for each fold, bagged; and `--time-limit`."""

from __future__ import annotations

import csv
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fcnn_gpu as fcnn
from fcnn_gpu import TabularClassifier, TabularRegressor
from fcnn_gpu.cli import _progress
from fcnn_gpu.cli._trained import Trained
from fcnn_gpu.training import History
from tests.support.cli_cases import Command, assert_mistake

from .test_cli_presets import COLUMNS, FEW, TARGETS, arguments, homes, numbers, run_of

THREE = ("--folds", 3, *FEW)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    homes().to_csv(tmp_path / "homes.csv", index=False)
    return tmp_path / "homes.csv"


@pytest.mark.parametrize("task", TARGETS)
def test_from_a_table_to_predictions(command: Command, file: Path, tmp_path: Path, task: str) -> None:
    """The estimator's networks bit for bit, of the same rows and seed, and what each says of what it did not see."""
    run = tmp_path / "run"
    code, out, err = command(*arguments(file, task, "--preset", "fast", *THREE, "--seed", 3, "--out", run))
    assert (code, err) == (0, "")
    assert "Network: 3 of RealMLP-TD-S (--preset fast), bagged" in out.splitlines()
    assert "Training: 192 samples; each network on 2 of 3 folds, 3 epochs of about 2 steps of 64 samples" in out
    assert "Validation: each network by the fold that it does not see" in out
    assert re.search(
        r"^Trained 3 networks, 3 epochs each, in .* s; the weights are those of epochs \d, \d, \d$", out, re.M
    )

    noted = run_of(run)
    table = pd.read_csv(file)
    settings: dict[str, Any] = {"cv": 3, "epochs": 3, "batch_size": 64, "random_state": 3, "backend": "numpy"}
    made: Any = TabularClassifier if task == "classification" else TabularRegressor
    seen = np.load(run / "training_rows.npy")
    assert len(seen) == 192
    train, _ = _parts(table[TARGETS[task]].to_numpy(), task)
    estimator = made("fast", **settings).fit(table[COLUMNS].iloc[train], table[TARGETS[task]].iloc[train])
    model = fcnn.load(run / "model.safetensors", backend="numpy")
    assert model.members == 3
    np.testing.assert_array_equal(model.predict(table[COLUMNS]), estimator.model_.predict(table[COLUMNS]))
    assert noted["best_epoch"] == estimator.best_epoch_
    assert (noted["networks"], noted["epochs"], noted["stopped_by"]) == (3, [3, 3, 3], ["epochs"] * 3)
    if task == "classification":
        assert noted["temperature"] == pytest.approx(estimator.temperature_.tolist())
        right = estimator.out_of_fold_.argmax(axis=1) == (table["dear"].iloc[train] == "dear")
        assert noted["out_of_fold"]["accuracy"] == pytest.approx(right.mean())
    else:
        error = np.sqrt(np.mean((estimator.out_of_fold_ - table["price"].iloc[train]) ** 2))
        assert noted["out_of_fold"]["rmse"] == pytest.approx(error, rel=1e-5)
    assert numbers(out, "Out of fold").startswith("loss ")

    code, again, err = command("evaluate", run, "--data", file)
    assert (code, err) == (0, "")
    assert numbers(again, "Test") == numbers(out, "Test")
    code, predicted, _ = command("predict", run, file, *(("--proba",) if task == "classification" else ()))
    found = np.array(list(csv.reader(predicted.splitlines()))[1:])[:, -1].astype(float)
    np.testing.assert_allclose(found, model.predict(table[COLUMNS])[:, -1], rtol=1e-5)

    with open(run / "history.csv", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    assert [(row["network"], row["epoch"]) for row in rows] == [(str(k), str(i)) for k in (1, 2, 3) for i in (1, 2, 3)]
    columns = "val_accuracy" if task == "classification" else "val_rmse"
    assert float(rows[4][columns]) == estimator.history_[1][columns][1]


def _parts(y: Any, task: str) -> tuple[Any, Any]:
    """The training and test rows of the command line."""
    from fcnn_gpu.cli._defaults import SPLIT_SEED
    from fcnn_gpu.datasets._dataset import split_indices

    labels = np.unique(y, return_inverse=True)[1] if task == "classification" else None
    return split_indices(len(y), 0.2, SPLIT_SEED, labels)


def test_best_is_eight_of_the_default(command: Command, file: Path, tmp_path: Path) -> None:
    line = arguments(file, "classification", "--preset", "best", "--epochs", 2, "--no-progress", "--out", "run")
    code, out, err = command(*line)
    assert (code, err) == (0, "")
    assert "Network: 8 of RealMLP-TD (--preset best), bagged" in out
    assert "Calibrated: outputs divided by" in out
    assert run_of(tmp_path / "run")["networks"] == fcnn.load("run/model.safetensors", backend="numpy").members == 8


def test_folds_of_a_small_table_are_a_preset_s(command: Command, file: Path) -> None:
    """Where the default would be a plain network."""
    code, out, _ = command(*arguments(file, "regression", *THREE, "--test-fraction", 0))
    assert code == 0
    assert "no test part: the out-of-fold numbers say how good the networks are" in out
    assert "Network: 3 of RealMLP-TD (--preset default), bagged" in out


def test_networks_are_told_as_they_are_there(command: Command, file: Path) -> None:
    code, out, _ = command(*arguments(file, "classification", "--preset", "fast", *THREE[:-1]))
    assert code == 0
    told = re.findall(r"^network (\d)/3  epoch \d of 3  val_loss [\d.]+  val_accuracy [\d.]+  [\d.]+ s$", out, re.M)
    assert told == ["1", "2", "3"]
    assert out.count("Input A0") == 1


def test_the_picture_shows_all_networks(tmp_path: Path) -> None:
    def history(last: float, n: int) -> History:
        return History(
            [{"epoch": i + 1.0, "loss": 1.0 - last * i / n, "val_loss": 1.1 - last * i / n} for i in range(n)]
        )

    model = fcnn.Sequential([fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
    Trained(model, [history(0.9, 50), history(0.2, 50), History()]).plot(tmp_path / "several.png")
    Trained(model, [history(0.9, 50), history(0.9, 50)]).plot(tmp_path / "same.png")
    several, same = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("several.png", "same.png"))
    blue = (
        (several[..., 2].astype(int) - several[..., 0] > 60).sum(),
        (same[..., 2].astype(int) - same[..., 0] > 60).sum(),
    )
    assert blue[0] > 1.3 * blue[1]


class TestTimeLimit:
    def test_a_preset_is_shorter(self, command: Command, file: Path, tmp_path: Path) -> None:
        line = arguments(file, "classification", "--preset", "fast", "--epochs", 100_000, "--time-limit", "2s")
        code, _, err = command(*line, "--out", "run")
        assert (code, err) == (0, "")
        assert 2 <= run_of(tmp_path / "run")["epochs"] < 50_000

    def test_folds_are_fewer(self, command: Command, file: Path, tmp_path: Path) -> None:
        line = arguments(file, "classification", "--preset", "fast", "--folds", 5, "--epochs", 100_000)
        code, out, err = command(*line, "--time-limit", "0.03min", "--out", "run")
        assert (code, err) == (0, "")
        assert "For 5 networks --time-limit is too short: 2 are trained" in out.splitlines()
        assert run_of(tmp_path / "run")["networks"] == 2

    def test_a_plain_network_ends_after_an_epoch(self, command: Command, tmp_path: Path) -> None:
        line = (
            "train",
            "--data",
            "digits",
            "--epochs",
            100_000,
            "--time-limit",
            "0.5",
            "--out",
            "run",
            "--no-progress",
        )
        code, out, err = command(*line)
        assert (code, err) == (0, "")
        assert run_of(tmp_path / "run")["stopped_by"] == "time limit of 0.5 seconds"
        assert "; time limit of 0.5 seconds" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--folds 1", "--folds expects .* at least 2, got 1"),
        ("--folds 500", "--folds 500 folds cannot be made of 192 samples"),
        ("--folds 3 --layers 8", "--folds trains a preset's network for each fold, and --layers says a plain one"),
        ("--folds 3 --preset plain", "--folds trains .*, and --preset plain says a plain one. Leave one of them out"),
        ("--preset best --layers 8", "--preset best is a network .* nothing to choose in --layers"),
        ("--preset best --validation-split 0.1", "With --preset best, .* Leave out --validation-split"),
        ("--folds 3 --validation-split 0.1", "With --folds, .* Leave out --validation-split"),
        ("--time-limit soon", "--time-limit expects seconds, or a time like '90s', '10min' or '1.5h', got 'soon'"),
        ("--time-limit 0", "--time-limit expects a finite number greater than 0"),
        ("--folds 3 --class-weight dear=0,cheap=0", "--class-weight is 0 for every class of the training samples"),
    ],
)
def test_mistakes(command: Command, file: Path, tmp_path: Path, options: str, message: str) -> None:
    output = command(*arguments(file, "classification", *options.split(), *FEW, "--out", "run"))
    assert_mistake(output, message)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_folds_are_for_tables(command: Command) -> None:
    assert_mistake(command("train", "--data", "digits", "--folds", 3), r"--folds is for tables .*, not for digits")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interrupt_keeps_whole_networks(
    command: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are there, and nothing of one that is not trained to its end; before the first, nothing."""
    pressed_after = 1

    def called(log: Any, number: int, n_networks: int, history: History) -> None:
        if number == pressed_after:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_progress.NetworkLog, "__call__", called)
    line = arguments(file, "classification", "--preset", "fast", "--folds", 4, *FEW[:-1], "--out", tmp_path / "run")
    code, out, err = command(*line)
    assert (code, err) == (130, "fcnn-gpu: interrupted\n")
    assert re.search(r"^Trained 2 networks, .*; interrupted; the weights are those of epochs \d, \d$", out, re.M)
    noted = run_of(tmp_path / "run")
    assert (noted["networks"], noted["out_of_fold"]["n_samples"]) == (2, 96)
    code, again, _ = command("evaluate", tmp_path / "run", "--data", file)
    assert numbers(again, "Test") == numbers(out, "Test")


def test_seconds() -> None:
    from fcnn_gpu._checks import check_seconds

    for given, expected in [("90", 90.0), ("90s", 90.0), (" 1.5 H", 5400.0), ("10min", 600.0), (".5m", 30.0), (7, 7.0)]:
        assert check_seconds("f(t)", given) == expected
    assert check_seconds("f(t)", None) is None
    for wrong in ("", "s", "1:30", "-5s", "nan", "1e9h"):
        with pytest.raises(ValueError, match=r"f\(t\)"):
            check_seconds("f(t)", wrong)
