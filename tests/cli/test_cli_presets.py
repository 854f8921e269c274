"""The presets of `fcnn-gpu train`: what tables are trained with by default, and what contradicts it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

import fcnn_gpu as fcnn
from fcnn_gpu import TabularClassifier, TabularRegressor
from fcnn_gpu.cli import _progress
from fcnn_gpu.estimators import RECIPES
from tests.support.cli_cases import QUICK, Command, assert_mistake, iris_like

PRESETS = ["default", "fast", "tabm"]
COLUMNS = ["size", "town", "garden", "built"]
TARGETS = {"classification": "dear", "regression": "price"}
OF_FEW = "as for all tables of fewer than 1,000 training rows (else: --preset default)"
FEW = ("--epochs", 3, "--batch-size", 64, "--no-progress")


def homes(n: int = 240) -> pd.DataFrame:
    """Numbers with gaps, categories with gaps, of which some have many values, and dates; a class and a price."""
    rng = np.random.default_rng(0)
    size, town, garden = rng.gamma(2.0, 30.0, n), rng.integers(0, 14, n), rng.random(n) < 0.4
    price = 1000 + 5.0 * size + 20.0 * (town % 5) + 90.0 * garden + rng.normal(0, 10, n)
    table = pd.DataFrame(
        {
            "size": size.round(2),
            "town": [f"town {i}" for i in town],
            "garden": np.where(garden, "yes", "no"),
            "built": pd.date_range("1950-01-01", periods=n, freq="90D").strftime("%Y-%m-%d"),
            "price": price.round(1),
            "dear": np.where(price > np.median(price), "dear", "cheap"),
        }
    )
    table.loc[::9, "size"] = np.nan
    table.loc[4::11, "town"] = None
    return table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    homes().to_csv(tmp_path / "homes.csv", index=False)
    return tmp_path / "homes.csv"


def arguments(file: Path, task: str, *more: object) -> tuple[object, ...]:
    other = TARGETS["regression" if task == "classification" else "classification"]
    return ("train", "--data", file, "--target", TARGETS[task], "--ignore", other, *more)


def run_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


def numbers(out: str, what: str) -> str:
    [line] = [line for line in out.splitlines() if line.startswith(f"{what} (")]
    return line.partition(":  ")[2]


@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize("preset", PRESETS)
def test_from_a_table_to_predictions(command: Command, file: Path, tmp_path: Path, preset: str, task: str) -> None:
    run = tmp_path / "run"
    code, out, err = command(*arguments(file, task, "--preset", preset, *FEW, "--out", run))
    assert (code, err) == (0, "")
    assert f"(--preset {preset})" in out
    assert "Training: 154 samples, 3 epochs of 2 steps of 64 samples" in out
    assert "Validation: 38 samples" in out
    assert re.search(r"^Trained 3 epochs in .*; the weights are those of epoch \d$", out, re.M)
    assert ("Standardized: the targets" in out) == (task == "regression")
    assert {path.name for path in run.iterdir()} >= {"model.safetensors", "history.csv", "run.json", "curves.png"}

    code, again, err = command("evaluate", run, "--data", file)
    assert (code, err) == (0, "")
    assert numbers(again, "Test") == numbers(out, "Test")

    code, predicted, err = command("predict", run, file, *(("--proba",) if task == "classification" else ()))
    assert (code, err) == (0, "")
    rows = list(csv.reader(predicted.splitlines()))[1:]
    found = np.array(rows)[:, -1].astype(float)
    model = fcnn.load(run / "model.safetensors", backend="numpy")
    np.testing.assert_allclose(found, model.predict(pd.read_csv(file)[COLUMNS])[:, -1], rtol=1e-5)
    if task == "regression":
        train = homes()["price"]
        assert train.min() - 0.1 <= found.min() <= found.max() <= train.max() + 0.1

    noted = run_of(run)
    assert noted["options"]["preset"] == preset
    assert noted["options"]["validation_split"] == 0.2
    assert noted["recipe"]["epochs"] == 3
    assert noted["recipe"]["hidden_layer_sizes"] == list(RECIPES[preset][task].hidden_layer_sizes)
    assert noted["best_epoch"] in (1, 2, 3)
    assert (noted["temperature"] != 1) == (task == "classification")
    assert model.members == RECIPES[preset][task].members


@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize("preset", ["default", "fast"])
def test_it_is_the_estimator_s_network(command: Command, file: Path, tmp_path: Path, preset: str, task: str) -> None:
    """Bit for bit, of the same rows and seed; with the classes' weights, too."""
    weights = ("--class-weight", "dear=3") if task == "classification" else ()
    more = ("--preset", preset, "--epochs", 5, "--test-fraction", 0, "--seed", 3, "--no-progress", *weights)
    assert command(*arguments(file, task, *more, "--out", tmp_path / "run"))[0] == 0
    table = pd.read_csv(file)
    settings: dict[str, Any] = {"epochs": 5, "random_state": 3, "backend": "numpy"}
    if task == "classification":
        estimator: Any = TabularClassifier(preset, class_weight={"dear": 3.0}, **settings)
    else:
        estimator = TabularRegressor(preset, **settings)
    estimator.fit(table[COLUMNS], table[TARGETS[task]])
    model = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
    found, expected = model.predict(table[COLUMNS]), estimator.model_.predict(table[COLUMNS])
    if task == "regression":  # the command's stay within the range of the held-out values, too
        found = found.clip(expected.min(), expected.max())
    np.testing.assert_array_equal(found, expected)


