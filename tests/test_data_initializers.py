"""Initial values that look at data: "std" and "he+5", made layer by layer on the first batch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data._device_data import epoch_order
from fcnn_gpu.initializers import HePlus, UnitStd

SETTINGS: dict[str, Any] = {"init": "std", "bias_init": "he+5"}


def samples(n: int = 300) -> HostArray:
    return (np.random.default_rng(3).normal(size=(n, 5)) * [1, 30, 0.01, 2, 1] + [0, 5, 0, -9, 1]).astype(np.float32)


def network(backend: Any = "numpy", seed: int = 4, **options: Any) -> fcnn.Sequential:
    layers = [
        fcnn.Dense(30, parametrization="ntk", activation="selu", **SETTINGS),
        fcnn.Residual([fcnn.Dense(20, activation="tanh", **SETTINGS), fcnn.BatchNorm()], init="std"),
        fcnn.Dense(8, bias=False, init="std", parametrization="ntk"),
    ]
    return fcnn.Sequential(layers, n_in=5, seed=seed, backend=backend, **options)


def products(model: fcnn.Sequential, X: HostArray) -> list[HostArray]:
    """What each Dense layer's weights alone give, on its input in training (without dropout there is no chance)."""
    found = []

    def through(layer: Any, A: HostArray) -> HostArray:
        if isinstance(layer, fcnn.Dense):
            Z = layer.gain * np.asarray(model.ops.to_numpy(layer.W), np.float64) @ A
            found.append(Z)
            Z = Z + (np.asarray(model.ops.to_numpy(layer.b), np.float64) if layer.bias else 0.0)
            if layer.activation.name == "selu":
                return 1.0507009873554805 * np.where(Z > 0, Z, 1.6732632423543772 * np.expm1(np.minimum(Z, 0)))
            return np.tanh(Z) if layer.activation.name == "tanh" else Z
        if isinstance(layer, fcnn.BatchNorm):
            return (A - A.mean(axis=1, keepdims=True)) / np.sqrt(A.var(axis=1, keepdims=True) + layer.eps)
        out = A
        for inner in layer.block:
            out = through(inner, out)
        return out + through(layer.projection, A)

    A = X.T.astype(np.float64)
    for layer in model.layers:
        A = through(layer, A)
    return found


def test_every_units_products_have_unit_spread_and_its_bend_lies_among_them(ops: Ops) -> None:
    model, X = network(ops), samples()
    drawn = model.ops.to_numpy(model.named_arrays()["0.W"]).copy()
    assert model.awaits_data
    model.initialize(X)
    assert not model.awaits_data
    for Z in products(model, X):
        np.testing.assert_allclose(Z.std(axis=1), 1.0, rtol=1e-4)
    first: Any = model.layers[0]
    W, b = np.asarray(ops.to_numpy(first.W)), np.asarray(ops.to_numpy(first.b))
    ratio = W / drawn
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-5)
    Z = products(model, X)[0]
    assert (Z.min(axis=1) <= -b[:, 0]).all()
    assert (-b[:, 0] <= Z.max(axis=1)).all()
    # Of five with uniform shares: the mean square of the shares is 2/(5·6), five times that of the spread of one.
    bends = (-b[:, 0] - Z.mean(axis=1)) / Z.std(axis=1)
    assert 0.2 < bends.std() < 1.2


def test_the_reference_by_hand() -> None:
    rng = np.random.default_rng(0)
    W, Z = rng.normal(size=(4, 3)), rng.normal(size=(4, 7)) * 5
    Z[2] = 3.0  # does not vary
    np.testing.assert_array_equal(
        UnitStd().of_data(rng, W, Z), W / np.array([*Z[:2].std(axis=1), 1.0, Z[3].std()])[:, None]
    )
    b = HePlus(1).of_data(rng, W, Z)
    assert all(-b[i, 0] in Z[i] for i in range(4)), "a combination of one is that one"
    many = HePlus(5).of_data(rng, np.zeros((20_000, 1)), np.tile([0.0, 1.0], (20_000, 50)))
    assert many.mean() == pytest.approx(-0.5, abs=0.01)
    # Σt² has mean 2/(n + 1) under the uniform distribution of shares: the variance is that of a draw, ¼, times it
    assert many.std() == pytest.approx(0.5 * np.sqrt(2 / 6), rel=0.02)


def test_backends_agree() -> None:
    one, other, X = network("numpy"), network("cpu"), samples()
    for model in (one, other):
        model.initialize(X)
    for name, array in one.named_arrays().items():
        np.testing.assert_allclose(other.named_arrays()[name], array, rtol=1e-4, atol=1e-5)


def test_fit_looks_at_its_first_batch_once() -> None:
    X, y = samples(), np.random.default_rng(1).integers(0, 8, 300)
    by_hand, by_fit = network(seed=7), network(seed=7)
    by_hand.initialize(X[epoch_order(300, 7, 0, True)[:64]])
    for _ in range(2):
        for model in (by_hand, by_fit):
            fcnn.Trainer(model, optimizer=fcnn.SGD(1e-3)).fit(X, y, epochs=1, batch_size=64, progress=False)
        for name, array in by_hand.named_arrays().items():
            np.testing.assert_array_equal(by_fit.named_arrays()[name], array, name)


def test_running_statistics_and_masks_to_come_stay() -> None:
    model = fcnn.Sequential([fcnn.Dense(6, init="std"), fcnn.BatchNorm(), fcnn.Dropout(0.5)], n_in=5, backend="numpy")
    before = {name: array.copy() for name, array in model.statistics().items()}
    model.initialize(samples())
    for name, array in model.statistics().items():
        np.testing.assert_array_equal(array, before[name])
    assert int(model.random_step[0]) == 0


def test_a_network_that_waits_goes_on_waiting_in_copies_and_files(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "waits.safetensors")
    waiting = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fcnn.load(tmp_path / "waits.safetensors")]
    waiting.append(fcnn.Sequential.from_config(model.config()))
    assert all(twin.awaits_data for twin in waiting)
    model.initialize(samples())
    model.save(tmp_path / "made.safetensors")
    made = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fcnn.load(tmp_path / "made.safetensors")]
    assert not any(twin.awaits_data for twin in made)
    assert fcnn.Sequential.from_config(model.config()).awaits_data, "its weights are drawn anew"


def test_bad_use() -> None:
    with pytest.raises(ValueError, match="bias_init='he\\+5'"):
        fcnn.Dense(3, init="he+5")
    with pytest.raises(ValueError, match="makes whole weight matrices and no biases"):
        fcnn.Dense(3, bias_init="std")
    with pytest.raises(ValueError, match=r"HePlus\(n\)"):
        HePlus(0)
    stored = fcnn.Sequential([fcnn.Dense(3, init="std", placement="host")], n_in=5, backend="numpy")
    with pytest.raises(ValueError, match="needs the weights on the device"):
        stored.initialize(samples())
    with pytest.raises(ValueError, match="one sample"):
        network().initialize(samples(1))
