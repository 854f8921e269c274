"""Networks that compute in 16 bits or TF32: what stays float32, what the 16 bits cost, and loss scaling."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.model._precision import resolve_precision

MIXED = ["bfloat16", "float16"]
ERROR = {"tf32": 2e-3, "bfloat16": 3e-2, "float16": 3e-3}
"""Relative to the largest element: a few units of 11, 8 and 11 significant bits."""


def stack() -> list[Any]:
    """Every kind of layer."""
    return [
        fcnn.Dense(20, activation="relu", l2=1e-3),
        fcnn.BatchNorm(),
        fcnn.Dropout(0.2),
        fcnn.Residual([fcnn.Dense(20, activation="gelu"), fcnn.LayerNorm()]),
        fcnn.Residual([fcnn.Dense(11, activation="tanh")]),
        fcnn.Activation("silu"),
        fcnn.Dense(12, parametrization="ntk"),
        fcnn.Scale(),
        fcnn.ParametricActivation("gelu", alpha=0.8),
        fcnn.Dense(4),
    ]


def network(ops: Ops | str, precision: str | None, layers: list[Any] | None = None) -> fcnn.Sequential:
    return fcnn.Sequential(layers or stack(), n_in=12, seed=3, backend=ops, precision=precision)


def dense(model: fcnn.Sequential) -> fcnn.Dense:
    """The first layer."""
    layer = model.layers[0]
    assert isinstance(layer, fcnn.Dense)
    return layer


def blobs(n: int = 150) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(7)
    y = rng.integers(0, 4, n)
    return (rng.normal(size=(4, 12))[y] + 0.5 * rng.normal(size=(n, 12))).astype(np.float32), y


def fitted(ops: Ops, precision: str, **options: Any) -> tuple[fcnn.Trainer, fcnn.History]:
    X, y = blobs()
    trainer = fcnn.Trainer(network(ops, precision), optimizer=fcnn.Adam(3e-3), metrics=["accuracy"])
    defaults: dict[str, Any] = {"epochs": 3, "batch_size": 32, "validation_data": (X, y), "progress": False}
    return trainer, trainer.fit(X, y, **(defaults | options))


# Names


def test_none_is_the_dtype() -> None:
    for dtype in ("float32", "float64"):
        model = fcnn.Sequential([fcnn.Dense(2)], n_in=3, backend="numpy", dtype=dtype)
        assert (model.precision, model.dtype, model.compute_dtype) == (dtype, dtype, dtype)
        assert "precision" not in repr(model)


@pytest.mark.parametrize(
    ("precision", "dtype", "message"),
    [
        (
            "float64",
            "float32",
            r"precision='float64'\) needs dtype='float64', got dtype='float32'. Leave",
        ),
        ("float32", "float64", r"needs dtype='float32'"),
        ("float16", "float64", r"keeps its parameters in float32, got dtype='float64'. Leave dtype out"),
        ("tf32", "float64", r"keeps its parameters in float32"),
        ("bf16", "float32", r"Sequential\(precision\) does not know 'bf16'|Sequential\(precision\)"),
    ],
)
def test_names_and_combinations_that_are_refused(precision: str, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fcnn.Sequential([fcnn.Dense(2)], n_in=3, dtype=dtype, precision=precision, backend="numpy")


@pytest.mark.parametrize("precision", ["tf32", *MIXED])
def test_numpy_refuses_with_the_reason(precision: str) -> None:
    with pytest.raises(ValueError, match=rf"precision='{precision}' needs the tensor cores of a GPU"):
        network("numpy", precision)


def test_bfloat16_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match="pip install ml_dtypes"):
        resolve_precision("bfloat16", np.dtype(np.float32))


# What has which dtype


@pytest.mark.parametrize("precision", MIXED)
def test_parameters_and_results_are_float32_and_activations_are_not(device_ops: Ops, precision: str) -> None:
    trainer, _ = fitted(device_ops, precision)
    model = trainer.model
    X, _ = blobs()
    assert model.dtype == np.float32
    assert model.compute_dtype.name == precision
    first = dense(model)
    arrays = [first.W, first.dW, model.named_arrays()["1.running_mean"]]
    for array in (*arrays, *trainer.optimizer.state.values()):
        assert array.dtype == np.float32
    assert model.forward(X).dtype.name == precision
    assert model(X).dtype == model.predict(X).dtype == np.float32
    np.testing.assert_allclose(model.predict(X).sum(1), 1.0, rtol=1e-6)  # a softmax of float32


@pytest.mark.parametrize("precision", MIXED)
def test_the_copy_of_the_weights_is_the_weights_rounded(device_ops: Ops, precision: str) -> None:
    trainer, _ = fitted(device_ops, precision)
    flat = trainer.model.flat
    low, values = device_ops.to_numpy(flat.low), device_ops.to_numpy(flat.values)
    n_weights = sum(p.value.size for p in trainer.model.parameters if p.is_weight)
    assert low.size == n_weights < values.size
    np.testing.assert_array_equal(low, values[:n_weights].astype(low.dtype))


@pytest.mark.parametrize("precision", MIXED)
def test_weights_that_the_user_writes_count(device_ops: Ops, precision: str) -> None:
    model = network(device_ops, precision, [fcnn.Dense(4, bias=False)])
    W = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    device_ops.assign(dense(model).W, W)
    X, _ = blobs()
    assert_near(model(X), X @ W.T, precision)
    W *= -2
    device_ops.assign(dense(model).W, W)
    assert_near(device_ops.to_numpy(model.forward(X)).astype(np.float32), X @ W.T, precision)


def assert_near(actual: HostArray, expected: HostArray, precision: str) -> None:
    assert np.abs(actual - expected).max() <= ERROR[precision] * np.abs(expected).max()


# What the precision costs


@pytest.mark.parametrize("precision", ["tf32", *MIXED])
def test_the_gradient_is_that_of_float32_up_to_rounding(device_ops: Ops, precision: str) -> None:
    X, y = blobs()
    flat = []
    for name in (precision, "float32"):
        model = network(device_ops, name)
        loss = fcnn.losses.CrossEntropy()
        loss.forward(model.forward(X, training=True), y)
        model.backward(loss.backward())
        flat.append(device_ops.to_numpy(model.flat.gradients))
    actual, expected = flat
    assert actual.dtype == np.float32
    cosine = actual @ expected / (np.linalg.norm(actual) * np.linalg.norm(expected))
    assert cosine > 1 - 10 * ERROR[precision] ** 2
    assert np.linalg.norm(actual - expected) < 3 * ERROR[precision] * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ["tf32", *MIXED])
def test_training_gets_where_float32_gets(device_ops: Ops, precision: str) -> None:
    _, expected = fitted(device_ops, "float32")
    _, actual = fitted(device_ops, precision)
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(actual[column], expected[column], rtol=0.05)
    assert actual["loss"][-1] < 0.9 * actual["loss"][0]


@pytest.mark.parametrize("precision", ["tf32", *MIXED])
def test_graph_and_eager_give_the_same_bits(device_ops: Ops, precision: str) -> None:
    runs = [fitted(device_ops, precision, capture=capture)[0] for capture in (True, False)]
    graph, eager = ({k: device_ops.to_numpy(v) for k, v in t.model.named_arrays().items()} for t in runs)
    for name, value in eager.items():
        np.testing.assert_array_equal(graph[name], value, err_msg=name)


# Loss scaling


def steep(ops: Ops, rate: float = 1e-5) -> tuple[fcnn.Trainer, HostArray, HostArray]:
    """A regression whose gradients overflow float16 at the first loss scale."""
    X, _ = blobs()
    Y = 300.0 * X[:, :2]
    model = network(ops, "float16", [fcnn.Dense(8, activation="tanh"), fcnn.Dense(2)])
    return fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(rate)), X, Y


def test_small_gradients_survive_in_float16(device_ops: Ops) -> None:
    """∂L/∂Z of a batch of 150 and targets of ±1e−7 is below float16's smallest number: unscaled, it is 0."""
    X, _ = blobs()
    Y = 1e-6 * X[:, :2]
    model = network(device_ops, "float16", [fcnn.Dense(2, init="zeros", bias=False)])
    fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(1.0)).fit(X, Y, epochs=1, batch_size=150, progress=False)
    W = device_ops.to_numpy(dense(model).W)
    expected = Y.T @ X / 150  # −∂L/∂W at 0, of a mean over two outputs
    np.testing.assert_allclose(W, expected, rtol=0.02, atol=1e-9)