class TestWhatIsTrained:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "Network: RealMLP-TD (--preset default)"),
            (("--test-fraction", 0.3), f"Network: plain, {OF_FEW}"),
            (("--test-fraction", 0.3, "--preset", "default"), "Network: RealMLP-TD (--preset default)"),
            (("--dropout", 0.3, "--lr", 0.01, "--weight-decay", 0.1), "Network: RealMLP-TD (--preset default)"),
            (("--numbers", "standard", "--metric", "f1"), "Network: RealMLP-TD (--preset default)"),
            (("--preset", "fast"), "Network: RealMLP-TD-S (--preset fast)"),
            (("--preset", "plain"), "Network: plain, as --preset plain says"),
            (("--layers", 8), "Network: plain, as --layers says"),
            (("--activation", "relu"), "Network: plain, as --activation says"),
            (("--loss", "focal", "--l2", 0.01), "Network: plain, as --l2, --loss say"),
            (("--no-standardize",), "Network: plain, as --no-standardize says"),
        ],
    )
    def test_of_a_table(self, command: Command, file: Path, options: tuple[object, ...], said: str) -> None:
        """Of 1,000 rows to train on, or with --test-fraction 0.3 of fewer."""
        homes(1250).to_csv(file, index=False)
        code, out, err = command(*arguments(file, "classification", "--epochs", 2, "--no-progress", *options))
        assert (code, err) == (0, "")
        assert said in out.splitlines()
        assert ("Validation: 2" in out or "Validation: 1" in out) == ("plain" not in said)

    @pytest.mark.parametrize("name", ["digits", "a.npz", "a.npy"])
    def test_of_other_data(self, command: Command, tmp_path: Path, name: str) -> None:
        X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
        np.savez(tmp_path / "a.npz", X=X, y=y)
        np.save(tmp_path / "a.npy", X)
        np.save(tmp_path / "y.npy", y)
        data = ("--data", name, *(("--target", "y.npy") if name == "a.npy" else ()))
        code, out, err = command("train", *data, "--epochs", 2, "--no-progress", "--out", "run")
        assert (code, err) == (0, "")
        assert "Network:" not in out
        assert "Validation:" not in out
        assert run_of(tmp_path / "run")["options"]["preset"] == "plain"
        assert "recipe" not in run_of(tmp_path / "run")
        output = command("train", *data, "--preset", "tabm", *QUICK[2:])
        assert_mistake(output, rf"--preset tabm is for tables \(\.csv, \.parquet, \.\.\.\), not for {name}")

    def test_options_go_into_the_recipe(self, command: Command, file: Path, tmp_path: Path) -> None:
        said = "--preset default --epochs 9 --batch-size 50 --lr 0.01 --dropout 0.25 --weight-decay 0.5 --dtype float64"
        more = "--label-smoothing 0.2 --early-stopping 2 --validation-split 0.3 --no-progress --out run"
        code, out, _ = command(*arguments(file, "classification", *said.split(), *more.split()))
        assert code == 0
        recipe = run_of(tmp_path / "run")["recipe"]
        names = ("epochs", "batch_size", "learning_rate", "dropout", "weight_decay", "label_smoothing", "patience")
        assert [recipe[name] for name in names] == [9, 50, 0.01, 0.25, 0.5, 0.2, 2]
        assert "Validation: 58 samples" in out
        assert "and 2 epochs no better than it end the run" in out
        model = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
        assert model.dtype == np.float64
        assert "Dropout(FlatCos(0.25))" in repr(model)

    def test_numbers_are_the_preset_s_unless_they_are_said(self, command: Command, file: Path, tmp_path: Path) -> None:
        for more, scaling in (
            (("--preset", "tabm"), "quantile"),
            (("--preset", "fast"), "robust"),
            (("--preset", "tabm", "--numbers", "standard"), "standard"),
            (("--preset", "default", "--numbers", "none"), "none"),
            (("--layers", "none"), "standard"),
        ):
            options = ("--epochs", 1, "--batch-size", 64, "--no-progress", *more, "--out", "run", "--overwrite")
            assert command(*arguments(file, "regression", *options))[0] == 0
            preparation = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy").preparation
            assert preparation is not None
            assert preparation.numbers == scaling

    def test_categories_of_many_values_are_embedded(self, command: Command, file: Path, tmp_path: Path) -> None:
        code, out, _ = command(*arguments(file, "regression", "--preset", "default", *FEW[:-1]))
        assert code == 0
        assert re.search(r"town +category +1 +14 different values", out)
        assert re.search(r"^ *0 +Embedding\(\d+ → \d+, n_categories=\[15\]\) +E 120×1", out, re.M)
        assert re.search(r"Dropout\(FlatCos\(0\.15\)\)", out)
        assert max(map(len, out.partition("Input A0")[2].partition(" parameters, ")[0].splitlines())) < 125


