"""`fcnn-gpu` on numbers far from 0 beside their spread: time stamps as features, targets of 1.7·10⁹ ± 20."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.model._standardize import Standardization, fold_features, fold_targets

from ..conftest import BACKENDS
from ..support.cli_cases import Command, assert_mistake

QUICK = ("--no-progress", "--layers", "32", "--dropout", "0", "--backend", "numpy")
LINEAR = ("--layers", "none", "--lr", "0.02")


def far_target(path: Path, n: int = 1000) -> HostArray:
    """y = 1.7·10⁹ + 20a and noise of 1: of the target's variance 1/401 is noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = 1.7e9 + 20 * X[:, 0] + rng.normal(size=n)
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", header="a,b,c,y", comments="", fmt="%.17g")
    return y


def time_stamps(folder: Path, n: int = 1000) -> HostArray:
    """Half an hour of time stamps, which are of one class or the other by the quarter of an hour, in two files."""
    rng = np.random.default_rng(1)
    t = np.floor(1.7e9 + rng.uniform(0, 1800, n))
    quarter = ((t - 1.7e9) // 450).astype(int)
    noise = rng.normal(size=n).round(4)
    with open(folder / "t.csv", "w", encoding="utf-8") as file:
        file.write("time,noise,label\n")
        for s, x, q in zip(t, noise, quarter, strict=True):
            file.write(f"{s:.0f},{x:.4f},{'even' if q % 2 == 0 else 'odd'}\n")
    np.savez(folder / "t.npz", X=np.column_stack([t, noise]), y=quarter % 2)
    return t


def measured(output: str) -> dict[str, float]:
    [line] = [line for line in output.splitlines() if line.startswith("Test (")]
    return {name: float(value) for name, value in re.findall(r"(\w+) (-?[\d.]+)(?:  |$)", line)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_target_far_from_0_is_learned_and_kept(dtype: str, command: Command, tmp_path: Path) -> None:
    y = far_target(tmp_path / "y.csv")
    code, out, err = command("train", "--data", "y.csv", "--out", "run", "--dtype", dtype, *QUICK, *LINEAR)
    assert (code, err) == (0, "")
    assert measured(out)["r2"] == pytest.approx(0.9975, abs=1e-3)  # what can be known
    model = fcnn.load("run/model.safetensors", backend="numpy")
    assert (model.output_center is None) == (dtype == "float64")  # whose digits suffice for the bias
    code, out, err = command("evaluate", "run/model.safetensors", "--data", "y.csv", "--part", "all", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["r2"] == pytest.approx(0.9975, abs=5e-4)
    code, out, err = command("predict", "run/model.safetensors", "y.csv", "--drop", "y")
    assert (code, err) == (0, "")
    [header, *cells] = csv.reader(io.StringIO(out))
    predictions = np.array(cells, float)[:, 0]
    assert header == ["prediction"]
    assert 1 - ((y - predictions) ** 2).sum() / ((y - y.mean()) ** 2).sum() == pytest.approx(found["r2"], abs=1e-9)
    assert ((y - predictions) ** 2).mean() == pytest.approx(found["loss"], rel=1e-6)


@pytest.mark.parametrize("file", ["t.csv", "t.npz"])
def test_a_time_stamp_is_worth_as_much_after_training_as_in_it(
    file: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_stamps(tmp_path)
    seen: list[tuple[HostArray, HostArray]] = []
    original = fcnn.Trainer.fit

    def fit(self: fcnn.Trainer, X: HostArray, y: HostArray, **options: Any) -> fcnn.History:
        history = original(self, X, y, **options)
        seen.append((self.model.predict(X), y))
        return history

    monkeypatch.setattr(fcnn.Trainer, "fit", fit)
    arguments = ("--epochs", "60", "--lr", "0.02", "--test-fraction", "0", "--batch-size", "32")
    code, _, err = command("train", "--data", file, "--out", "run", *QUICK, *arguments)
    assert (code, err) == (0, "")
    [(in_training, labels)] = seen
    accuracy = (in_training.argmax(axis=1) == labels).mean()
    assert accuracy > 0.95
    code, out, _ = command("evaluate", "run/model.safetensors", "--data", file, "--part", "train", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] == pytest.approx(accuracy)
    code, out, _ = command("predict", "run/model.safetensors", file, "--proba")
    assert code == 0
    [_, *cells] = csv.reader(io.StringIO(out))
    np.testing.assert_allclose(np.array(cells)[:, 1:].astype(float), in_training, atol=2e-4)
    model = fcnn.load("run/model.safetensors", backend="numpy")
    assert (model.input_center is not None) == (file == "t.npz")
    assert (model.preparation is not None) == (file == "t.csv")


def test_a_file_of_one_row_is_predicted_as_among_others(command: Command, tmp_path: Path) -> None:
    time_stamps(tmp_path)
    command("train", "--data", "t.csv", "--out", "run", *QUICK, "--epochs", "20")
    _, out, _ = command("predict", "run/model.safetensors", "t.csv", "--drop", "label", "--proba")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([lines[0], lines[7]]))
    _, one, _ = command("predict", "run/model.safetensors", "one.csv", "--drop", "label", "--proba")
    among, alone = (list(csv.DictReader(io.StringIO(text))) for text in (out, one))
    assert float(alone[0]["p(odd)"]) == pytest.approx(float(among[6]["p(odd)"]), abs=1e-5)


# Folding


@pytest.mark.parametrize("make", BACKENDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_folding_costs_no_digits(make: type[Ops], data: st.DataObject) -> None:
    """A folded network gives on raw numbers what the network in training gave on standardized ones."""
    offsets = data.draw(st.lists(st.floats(0, 15), min_size=3, max_size=3), label="offsets")
    spreads = data.draw(st.lists(st.floats(-3, 6), min_size=3, max_size=3), label="spreads")
    assume(all(spread > offset - 11 for offset, spread in zip(offsets, spreads, strict=True)))
    dtype = data.draw(st.sampled_from(["float32", "float64"]), label="dtype")
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(40, 3)) * 10.0 ** np.array(spreads) + rng.choice([-1, 1], 3) * 10.0 ** np.array(offsets)
    X, y = raw[:, :2], raw[:, 2:]
    features, targets = Standardization.of(X), Standardization.of(y)
    model = fcnn.Sequential(
        [fcnn.Dense(6, activation="tanh"), fcnn.Dense(1)], n_in=2, seed=0, backend=make(), dtype=dtype
    )
    standardized = features.apply(X, dtype)
    np.testing.assert_allclose(standardized.std(axis=0, dtype=np.float64), 1.0, rtol=1e-3)
    before = model(standardized)
    fold_features(model, features)
    np.testing.assert_allclose(model(X), before, atol=1e-4)
    fold_targets(model, targets)
    after = (model(X).astype(np.float64) - targets.mean) / targets.scale
    np.testing.assert_allclose(after, before, atol=2e-4)
    assert (model.output_center is None) == targets.folds(dtype)


def test_means_are_folded_where_nothing_is_lost() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2)) + np.array([100.0, -3.0])
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
    fold_features(model, Standardization.of(X))
    assert model.input_center is None
    assert model.named_arrays()["0.b"].any()
    assert not Standardization.of(X).folds("bfloat16")  # in which even these would cancel


def test_spreads_that_weights_cannot_take_up_are_refused_before_training(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) * [1.0, 1e-37]
    np.savez(tmp_path / "a.npz", X=X, y=X[:, 0])
    message = r"Column 1 of the features spreads by .*e-38, .* float32 .* other units\.$"
    assert_mistake(command("train", "--data", "a.npz", *QUICK), message)
    Standardization.of(1e4 * X[:, :1]).check_units("bfloat16", "features")
    with pytest.raises(ValueError, match=r"Column 0 of the targets spreads by .* or train in another --precision"):
        Standardization.of(1e4 * X[:, :1]).check_units("float16", "targets")


def test_mean_and_spread_of_many_rows_far_from_0() -> None:
    left = np.random.default_rng(0).normal(size=(200_000, 1)) * 1e-3
    found = Standardization.of(1e9 + left)
    kept = (1e9 + left) - 1e9
    np.testing.assert_allclose(found.mean - 1e9, kept.mean(axis=0), atol=2e-7)  # a last digit of 10⁹
    np.testing.assert_allclose(found.scale, kept.std(axis=0), rtol=1e-6)
