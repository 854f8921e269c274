"""What `fcnn-gpu` says of networks that programs have saved: those of the estimators for tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from fcnn_gpu import TabularRegressor
from tests.support.cli_cases import QUICK, Command, assert_mistake


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


def test_quantiles(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(size=120), "b": rng.normal(size=120)}
    y = table["a"] + rng.normal(size=120)
    np.savetxt(tmp_path / "t.csv", np.column_stack([*table.values(), y]), delimiter=",", header="a,b,y", comments="")
    levels = [0.1, 0.5, 0.9]
    settings: dict[str, Any] = {"epochs": 8, "hidden_layer_sizes": 8, "random_state": 0, "backend": "numpy"}
    estimator = TabularRegressor("fast", quantiles=levels, **settings).fit(table, y)
    estimator.model_.save("m.safetensors")
    line = ("evaluate", "m.safetensors", "--data", "t.csv", "--target", "y")
    code, out, err = command(*line, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    predicted = estimator.model_.predict(table)
    pinball = [mean_pinball_loss(y, predicted[:, k], alpha=q) for k, q in enumerate(levels)]
    assert found["loss"] == pytest.approx(np.mean(pinball), rel=1e-5)
    assert found["mae"] == pytest.approx(np.mean(np.abs(predicted[:, 1] - y)), rel=1e-5)
    assert [found[f"below_{q}"] for q in levels] == [np.mean(y < predicted[:, k]) for k in range(3)]
    model = estimator.model_
    model.signature = dataclasses.replace(model.signature, target_names=None)
    model.save("unnamed.safetensors")
    unnamed = ("evaluate", "unnamed.safetensors", *line[2:])
    assert_mistake(command(*unnamed), "--target names 1 column, and the model unnamed.safetensors predicts 3")
    assert command(*unnamed, "--loss", "quantile:quantiles=0.1/0.5/0.9")[1] == command(*line)[1]
    assert_mistake(command(*unnamed, "--loss", "cross_entropy"), "does not fit .* Losses that fit: mse, mae")
    assert_mistake(command(*unnamed, "--loss", "quantile:quantiles=0.1/0.9"), "multiple of 2, got 3")


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