class TestValidation:
    def test_without_it_the_last_epoch_is_kept(self, command: Command, file: Path, tmp_path: Path) -> None:
        for preset in ("default", "tabm"):
            more = ("--preset", preset, *FEW, "--validation-split", 0, "--out", "run", "--overwrite")
            code, out, _ = command(*arguments(file, "classification", *more))
            assert code == 0
            assert "Training: 192 samples, 3 epochs of 3 steps" in out
            assert "Validation" not in out
            assert "Calibrated" not in out
            noted = run_of(tmp_path / "run")
            assert (noted["best_epoch"], noted["temperature"], noted["epochs"]) == (None, 1.0, 3)

    def test_probabilities_are_calibrated(self, command: Command, file: Path, tmp_path: Path) -> None:
        """The test's loss is that of the probabilities that `predict` writes: of members, of their mean."""
        table = homes()
        for preset in ("fast", "tabm"):
            code, out, _ = command(
                *arguments(file, "classification", "--preset", preset, *FEW, "--out", "run", "--overwrite")
            )
            assert code == 0
            T = run_of(tmp_path / "run")["temperature"]
            assert f"Calibrated: outputs divided by {T:.3g}, by the validation samples" in out
            _, predicted, _ = command("predict", "run", file, "--proba")
            p = np.array([row[1:] for row in csv.reader(predicted.splitlines())][1:], float)
            _, measured, _ = command("evaluate", "run", "--data", file, "--part", "all", "--json")
            expected = log_loss(table["dear"], p / p.sum(axis=1, keepdims=True))
            assert json.loads(measured)["loss"] == pytest.approx(expected, rel=1e-4)

    def test_tables_of_few_rows(self, command: Command, tmp_path: Path) -> None:
        """Fewer than a batch holds are one batch; of two, none can be held out."""
        table = homes(20)
        table.to_csv("few.csv", index=False)
        default = ("--preset", "default", "--no-progress", "--epochs")
        code, out, err = command(*arguments(tmp_path / "few.csv", "classification", *default, 4))
        assert (code, err) == (0, "")
        assert "Training: 13 samples, 4 epochs of 1 step of 13 samples" in out
        output = command(*arguments(tmp_path / "few.csv", "regression", *default, 1))
        assert_mistake(output, "--epochs 1 is a single step for 13 samples .* or a smaller --batch-size")
        table[:3].to_csv("few.csv", index=False)
        output = command("train", "--data", "few.csv", "--target", "price", "--column", "size=number", *default, 2)
        assert_mistake(output, "--validation-split 0.2 of 2 samples leaves 2 for training .*, another share or 0")

    def test_weights_of_classes_on_one_side_alone(self, command: Command, tmp_path: Path) -> None:
        table = homes(60)
        table.loc[0, "dear"] = "rare"
        table.to_csv("rare.csv", index=False)
        weights = ("--class-weight", "dear=0,cheap=0", "--test-fraction", 0)
        output = command(*arguments(tmp_path / "rare.csv", "classification", "--preset", "fast", *FEW, *weights))
        assert_mistake(output, "--validation-split 0.2 leaves .* the weight of each of them is 0")


