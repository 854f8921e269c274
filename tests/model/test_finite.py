"""Networks whose numbers are none: what they predict, and that they are neither saved nor loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.datasets import open_arrays
from fcnn_gpu.files import ModelFile, write_model
from fcnn_gpu.model import _save_and_load as saving
from tests.support.cli_cases import Command, assert_mistake
from tests.support.estimator_cases import classifier, regressor

X = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)


def _network(n_out: int = 1, placement: str = "device", **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(4, activation="relu", placement=placement), fcnn.BatchNorm(), fcnn.Dense(n_out)]
    return fcnn.Sequential(layers, 3, seed=0, backend="numpy", **options)


def _set(model: fcnn.Sequential, name: str, value: float) -> fcnn.Sequential:
    array = model.named_arrays()[name]
    array[(-1,) * array.ndim] = value
    return model


PREDICTIONS: dict[str, Callable[[fcnn.Sequential], Any]] = {
    "model": lambda model: model(X),
    "predict": lambda model: model.predict(X),
    "predict in batches": lambda model: model.predict(X, batch_size=3),
    "predict_classes": lambda model: model.predict_classes(X),
    "a source": lambda model: model.predict(open_arrays(X, block_size=3)),
    "infer": lambda model: model.infer(X, "sigmoid"),
    "Trainer.predict": lambda model: fcnn.Trainer(model, "mse").predict(X),
}


@pytest.mark.parametrize("predict", PREDICTIONS.values(), ids=list(PREDICTIONS))
@pytest.mark.parametrize("n_out", [1, 3])
def test_no_prediction_of_a_network_with_nan_weights(predict: Callable[[fcnn.Sequential], Any], n_out: int) -> None:
    fault = r"output 0 of sample 0 is nan, though X is finite: .* 0.b holds NaN"
    with pytest.raises(fcnn.NonFiniteOutputError, match=fault) as error:
        predict(_set(_network(n_out), "0.b", np.nan))
    assert error.value.sample == 0


def test_a_variance_below_0() -> None:
    with pytest.raises(fcnn.NonFiniteOutputError, match=r"of sample 0 is nan"):
        _set(_network(), "1.running_var", -1.0)(X)


def test_a_sum_that_overflows_names_the_sample() -> None:
    rows = X.copy()
    rows[5] = 3e38
    model = _network()
    fault = r"sample 5 .* a sum has left the range of float32. Scale X"
    with pytest.raises(fcnn.NonFiniteOutputError, match=fault) as error:
        model.predict(rows)
    assert error.value.sample == 5
    assert np.isfinite(model.predict(np.delete(rows, 5, axis=0))).all()
    assert np.isfinite(_network(dtype="float64").predict(rows)).all()


def test_large_but_finite_outputs_pass() -> None:
    outputs = _set(_network(), "2.b", 3e38).predict(X)
    assert (outputs > 2e38).all()


def test_evaluate_gives_no_nan() -> None:
    model = _set(_network(), "0.b", np.nan)
    with pytest.raises(fcnn.NonFiniteOutputError, match="evaluate: the loss is nan, though X and y are finite"):
        fcnn.Trainer(model, "mse").evaluate(X, X[:, 0])


def test_estimators_predict_no_nan() -> None:
    one, many = regressor().fit(X, X[:, 0]), classifier().fit(X, X[:, 0] > 0)
    for network, method in ((one, one.predict), (many, many.predict), (many, many.predict_proba)):
        network.model_.layers[0].W[...] = np.nan
        with pytest.raises(fcnn.NonFiniteOutputError, match="holds NaN or infinity"):
            method(X)


@pytest.mark.parametrize(
    ("name", "value", "stored", "fault"),
    [
        ("0.W", np.nan, "0.weight", "holds NaN or infinity"),
        ("2.b", -np.inf, "3.bias", "holds NaN or infinity"),
        ("1.gamma", np.inf, "2.weight", "holds NaN or infinity"),
        ("1.running_mean", np.nan, "2.running_mean", "holds NaN or infinity"),
        ("1.running_var", -1e-3, "2.running_var", "holds -0.001, and no variance is negative"),
    ],
)
@pytest.mark.parametrize("place", ["device", "host"])
def test_a_file_of_such_a_network(place: str, name: str, value: float, stored: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = _network(placement=place)
    model.save(path)
    before = path.read_bytes()
    _set(model, name, value)
    with pytest.raises(ValueError, match=rf"model.save: {stored} {fault}. Nothing has been written"):
        model.save(path)
    assert path.read_bytes() == before
    write_model(path, ModelFile(model.config(), saving.torch_state(model), {}, {}))
    with pytest.raises(fcnn.ModelFileError, match=rf"{path.name}: {stored} {fault}\.$"):
        fcnn.load(path, backend="numpy")


def test_a_folder_of_such_a_network(tmp_path: Path) -> None:
    layers = [fcnn.Dense(4, placement="disk"), fcnn.BatchNorm(), fcnn.Dense(1)]
    model = fcnn.Sequential(layers, 3, seed=0, backend="numpy", storage=tmp_path)
    _set(model, "1.running_var", -1.0)
    model.restore(model.snapshot())  # which commits
    model.close()
    with pytest.raises(fcnn.StorageError, match=r"1.running_var holds -1, and no variance is negative"):
        fcnn.load(tmp_path, backend="numpy")


def test_the_command_ends_with_an_error(command: Command, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,c\n1,2,3\n3e38,3e38,3e38\n")
    fcnn.Trainer(model := _network(), "mse")
    model.save(tmp_path / "model.safetensors")
    message = "output 0 of sample 1 is .*, though X is finite"
    assert_mistake(command("predict", "model.safetensors", "rows.csv"), message, code=1)
