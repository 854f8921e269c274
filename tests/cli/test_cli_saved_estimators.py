"""What `fcnn-gpu` says of networks that programs have saved: those of the estimators for tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu import TabularRegressor
from tests.support.cli_cases import QUICK, Command


def test_the_loss_of_an_ensemble_is_that_of_what_it_predicts(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(size=80), "b": rng.normal(size=80)}
    y = table["a"] + 0.1 * rng.normal(size=80)
    np.savetxt(tmp_path / "t.csv", np.column_stack([*table.values(), y]), delimiter=",", header="a,b,y", comments="")
    estimator = TabularRegressor("tabm", epochs=4, hidden_layer_sizes=8, random_state=0, backend="numpy").fit(table, y)
    estimator.model_.save("m.safetensors")
    code, out, err = command("evaluate", "m.safetensors", "--data", "t.csv", "--target", "y", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    expected = np.mean((estimator.predict(table) - y) ** 2)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt(expected), rel=1e-5)


def test_the_loss_of_counts_is_that_of_the_logarithms_of_rates(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(size=80)
    rows = np.column_stack([a, rng.poisson(np.exp(1 + a))])
    np.savetxt(tmp_path / "c.csv", rows, fmt=["%.3f", "%d"], delimiter=",", header="a,visits", comments="")
    line = ("--data", "c.csv", "--target", "visits", "--task", "regression", "--loss", "poisson", "--out", "run")
    assert command("train", *line, *QUICK)[0] == 0
    code, out, _ = command("evaluate", "run", "--data", "c.csv", "--part", "all", "--json")
    assert code == 0
    code, predicted, _ = command("predict", "run", "c.csv")
    rates = np.array(predicted.split()[1:], float)
    expected = np.mean(rates - rows[:, 1] * np.log(rates))
    assert json.loads(out)["loss"] == pytest.approx(expected, rel=1e-3)