class TestTargets:
    def test_several_values(self, command: Command, tmp_path: Path) -> None:
        table = homes().assign(half=lambda t: t["price"] / 2)
        table.to_csv("two.csv", index=False)
        line = ("train", "--data", "two.csv", "--target", "price,half", "--ignore", "dear", "--epochs", 40)
        more = ("--preset", "default", "--batch-size", 32, "--no-progress", "--out", "run")
        code, _, err = command(*line, *more)
        assert (code, err) == (0, "")
        _, predicted, _ = command("predict", "run", "two.csv")
        values = np.loadtxt(predicted.splitlines()[1:], delimiter=",")
        assert np.corrcoef(values[:, 0], table["price"])[0, 1] > 0.9
        np.testing.assert_allclose(values[:, 1], values[:, 0] / 2, rtol=0.1)

    @pytest.mark.parametrize("preset", ["default", "tabm"])
    def test_several_labels(self, command: Command, tmp_path: Path, preset: str) -> None:
        """Are learned by binary cross-entropy, of which the smallest loss says which epoch is best."""
        homes().assign(large=lambda t: t["size"].fillna(0) > 60).to_csv("labels.csv", index=False)
        line = ("train", "--data", "labels.csv", "--target", "large,dear", "--ignore", "price", "--preset", preset)
        code, out, err = command(*line, *FEW, "--out", "run")
        assert (code, err) == (0, "")
        assert "the epoch with the smallest loss on them is kept" in out
        assert "Calibrated" not in out
        code, again, _ = command("evaluate", "run", "--data", "labels.csv")
        assert numbers(again, "Test") == numbers(out, "Test")
        with open("run/history.csv", encoding="utf-8") as text:
            losses = [float(row["val_loss"]) for row in csv.DictReader(text)]
        assert run_of(tmp_path / "run")["best_epoch"] == 1 + int(np.argmin(losses))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--preset fats", "--preset does not know 'fats'. Did you mean 'fast'"),
        ("--preset fast --layers 64", "nothing to choose in --layers. Leave --layers out, or say --preset plain"),
        ("--preset default --activation relu --l1 0.1", "Leave --activation, --l1 out, or say --preset plain"),
        ("--preset tabm --optimizer adamw", "Leave --optimizer out"),
        ("--preset fast --schedule cosine", "Leave --schedule out"),
        ("--preset fast --batch-norm", "Leave --batch-norm out"),
        ("--preset fast --init zeros --bias-init zeros", "Leave --init, --bias-init out"),
        ("--preset fast --loss mse", "Leave --loss out"),
        ("--preset fast --momentum 0.9", "Leave --momentum out"),
        ("--preset fast --clip-norm 1", "Leave --clip-norm out"),
        ("--preset fast --standardize", "Leave --standardize out"),
        ("--preset plain --early-stopping 3", "add --validation-split 0.1"),
        ("--early-stopping 3 --validation-split 0", "add --validation-split 0.1"),
        ("--weight-decay -1", "--weight-decay expects a finite number of at least 0"),
        ("--lr 0", "gives a learning rate of 0 in every step"),
        ("--metric r2", "--metric r2 is for a regression"),
        ("--class-weight nobody=2", "--class-weight names an unknown class 'nobody'"),
    ],
)
def test_mistakes(command: Command, file: Path, tmp_path: Path, options: str, message: str) -> None:
    line = arguments(file, "classification", *options.split(), "--epochs", 2, "--no-progress", "--out", "run")
    assert_mistake(command(*line), message)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_label_smoothing_is_for_classes(command: Command, file: Path) -> None:
    output = command(*arguments(file, "regression", "--label-smoothing", 0.1, *FEW))
    assert_mistake(output, "--label-smoothing is for cross_entropy, and homes.csv is a regression")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("task", TARGETS)
