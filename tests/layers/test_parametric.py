"""Learned factors per unit, and weights with the factor of the NTK parametrization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.layers import LAYERS

from ..support.tolerances import assert_close

N_IN, N_OUT = 9, 5
GAIN = 1 / math.sqrt(N_IN)


def passes(ops: Ops, layers: list[Any], **options: Any) -> tuple[fcnn.Sequential, HostArray, HostArray]:
    """The model, its outputs and its input gradient, for the same samples each time."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, N_IN))
    model = fcnn.Sequential(layers, n_in=N_IN, seed=1, dtype="float64", backend=ops, **options)
    outputs = ops.to_numpy(model.forward(X, training=True)).copy()
    dX = model.backward(ops.asarray(rng.normal(size=outputs.shape)), input_gradient=True)
    return model, outputs, np.array(ops.to_numpy(dX))


@pytest.mark.parametrize("activation", ["relu", "gelu_tanh", None, "softmax"])
@pytest.mark.parametrize("bias", [True, False])
def test_ntk_is_a_layer_with_divided_weights(ops: Ops, activation: Any, bias: bool) -> None:
    scaled = fcnn.Dense(N_OUT, activation, bias=bias, parametrization="ntk")
    plain = fcnn.Dense(N_OUT, activation, bias=bias, init=fcnn.initializers.Normal(GAIN))
    _, outputs, dX = passes(ops, [scaled])
    _, expected, dX_expected = passes(ops, [plain])
    assert_close(ops.to_numpy(scaled.W) * GAIN, ops.to_numpy(plain.W), "elementwise")
    assert_close(outputs, expected, "sum")
    assert_close(dX, dX_expected, "sum")
    assert_close(ops.to_numpy(scaled.dW), GAIN * ops.to_numpy(plain.dW), "sum")
    if bias:
        assert_close(ops.to_numpy(scaled.db), ops.to_numpy(plain.db), "sum")


def test_ntk_weights_start_from_the_normal_distribution() -> None:
    layer = fcnn.Dense(300, activation="selu", parametrization="ntk")
    model = fcnn.Sequential([layer], n_in=400, seed=0, backend="numpy")
    assert layer.W.std() == pytest.approx(1, abs=0.01)
    X = np.random.default_rng(0).normal(size=(50, 400))
    fcnn.Trainer(model, "mse")
    Z = X @ layer.W.T / 20
    assert Z.std() == pytest.approx(1, abs=0.05)
    assert repr(layer) == "Dense(400 → 300, selu, ntk)"
    assert fcnn.Dense(2, init="zeros", parametrization="ntk").init == fcnn.initializers.Zeros()


def test_the_parametrization_is_written_down_where_it_is_not_the_default() -> None:
    assert "parametrization" not in LAYERS.config(fcnn.Dense(2))
    assert LAYERS.config(fcnn.Dense(2, parametrization="ntk"))["parametrization"] == "ntk"


@pytest.mark.parametrize("place", ["host", "disk"])
@pytest.mark.parametrize("micro", [None, 4])
def test_ntk_weights_elsewhere(ops: Ops, place: str, micro: int | None) -> None:
    """Forward, both gradients in tiles of rows, and the norm that gradients are clipped by."""
    X, y = np.random.default_rng(0).normal(size=(20, N_IN)), np.arange(20) % 3
    trained = []
    for where in ("device", place):
        layers = [
            fcnn.Dense(12, activation="tanh", parametrization="ntk", placement=where),
            fcnn.Dense(11, activation="softmax", parametrization="ntk", placement=where),
            fcnn.Dense(3),
        ]
        model = fcnn.Sequential(layers, n_in=N_IN, seed=1, dtype="float64", backend=ops)
        for weight in () if model.stored is None else model.stored.weights:
            weight.tile_rows = 5
        trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.5, clip_norm=0.05))
        trainer.fit(X, y, epochs=2, batch_size=8, micro_batch_size=micro, progress=False)
        trained.append([np.array(ops.to_numpy(layer.W[:])) for layer in layers])
    for expected, actual in zip(*trained, strict=True):
        assert_close(actual, expected, "training")


def test_ntk_layers_are_not_one_launch(device_ops: Ops) -> None:
    from fcnn_gpu.model._fusion import kept_matrices

    for parametrization, kept in (("standard", [4, 3]), ("ntk", [])):
        layers = [fcnn.Dense(4, activation="relu"), fcnn.Dense(3, parametrization=parametrization)]
        fcnn.Sequential(layers, n_in=5, backend=device_ops)
        assert kept_matrices(device_ops, layers, np.float32) == kept


def test_scale(ops: Ops) -> None:
    layer = fcnn.Scale(fcnn.initializers.Normal(2.0))
    _, outputs, dX = passes(ops, [layer])
    s, X = ops.to_numpy(layer.s), np.random.default_rng(0).normal(size=(7, N_IN))
    assert len(np.unique(s)) == N_IN
    np.testing.assert_array_equal(outputs, s.T * X)
    dA = np.where(s.T == 0, 0, dX / s.T)
    assert_close(ops.to_numpy(layer.ds), (dA * X).sum(axis=0).reshape(-1, 1), "sum")


def test_what_the_factors_start_from() -> None:
    layers: list[Any] = [fcnn.Scale(), fcnn.Scale(2), fcnn.ParametricActivation(alpha=0.5), fcnn.PReLU()]
    fcnn.Sequential(layers, n_in=3, backend="numpy")
    starts = [layers[0].s, layers[1].s, layers[2].alphas, layers[3].alphas]
    assert [x.tolist() for x in starts] == [[[v]] * 3 for v in (1.0, 2.0, 0.5, 0.25)]


def test_parametric_activation_goes_from_its_input_to_f() -> None:
    f = fcnn.ParametricActivation("selu")
    model = fcnn.Sequential([f], n_in=3, dtype="float64", backend="numpy")
    X = np.random.default_rng(0).normal(size=(6, 3))
    whole = fcnn.Sequential([fcnn.Activation("selu")], n_in=3, dtype="float64", backend="numpy")(X)
    np.testing.assert_allclose(model(X), whole, rtol=1e-15)
    f.alphas[...] = [[0], [0.5], [1]]
    expected = np.stack([X[:, 0], (X[:, 1] + whole[:, 1]) / 2, whole[:, 2]], axis=1)
    np.testing.assert_allclose(model(X), expected, rtol=1e-15)


def test_factors_carry_neither_penalty_nor_decay() -> None:
    layers = [fcnn.Scale(), fcnn.ParametricActivation(), fcnn.PReLU()]
    model = fcnn.Sequential(layers, n_in=3, backend="numpy")
    assert not any(parameter.is_weight for layer in model.walk() for parameter in layer.parameters())