def test_a_step_that_overflows_is_skipped_and_the_scale_halves(device_ops: Ops) -> None:
    trainer, X, Y = steep(device_ops)
    history = trainer.fit(X, Y, epochs=4, batch_size=50, progress=False)
    skipped, scale = history["skipped_steps"], history["loss_scale"]
    assert skipped[0] > 0
    assert scale[-1] == 2.0**16 / 2.0 ** sum(skipped)
    assert history["loss"][-1] < history["loss"][0]
    done = int(device_ops.to_numpy(trainer.optimizer.control.step)[0])
    assert done + sum(skipped) == 4 * 3


def test_the_scale_goes_on_from_one_call_of_fit_to_the_next(device_ops: Ops) -> None:
    trainer, X, Y = steep(device_ops)
    first = trainer.fit(X, Y, epochs=4, batch_size=50, progress=False)
    second = trainer.fit(X, Y, epochs=1, batch_size=50, progress=False)
    assert second["loss_scale"][0] <= first["loss_scale"][-1]
    assert second["skipped_steps"][0] <= 1


def test_only_float16_scales(device_ops: Ops) -> None:
    _, history = fitted(device_ops, "bfloat16", epochs=1)
    assert "loss_scale" not in history.to_dict()


def test_divergence_is_still_found(device_ops: Ops) -> None:
    trainer, X, Y = steep(device_ops, rate=1e12)
    with pytest.raises(fcnn.DivergenceError, match="not finite"):
        trainer.fit(X, Y, epochs=30, batch_size=50, progress=False)
    assert np.isfinite(device_ops.to_numpy(trainer.model.flat.values)).all()