def test_an_interrupt_keeps_the_best_so_far(
    command: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    pressed_in = 3

    def on_epoch_begin(log: Any, trainer: Any, number: int) -> None:
        log._began = 0.0
        if number == pressed_in:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_progress.EpochLog, "on_epoch_begin", on_epoch_begin)
    line = arguments(file, task, "--preset", "fast", *FEW[:2], "--batch-size", 64, "--out", tmp_path / "run")
    code, out, err = command(*line)
    assert (code, err) == (130, "fcnn-gpu: interrupted\n")
    noted = run_of(tmp_path / "run")
    assert (noted["epochs"], noted["stopped_by"]) == (2, "interrupt")
    assert noted["best_epoch"] in (1, 2)
    code, again, _ = command("evaluate", tmp_path / "run", "--data", file)
    assert numbers(again, "Test") == numbers(out, "Test")
    pressed_in = 1  # before anything is learned: the network has no first values by the data, and none of it is kept
    code, out, err = command(*line[:-1], tmp_path / "new")
    assert (code, err) == (130, "fcnn-gpu: interrupted\n")
    assert "Calibrated" not in out


class TestHowLongItTakes:
    def said(self, seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
        """What is said of 5 epochs that take so long each."""
        clock = iter(np.arange(100) * seconds)
        monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
        model = fcnn.Sequential([fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
        trainer = fcnn.Trainer(model)
        trainer.n_epochs = 5
        log = _progress.EpochLog("--epochs")
        log.on_train_begin(trainer)
        for epoch in range(1, 6):
            log.on_epoch_begin(trainer, epoch)
            log.on_epoch_end(trainer, {"epoch": epoch, "learning_rate": 1.0, "samples_per_second": 1.0})
        return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("epoch")]

    def test_a_long_run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.said(120.0, monkeypatch, capsys) == ["5 epochs take about 10 min; shorter: --epochs"]

    def test_a_short_run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.said(11.0, monkeypatch, capsys) == []

    def test_trees(self, command: Command, tmp_path: Path) -> None:
        trees = iris_like(tmp_path / "trees.csv")
        code, out, _ = command("train", "--data", trees, "--preset", "default", "--epochs", 30)
        assert code == 0
        assert float(numbers(out, "Test").split()[-1]) > 0.9
        assert "shorter" not in out
