"""Weights on the host or on disk beside a device: tiles travel on a stream of their own, moments too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.placement import _plan
from tests.cuda_on_cpu import missing_compiler
from tests.support.counted import fresh_emulated_ops

from ..support import placement_cases as cases
from ..support.placement_cases import N_IN, OPTIMIZERS, PLACES, X, Y, assert_equal, fit, stored_network

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
X32 = X.astype("float32")


class AtTheEnd(fcnn.Callback):
    """Calls a function at the end of an epoch, when everything that training needs is still there."""

    def __init__(self, read: Callable[[], int]) -> None:
        self.read, self.found = read, 0

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        self.found = self.read()


def weights(model: fcnn.Sequential) -> dict[str, Any]:
    return {name: np.array(model.ops.to_numpy(array)) for name, array in model.named_arrays().items()}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["momentum", "adamw", "adagrad"])
def test_training_is_that_of_weights_on_the_device(device_ops: Ops, name: str, place: str) -> None:
    plain = fit(cases.network(fcnn.Dense, fcnn.Dense, backend=device_ops), OPTIMIZERS[name](), epochs=2)
    found = fit(stored_network(place, 7, backend=device_ops), OPTIMIZERS[name](), epochs=2)
    expected = weights(plain.model)
    for key, value in weights(found.model).items():
        np.testing.assert_allclose(value, expected[key], rtol=2e-3, atol=2e-5, err_msg=key)
    np.testing.assert_allclose(found.history["loss"], plain.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(found.history["penalty"], plain.history["penalty"], rtol=1e-4)


@pytest.mark.parametrize("rows", [2, 33])
def test_the_host_and_the_disk_give_the_same_bits(device_ops: Ops, rows: int) -> None:
    a, b = (
        weights(fit(stored_network(place, rows, backend=device_ops), fcnn.Adam(0.01), epochs=2).model)
        for place in PLACES
    )
    assert_equal(a, b)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_precisions(device_ops: Ops, precision: str, place: str) -> None:
    """16-bit copies of tiles are rounded on the device; weights, moments and gradients stay in float32."""
    options: dict[str, Any] = {"backend": device_ops, "precision": precision}
    plain = fit(cases.network(fcnn.Dense, fcnn.Dense, **options), fcnn.SGD(0.05), epochs=2)
    found = fit(stored_network(place, 7, **options), fcnn.SGD(0.05), epochs=2)
    expected = weights(plain.model)
    for key, value in weights(found.model).items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[key], rtol=0.05, atol=0.01, err_msg=key)
    if precision == "float16":
        assert found.history["loss_scale"] == plain.history["loss_scale"]
        assert found.history["skipped_steps"] == plain.history["skipped_steps"]


@pytest.mark.parametrize("place", PLACES)
def test_a_step_that_overflows_16_bits_is_skipped(device_ops: Ops, place: str) -> None:
    model = fcnn.Sequential(
        [fcnn.Dense(9, activation="relu", placement=place), fcnn.Dense(3, placement=place, bias=False)],
        N_IN,
        seed=0,
        backend=device_ops,
        precision="float16",
    )
    trainer = fit(model, fcnn.SGD(1e-4), epochs=1, batch_size=50)
    assert trainer.history["skipped_steps"] == [0]
    before = weights(model)
    assert trainer._loss_scaling is not None
    device_ops.fill(trainer._loss_scaling.scale, 2.0**24)
    trainer.fit(100.0 * X32, Y, epochs=1, batch_size=50, progress=False)
    assert trainer.history["skipped_steps"] == [1]
    assert_equal(weights(model), before)


def test_clipping_by_norm(device_ops: Ops) -> None:
    plain = fit(cases.network(fcnn.Dense, fcnn.Dense, backend=device_ops), fcnn.SGD(0.05, clip_norm=0.05), epochs=1)
    found = fit(stored_network("host", 5, backend=device_ops), fcnn.SGD(0.05, clip_norm=0.05), epochs=1)
    scales = [float(device_ops.to_numpy(t.optimizer.control.clip_scale)[0]) for t in (plain, found)]
    assert scales[0] < 0.9
    np.testing.assert_allclose(scales[1], scales[0], rtol=1e-4)


def test_a_folder_of_one_device_is_opened_on_another(device_ops: Ops, tmp_path: Path) -> None:
    trainer = fit(stored_network("disk", 5, backend=device_ops, storage=tmp_path), fcnn.Adam(0.01), epochs=1)
    expected = weights(trainer.model)
    trainer.model.close()
    again = fcnn.load(tmp_path, backend="numpy")
    assert_equal(weights(again), expected)
    fit(again, fcnn.Adam(0.01), epochs=1)


@pytest.mark.parametrize("place", PLACES)
def test_reading_and_writing_from_the_host(device_ops: Ops, place: str) -> None:
    model = stored_network(place, 5, backend=device_ops)
    snapshot = model.snapshot()
    W: Any = model.named_arrays()["0.W"]
    before = np.asarray(W)
    W[3:5] = 1.5
    assert (np.asarray(W)[3:5] == 1.5).all()
    model.restore(snapshot)
    np.testing.assert_array_equal(np.asarray(W), before)
    loss = fcnn.losses.CrossEntropy()
    loss.forward(model.forward(X32, training=True), Y)
    model.backward(loss.backward())
    dW: Any = model.parameters[0].gradient
    dZ, A0 = (device_ops.to_numpy(x).astype(float) for x in model.stored.weights[0].factors)  # type: ignore[union-attr]
    np.testing.assert_allclose(np.asarray(dW), dZ @ A0.T, rtol=1e-3, atol=1e-5)


def test_auto_takes_the_host_if_it_has_room(monkeypatch: pytest.MonkeyPatch, device_ops: Ops) -> None:
    layers = [_plan.Weights("auto", 100, 100)]
    precision = cases.network(fcnn.Dense, fcnn.Dense)._precision
    for free, place in ((200_000, "host"), (100_000, "disk"), (None, "disk")):
        plan = _plan.plan_placement(layers, 10, device_ops, precision, 50_000, None, lambda free=free: free)  # type: ignore[misc]
        assert plan.places == (place,)


@needs_compiler
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_device_memory_is_what_the_report_says(place: str, precision: str | None) -> None:
    ops, counter = fresh_emulated_ops()
    workspace = counter.nbytes
    layers = [
        fcnn.Dense(200, activation="relu", placement=place, l2=1e-3),
        fcnn.Dropout(0.5),
        fcnn.Dense(64, placement=place, activation="tanh"),
        fcnn.Dense(3),
    ]
    model = fcnn.Sequential(layers, 500, seed=0, backend=ops, precision=precision, memory_limit=400_000)
    assert model.stored is not None
    assert model.stored.weights[0].tile_rows < 50
    report = model.memory_report(16, "adam", data=32)
    X_large = np.random.default_rng(0).normal(size=(32, 500)).astype("float32")
    trainer = fcnn.Trainer(model, optimizer="adam")
    end = AtTheEnd(lambda: counter.nbytes)
    trainer.fit(X_large, np.arange(32) % 3, epochs=1, batch_size=16, progress=False, callbacks=[end])
    used = end.found - workspace
    total = report.total - report.workspace
    assert abs(total - used) <= 0.02 * used + 2048, f"{used:,} bytes used\n{report}"
    parts = report.parameters + report.gradients + report.optimizer + report.tiles
    assert parts <= 400_000 + 4096
    assert report.disk == pytest.approx(0 if place == "host" else 2 * 3 * 4 * (500 * 200 + 200 * 64), rel=0.01)
    if place == "host":
        assert report.host >= 3 * 4 * (500 * 200 + 200 * 64)