def test_the_explicit_loop_after_fit_has_the_gradients_of_the_loss_itself(device_ops: Ops) -> None:
    X, y = blobs()
    model = network(device_ops, "float16", [fcnn.Dense(4)])
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.5))
    trainer.fit(X, y, epochs=1, batch_size=150, progress=False)
    before = device_ops.to_numpy(model.flat.values).copy()
    loss = fcnn.losses.CrossEntropy()
    loss.forward(model.forward(X, training=True), y)
    model.backward(loss.backward())
    trainer.optimizer.step()
    gradient = device_ops.to_numpy(model.flat.gradients)
    np.testing.assert_allclose(device_ops.to_numpy(model.flat.values), before - 0.5 * gradient, rtol=1e-5, atol=1e-7)


def test_a_loss_of_the_users_own_that_cannot_be_scaled_is_refused(device_ops: Ops) -> None:
    class Own(fcnn.losses.MSE):
        def compute(  # type: ignore[override]
            self, ops: Ops, Z: Any, targets: Any, sample_weight: Any, losses: Any, dZ: Any
        ) -> None:
            super().compute(ops, Z, targets, sample_weight, losses, dZ)

    model = network(device_ops, "float16", [fcnn.Dense(2)])
    with pytest.raises(TypeError, match=r"Own.compute has no parameter loss_scale"):
        fcnn.Trainer(model, loss=Own())


# Callbacks, files, copies


@pytest.mark.parametrize("precision", MIXED)
def test_weights_that_a_callback_sets_count(device_ops: Ops, precision: str) -> None:
    class Reset(Callback):
        def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
            trainer.model.ops.fill(dense(trainer.model).W, 0.25)

    X, y = blobs()
    model = network(device_ops, precision, [fcnn.Dense(4, bias=False)])
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.0))
    trainer.fit(X, y, epochs=1, batch_size=50, progress=False, callbacks=[Reset()])
    assert (device_ops.to_numpy(model.flat.low).astype(np.float32) == 0.25).all()


@pytest.mark.parametrize("precision", ["tf32", *MIXED])
def test_a_file_keeps_the_precision_and_a_cpu_takes_float32(
    device_ops: Ops, precision: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, _ = fitted(device_ops, precision, epochs=1)
    path = tmp_path / "model.safetensors"
    trainer.model.save(path)
    again = fcnn.load(path, backend=device_ops)
    assert again.precision == precision
    X, _ = blobs()
    np.testing.assert_array_equal(again(X), trainer.model(X))
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        on_cpu = fcnn.load(path, backend="numpy")
    assert on_cpu.precision == "float32"
    assert precision in caplog.text
    np.testing.assert_allclose(on_cpu(X), trainer.model(X), atol=4 * ERROR[precision] * np.abs(on_cpu(X)).max())


def test_the_summary_says_the_precision(device_ops: Ops, capsys: pytest.CaptureFixture[str]) -> None:
    network(device_ops, "bfloat16").summary()
    assert "bfloat16" in capsys.readouterr().out
