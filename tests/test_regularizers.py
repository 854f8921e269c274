"""Penalties: their values and gradients, alone, in a layer, and in a step of plain gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import BLOCK
from fcnn_gpu.regularizers import L1, L1L2, L2, REGULARIZERS, Regularizer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients(dtype: Any) -> None:
    W = np.array([[1.0, -2.0, 0.0], [0.5, 0.0, -4.0]], dtype)
    cases: list[tuple[Regularizer, float, Any]] = [
        (L1(0.1), 0.75, 0.1 * np.sign(W)),
        (L2(0.5), 10.625, W),
        (L1L2(0.1, 0.5), 11.375, 0.1 * np.sign(W) + W),
    ]
    for penalty, value, gradient in cases:
        assert penalty.value(W) == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(penalty.gradient(W), gradient, rtol=1e-6)
        assert penalty.gradient(W).dtype == dtype


def test_every_member_is_tested_by_default_values() -> None:
    assert {name: REGULARIZERS.resolve(name).factors for name in REGULARIZERS} == {
        "l1": (0.01, 0.0),
        "l2": (0.0, 0.01),
        "l1_l2": (0.01, 0.01),
    }


@pytest.mark.parametrize(
    "make",
    [lambda: L1(-1.0), lambda: L2(-1.0), lambda: L1L2(-1.0), lambda: L1L2(0.0, -1.0), lambda: fcnn.Dense(1, l2=-1)],
)
def test_negative_factors_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="expects a finite number of at least 0, got -1"):
        make()


def test_the_base_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="Regularizer must define factors"):
        Regularizer().value(np.zeros(1))


def test_a_model_sums_its_layers_penalties_over_weights_alone() -> None:
    layers = [fcnn.Dense(300, l1=0.1), fcnn.BatchNorm(), fcnn.Dense(130, l2=0.5), fcnn.Dense(2)]
    model = fcnn.Sequential(layers, n_in=100, seed=0, backend="numpy", dtype="float64")
    assert BLOCK < 300 * 130  # more than one block of the flat buffer
    model.flat.values += 0.25  # biases and normalization parameters too
    first, _, third, last = (layer for layer in model.layers)
    W1, W3 = first.W, third.W  # type: ignore[attr-defined]
    assert model.penalty() == pytest.approx(0.1 * np.abs(W1).sum() + 0.5 * (W3**2).sum())
    model.flat.gradients[...] = 1.0
    model.objective_gradient()
    assert (model.flat.gradients == 1.0).all()  # the data's gradient stays
    gradient = model.objective_gradient() - 1.0
    expected = np.zeros_like(gradient)
    start = 0
    for parameter in (p for p in model.parameters if p.is_weight):
        W = parameter.value.T.reshape(-1)
        expected[start : start + W.size] = parameter.l1 * np.sign(W) + 2 * parameter.l2 * W
        start += W.size
    np.testing.assert_allclose(gradient, expected, atol=1e-12)
    assert last.W.any()  # type: ignore[attr-defined]


def test_l2_alone_multiplies_the_weights_by_one_minus_two_eta_lambda() -> None:
    eta, lam = 0.1, 0.25
    model = fcnn.Sequential([fcnn.Dense(3, l2=lam)], n_in=4, seed=0, backend="numpy", dtype="float64")
    W = model.layers[0].W.copy()  # type: ignore[attr-defined]
    optimizer = fcnn.SGD(eta).bind(model)
    for step in range(1, 6):
        optimizer.step()  # the gradient of the data is 0
        np.testing.assert_allclose(model.layers[0].W, W * (1 - 2 * eta * lam) ** step, rtol=1e-12)  # type: ignore[attr-defined]
    assert not model.layers[0].b.any()  # type: ignore[attr-defined]


def test_l1_moves_weights_towards_zero_by_eta_lambda() -> None:
    model = fcnn.Sequential([fcnn.Dense(3, l1=0.5)], n_in=4, seed=0, backend="numpy", dtype="float64")
    W = model.layers[0].W.copy()  # type: ignore[attr-defined]
    fcnn.SGD(0.01).bind(model).step()
    np.testing.assert_allclose(model.layers[0].W, W - 0.005 * np.sign(W), rtol=1e-12)  # type: ignore[attr-defined]
