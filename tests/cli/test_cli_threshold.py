"""`fcnn-gpu train --threshold`: which probability makes the second of two classes, in train, evaluate and predict."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from fcnn_gpu.cli._defaults import THRESHOLDS
from fcnn_gpu.estimators import THRESHOLD_METRICS
from tests.support.cli_cases import Command, assert_mistake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A class that is rare and hard to tell."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = np.where(X[:, 0] + rng.normal(0, 1.0, 600) > 1.6, "rare", "common")
    pd.DataFrame(X, columns=list("abc")).assign(y=y).to_csv(tmp_path / "rare.csv", index=False)
    return tmp_path / "rare.csv"


NETWORKS = {
    "preset": ("--preset", "fast", "--epochs", 6),
    "folds": ("--preset", "fast", "--folds", 3, "--epochs", 6),
    "plain": ("--preset", "plain", "--epochs", 6, "--validation-split", 0.25),
    "one output": ("--loss", "binary_cross_entropy", "--epochs", 6, "--validation-split", 0.25),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_kept_with_the_model(command: Command, file: Path, network: str) -> None:
    f1: dict[str, float] = {}
    for threshold, said in (("0.5", None), ("f1", "f1 is best"), ("0.9", None)):
        line = ("train", "--data", file, "--metric", "f1:average=macro", *NETWORKS[network], "--threshold", threshold)
        code, out, err = command(*line, "--no-progress", "--out", "run", "--overwrite")
        assert (code, err) == (0, "")
        assert ("Threshold:" in out) == (said is not None)
        run: dict[str, Any] = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
        t = run["threshold"]
        assert t == pytest.approx(float(threshold)) if said is None else 0.05 < t < 0.5
        _, predicted, _ = command("predict", "run", file, "--proba")
        rows = np.array(list(csv.reader(predicted.splitlines()))[1:])
        np.testing.assert_array_equal(rows[:, 0] == "rare", rows[:, 2].astype(float) > t)

        _, measured, _ = command("evaluate", "run", "--data", file, "--part", "all", "--json")
        found, y = json.loads(measured), pd.read_csv(file)["y"]
        assert found["accuracy"] == pytest.approx((rows[:, 0] == y).mean())
        assert found["f1"] == pytest.approx(f1_score(y, rows[:, 0], average="macro"))
        [rare] = [row for row in found["classes"] if row["name"] == "rare"]
        assert rare["f1"] == pytest.approx(f1_score(y, rows[:, 0], pos_label="rare"))
        f1[threshold] = rare["f1"]
        _, again, _ = command("evaluate", "run", "--data", file)
        test = re.search(r"Test .*", out)
        assert test is not None
        assert test[0] in again
    assert f1["f1"] > max(f1["0.5"], f1["0.9"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--threshold 1", "--threshold expects a probability between 0 and 1, or one of accuracy, .*, got '1'"),
        ("--threshold f2", "got 'f2'. Did you mean 'f1'"),
        ("--threshold nan", "got 'nan'"),
        ("--threshold f1 --preset plain", "--threshold f1 is found on validation samples: add --validation-split 0.2"),
        ("--threshold f1 --validation-split 0 --preset fast", "add --validation-split 0.2, or give a number"),
        ("--threshold 0.3 --task regression", "--threshold is for two classes, not for --task regression"),
        ("--threshold 0.3 --target a", "--threshold is for two classes, and rare.csv is a regression"),
    ],
)
def test_mistakes(command: Command, file: Path, options: str, message: str) -> None:
    assert_mistake(command("train", "--data", file, "--epochs", 2, "--no-progress", *options.split()), message)


def test_it_is_of_two_classes(command: Command) -> None:
    output = command("train", "--data", "digits", "--threshold", 0.3, "--epochs", 2)
    assert_mistake(output, "--threshold is for two classes, and digits has 10 classes")


def test_the_metrics_are_the_estimators() -> None:
    assert tuple(THRESHOLD_METRICS) == THRESHOLDS
