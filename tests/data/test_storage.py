"""Samples stored as bytes or in 16 bits, cast and scaled as they enter the network: the same numbers everywhere."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data._device_data import DeviceData, InputMap
from fcnn_gpu.data._input_checks import features
from fcnn_gpu.data._supply import ArraySupply
from fcnn_gpu.training._evaluation import EvaluationData

N, N_IN, N_CLASSES = 60, 5, 3
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, size=(N, N_IN)).astype(np.uint8)
Y = RNG.integers(0, N_CLASSES, N)
SCALES = [(1.0, 0.0), (1 / 255, 0.0), (1 / 255, -0.5), (1.0, 3.0), (-2.0, 0.25)]


def network(ops: Ops | str, **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(7, activation="tanh"), fcnn.Dropout(0.1), fcnn.Dense(N_CLASSES)]
    return fcnn.Sequential(layers, n_in=N_IN, seed=2, backend=ops, **options)


def seen(x: Any, scale: float, shift: float, dtype: Any) -> Any:
    """scale·x + shift by hand: a product and a sum in `dtype`, each rounded."""
    return (x.astype(dtype) * np.dtype(dtype).type(scale)).astype(dtype) + np.dtype(dtype).type(shift)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("source", "scale", "shift"),
    [
        *(("uint8", *numbers) for numbers in SCALES),
        *((source, *SCALES[i]) for source in ("float16", "float32", "float64", "int32", "bool") for i in (0, 2)),
    ],
)
def test_a_model_with_a_scale_is_one_without_on_scaled_data(
    ops: Ops, source: str, dtype: str, scale: float, shift: float
) -> None:
    x = PIXELS.astype(source)
    by_hand = seen(x, scale, shift, dtype)
    results = []
    for X, options in ((x, {"input_scale": scale, "input_shift": shift}), (by_hand, {})):
        model = network(ops, dtype=dtype, **options)
        trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.01), metrics=["accuracy"])
        history = trainer.fit(X, Y, epochs=2, batch_size=16, validation_data=(X, Y), progress=False).to_dict()
        losses = [history[name] for name in ("loss", "val_loss", "accuracy", "val_accuracy")]
        parts = [ops.to_numpy(model.flat.values).copy(), ops.to_numpy(model.forward(X, training=True)).copy()]
        results.append(
            [*losses, *parts, model(X), model.predict(X, batch_size=7), list(trainer.evaluate(X, Y).values())]
        )
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("source", ["uint8", "float16"])
def test_samples_stay_as_they_are_on_the_device(ops: Ops, source: str) -> None:
    X = PIXELS.astype(source)
    model = network(ops, input_scale=1 / 255)
    taken = features(ops, X, N_IN, model.dtype, "fit")
    data = DeviceData(ops, taken.whole(), Y, None, 16, model.input_map)
    assert data.X.dtype == source
    assert data.views(16).X.dtype == np.float32
    assert EvaluationData(model, ArraySupply(taken, Y, None))._samples.X.dtype == source


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("uint8", "uint8"),
        ("bool", "uint8"),
        ("float16", "float16"),
        (">f2", "float16"),
        ("float32", "float32"),
        (">f4", "float32"),
        ("float64", "float32"),
        ("int8", "float32"),
        ("uint16", "float32"),
        ("int64", "float32"),
    ],
)
def test_what_each_dtype_is_stored_as(given: str, stored: str) -> None:
    X = (PIXELS % 100).astype(given)
    taken = features(Ops(), X, N_IN, np.float32, "fit")
    whole = taken.whole()
    assert taken.dtype == whole.dtype == np.dtype(stored)
    assert whole.dtype.isnative
    assert taken.nbytes == whole.nbytes
    np.testing.assert_array_equal(whole, X)
    assert np.shares_memory(whole, X) == (given in (stored, "bool"))


def test_the_gradient_with_respect_to_x_has_the_scale(ops: Ops) -> None:
    model = network(ops, dtype="float64", input_scale=0.25, input_shift=-1.0)
    X = RNG.normal(size=(9, N_IN))
    report = fcnn.gradient_check.check_model(model, "cross_entropy", X, Y[:9])
    assert report.passed, report


def test_a_model_keeps_its_scale(ops: Ops, tmp_path: Path) -> None:
    model = network(ops, input_scale=1 / 255, input_shift=-0.1307)
    expected = model(PIXELS)
    model.save(tmp_path / "model.safetensors")
    again = fcnn.load(tmp_path / "model.safetensors", backend=ops)
    assert (again.input_scale, again.input_shift) == (1 / 255, -0.1307)
    np.testing.assert_array_equal(again(PIXELS), expected)
    if ops.name == "numpy":
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(other(PIXELS), expected)


def test_files_without_a_scale_load_and_with_one_are_kept_from_older_releases(tmp_path: Path) -> None:
    from safetensors import safe_open

    def version(model: fcnn.Sequential) -> str:
        path = tmp_path / "m.safetensors"
        model.save(path)
        with safe_open(path, framework="numpy") as file:
            return str(file.metadata()["format_version"])

    assert version(network("numpy")) == "1"
    assert version(network("numpy", input_scale=2.0)) == version(network("numpy", input_shift=-1.0)) == "2"
    config = network("numpy").config()
    old = json.loads(json.dumps({k: v for k, v in config.items() if not k.startswith("input_")}))
    model = fcnn.Sequential.from_config(old, "numpy")
    assert (model.input_scale, model.input_shift) == (1.0, 0.0)


def test_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "input" not in repr(network("numpy"))
    model = network("numpy", input_scale=0.5, input_shift=-1)
    assert repr(model).endswith("dtype='float32', input_scale=0.5, input_shift=-1)")
    model.summary()
    assert "input_scale=0.5, input_shift=-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_scale": 0.0}, ValueError, r"Sequential\(input_scale\) expects a number other than 0"),
        ({"input_scale": np.nan}, ValueError, r"Sequential\(input_scale\) expects a finite number"),
        ({"input_scale": "1/255"}, TypeError, r"Sequential\(input_scale\) expects a number"),
        ({"input_shift": np.inf}, ValueError, r"Sequential\(input_shift\) expects a finite number"),
        ({"input_shift": None}, TypeError, r"Sequential\(input_shift\) expects a number"),
    ],
)
def test_scales_that_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network("numpy", **options)


def test_what_is_seen_as_it_is_is_not_copied(ops: Ops) -> None:
    X = ops.asarray(PIXELS.astype(np.float32))
    assert InputMap(np.dtype(np.float32)).apply(ops, X) is X
    assert InputMap(np.dtype(np.float32), 2.0).apply(ops, X) is not X
    assert InputMap(np.dtype(np.float64)).apply(ops, X) is not X
    mapped = InputMap(np.dtype(np.float64), 0.5, 1.0).apply(ops, X)
    np.testing.assert_array_equal(ops.to_numpy(mapped), PIXELS * 0.5 + 1.0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_found_in_every_dtype(dtype: str, bad: float) -> None:
    X = PIXELS.astype(dtype)
    X[7, 2] = bad
    for scale in (1.0, 0.5):
        model = network("numpy", input_scale=scale)
        with pytest.raises(ValueError, match=rf"model: X holds {bad} \(first in row 7, column 2\)"):
            model(X, batch_size=3)
        with pytest.raises(ValueError, match=rf"fit: X holds {bad} \(first in row 7, column 2\)"):
            fcnn.Trainer(model).fit(X, Y, validation_split=0.2, progress=False)


def test_a_large_float16_is_finite_though_its_square_is_not() -> None:
    X = np.full((4, N_IN), 60000, np.float16)
    assert np.isfinite(network("numpy", input_scale=1e-5)(X)).all()


def test_a_scale_may_be_taken_from_an_integer_or_numpy_number() -> None:
    model = network("numpy", input_scale=np.float64(2), input_shift=1)
    assert json.dumps(model.config())
    assert (model.input_scale, model.input_shift) == (2.0, 1.0)


def test_an_input_that_overflows_is_named(ops: Ops) -> None:
    X = np.full((8, N_IN), 1e20, np.float32)
    trainer = fcnn.Trainer(network(ops, input_scale=1e30, input_shift=1.0))
    message = r"epoch 1, step 1: the network's input, 1e\+30·X \+ 1 in float32, is not finite, though X is"
    with np.errstate(over="ignore"), pytest.raises(fcnn.DivergenceError, match=message):
        trainer.fit(X, Y[:8], progress=False)


def test_an_input_beyond_float16_is_named(device_ops: Ops) -> None:
    X = np.full((8, N_IN), 1e6, np.float32)
    trainer = fcnn.Trainer(network(device_ops, precision="float16"))
    with pytest.raises(fcnn.DivergenceError, match="the network's input, X in float16, is not finite, though X is"):
        trainer.fit(X, Y[:8], progress=False)
