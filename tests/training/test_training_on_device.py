"""Whole models on CupyOps: the same training as on NumPy, and nothing of a model that leaves the device on the way.

The emulated device array refuses NumPy functions and reads of single numbers (tests/support/emulated.py), so a layer,
loss, optimizer or trainer that works on NumPy arrays only fails here, on any machine.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops
from fcnn_gpu.training._diagnosis import DivergenceError

from ..support.small_runs import TooMuch
from ..support.tolerances import assert_close

OPTIMIZERS = ["sgd", "adam", "adamw", "rmsprop", "adagrad", "radam", "muon"]
LOSSES = ["cross_entropy", "kl_divergence", "focal", "mse", "mae", "huber", "binary_cross_entropy", "log_cosh"]
LOSSES += ["quantile", "poisson", "hinge"]


def data(loss: str) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(75, 12))
    if loss in ("cross_entropy", "focal"):
        return X, rng.integers(0, 4, 75)
    if loss == "kl_divergence":
        return X, rng.dirichlet(np.ones(4), 75)
    if loss in ("binary_cross_entropy", "hinge", "poisson"):
        return X, rng.integers(0, 2, size=(75, 4)).astype(np.float64)
    return X, rng.normal(size=(75, 4))


def network(ops: Ops, dtype: str) -> fcnn.Sequential:
    """Every kind of layer once.

    No bias and no β feed a batch normalization, which takes their effect out: a gradient that is zero but for rounding
    becomes a full step of Adam, and two correct runs part.
    """
    layers = [
        fcnn.Dense(10, activation="gelu", l2=1e-2),
        fcnn.Dropout(0.25),
        fcnn.Dense(8, bias=False),
        fcnn.BatchNorm(),
        fcnn.Activation("silu"),
        fcnn.Residual([fcnn.Dense(8, activation="leaky_relu", l1=1e-3), fcnn.LayerNorm()]),
        fcnn.Scale(),
        fcnn.Dense(9, parametrization="ntk"),
        fcnn.ParametricActivation("selu", alpha=0.8),
        fcnn.Dense(9),
        fcnn.PReLU(),
        fcnn.Dense(4),
    ]
    return fcnn.Sequential(layers, n_in=12, seed=3, dtype=dtype, backend=ops)


def trained(ops: Ops, loss: str, optimizer: Any, dtype: str = "float64") -> tuple[fcnn.Sequential, dict[str, Any]]:
    X, y = data(loss)
    model = network(ops, dtype)
    trainer = fcnn.Trainer(model, loss=loss, optimizer=copy.copy(optimizer))
    history = trainer.fit(X, y, epochs=2, batch_size=20, validation_data=(X, y), progress=False)
    kept = {k: v for k, v in history.to_dict().items() if "loss" in k or "penalty" in k}
    return model, {**kept, **trainer.evaluate(X, y)}


def check(device_ops: Ops, loss: str, optimizer: Any, dtype: str = "float64") -> None:
    model, history = trained(device_ops, loss, optimizer, dtype)
    reference, expected = trained(Ops(), loss, optimizer, dtype)
    X, _ = data(loss)
    assert isinstance(model.predict(X), np.ndarray)
    # Two epochs of four steps: the rounding of a run, and not of a single step.
    for name, value in expected.items():
        assert_close(np.asarray(history[name], dtype), np.asarray(value, dtype), "training", name)
    assert_close(model.predict(X), reference.predict(X), "training", "predictions")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(device_ops: Ops, optimizer: str, dtype: str) -> None:
    check(device_ops, "cross_entropy", optimizer, dtype)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(device_ops: Ops, loss: str) -> None:
    check(device_ops, loss, fcnn.SGD(0.05, momentum=0.9, nesterov=True))


@pytest.mark.parametrize("activation", [*ELEMENTWISE, "softmax"])
def test_every_activation(device_ops: Ops, activation: str) -> None:
    X, y = data("cross_entropy")
    results = []
    for ops in (device_ops, Ops()):
        layers = [fcnn.Dense(9, activation=activation), fcnn.Dense(4)]
        model = fcnn.Sequential(layers, n_in=12, seed=1, dtype="float64", backend=ops)
        fcnn.Trainer(model, loss="cross_entropy", optimizer="sgd").fit(X, y, epochs=2, batch_size=16, progress=False)
        results.append(model.predict(X))
    assert_close(results[0], results[1], "training", activation)


def test_weights_and_files(device_ops: Ops, tmp_path: Path) -> None:
    model, _ = trained(device_ops, "cross_entropy", "adam")
    model.save(tmp_path / "model.safetensors")
    again = fcnn.load(tmp_path / "model.safetensors", backend=device_ops)
    X, _ = data("cross_entropy")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    on_cpu = fcnn.load(tmp_path / "model.safetensors", backend="numpy")
    assert_close(on_cpu.predict(X), model.predict(X), "sum")


def test_a_diverging_run_stops_with_the_weights_from_before(device_ops: Ops) -> None:
    X, y = data("mse")
    y[50, 2] = 1e30  # its square is infinite in float32: the batch that holds this sample fails
    model = network(device_ops, "float32")
    trainer = fcnn.Trainer(model, loss="mse", optimizer="adam")
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DivergenceError, match="epoch 1"):
        trainer.fit(X, y, epochs=3, batch_size=20, progress=False)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("batch_size", [20, 75], ids=["four steps", "the run's only step"])
def test_an_update_that_overflows_is_taken_back(device_ops: Ops, batch_size: int) -> None:
    X, y = data("mse")
    model = network(device_ops, "float32")
    before = model.snapshot()
    trainer = fcnn.Trainer(model, "mse", fcnn.SGD(TooMuch(), momentum=0.9))
    with pytest.raises(DivergenceError, match="epoch 1, step 1: the update makes W in layer 0"):
        trainer.fit(X, y, epochs=1, batch_size=batch_size, progress=False)
    to_numpy = device_ops.to_numpy
    for name, array in model.snapshot().items():
        np.testing.assert_array_equal(to_numpy(array), to_numpy(before[name]), err_msg=name)
    assert not to_numpy(trainer.optimizer.state["velocity"]).any()
    assert int(to_numpy(trainer.optimizer.control.step)[0]) == 0


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_an_update_that_overflows_in_16_bits_is_taken_back(device_ops: Ops, precision: str) -> None:
    """The 16-bit copies of the weights and the loss scale as well."""
    X, y = data("mse")
    layers = [fcnn.Dense(8, activation="tanh"), fcnn.Dense(4)]
    model = fcnn.Sequential(layers, n_in=12, seed=3, precision=precision, backend=device_ops)
    before = model.snapshot()
    trainer = fcnn.Trainer(model, "mse", fcnn.Adam(TooMuch()))
    with pytest.raises(DivergenceError, match="epoch 1, step 1: the update makes W in layer 0"):
        trainer.fit(X, y, epochs=1, batch_size=20, progress=False)
    to_numpy, low = device_ops.to_numpy, model.flat.low
    for name, array in model.snapshot().items():
        np.testing.assert_array_equal(to_numpy(array), to_numpy(before[name]), err_msg=name)
    assert low is not None
    kept = to_numpy(model.flat.values)[: low.size].astype(to_numpy(low).dtype)
    np.testing.assert_array_equal(to_numpy(low), kept)


@pytest.mark.parametrize("clip", [{"clip_norm": 0.5}, {"clip_value": 0.01}], ids=["norm", "value"])
def test_weights_smoothing_clipping_schedule_and_metrics(device_ops: Ops, clip: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    X = rng.integers(0, 256, size=(75, 12)).astype(np.uint8)
    y, w = rng.integers(0, 4, 75), rng.uniform(0.5, 2.0, 75)
    results = []
    for ops in (device_ops, Ops()):
        model = network(ops, "float64")
        loss = fcnn.CrossEntropy(label_smoothing=0.1)
        schedule = fcnn.schedules.Warmup(fcnn.schedules.Cosine(0.05), 1)
        trainer = fcnn.Trainer(model, loss, fcnn.SGD(schedule, momentum=0.9, **clip), metrics=["accuracy"])
        options: dict[str, Any] = {"sample_weight": w, "class_weight": "balanced", "validation_split": 0.2}
        history = trainer.fit(X, y, epochs=3, batch_size=16, progress=False, **options).to_dict()
        results.append((history, model.predict(X)))
    for name, values in results[1][0].items():
        if name not in ("seconds", "samples_per_second"):
            assert_close(np.asarray(results[0][0][name]), np.asarray(values), "training", name)
    assert_close(results[0][1], results[1][1], "training", "predictions")


def test_best_weights_come_back(device_ops: Ops) -> None:
    X, y = data("mse")
    results = []
    for ops in (device_ops, Ops()):
        model = network(ops, "float64")
        trainer = fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(0.2))
        stopping = fcnn.EarlyStopping(patience=1)
        trainer.fit(X, y, epochs=6, batch_size=25, validation_split=0.3, callbacks=[stopping], progress=False)
        results.append(model.predict(X))
    assert_close(results[0], results[1], "training")


def test_the_explicit_loop(device_ops: Ops) -> None:
    X, y = data("cross_entropy")
    results = []
    for ops in (device_ops, Ops()):
        model = network(ops, "float64")
        loss, optimizer = fcnn.CrossEntropy(), fcnn.Adam(1e-2)
        optimizer.bind(model)
        values = []
        for _ in range(3):
            outputs = model.forward(X, training=True)
            values.append(float(loss.forward(outputs, y)))
            model.backward(loss.backward())
            optimizer.step()
        results.append((np.array(values), model.predict(X)))
    assert_close(results[0][0], results[1][0], "training")
    assert_close(results[0][1], results[1][1], "training")


def test_gradients_agree_with_central_differences(device_ops: Ops) -> None:
    X, y = data("cross_entropy")
    report = fcnn.gradient_check.check_model(network(device_ops, "float64"), "cross_entropy", X[:9], y[:9])
    assert report.passed, report


def test_reading_weights_and_summary(device_ops: Ops, capsys: pytest.CaptureFixture[str]) -> None:
    model = network(device_ops, "float32")
    dense: Any = model.layers[0]
    W = fcnn.to_numpy(dense.W)
    assert isinstance(W, np.ndarray)
    assert W.shape == (10, 12)
    model.summary()
    assert "10×12" in capsys.readouterr().out.replace(" ", "")
