"""Gradients of the compiled backend that fade: none lies below the normal numbers, where a CPU is many times slower."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import ELEMENTWISE, ELEMENTWISE_LOSSES, Ops

from ..conftest import compiled_ops
from ..support.tolerances import ROUNDINGS, UNIT

FLOOR = {"float32": 2.0**-100, "float64": 2.0**-900}
RELU_LIKE = ("identity", "relu", "leaky_relu")
"""Their slopes do not fade, and what comes is passed on as it is."""


def has_faded(d: HostArray) -> HostArray:
    return (d != 0) & (np.abs(d) < FLOOR[d.dtype.name])


@pytest.mark.parametrize("dtype", list(FLOOR))
@pytest.mark.parametrize("kind", sorted(set(ELEMENTWISE) - set(RELU_LIKE)))
def test_activations(kind: str, dtype: str) -> None:
    ops = compiled_ops()
    far = 2000.0 if dtype == "float64" else 200.0
    Z = np.linspace(-far, 8.0, 4000, dtype=dtype).reshape(40, 100).T
    saved = Z.copy(order="F")
    if ELEMENTWISE[kind].from_output:
        with np.errstate(over="ignore"):
            ops.bias_activation(saved, None, kind, 0.5, saved)
    for size in (1.0, FLOOR[dtype] * 2**20):
        dA = np.full(Z.shape, size, dtype, order="F")
        dZ, expected = np.empty_like(dA), np.empty_like(dA)
        ops.activation_backward(dA, saved, kind, 0.5, dZ)
        Ops().activation_backward(dA, saved, kind, 0.5, expected)
        assert not has_faded(dZ).any()
        # f′ is a difference of numbers near 1, each right to a few roundings: it is right to as many of dA's
        tolerance = ROUNDINGS["elementwise"] * 2 * UNIT[dtype]
        stays = np.abs(expected) > 2 * FLOOR[dtype]
        np.testing.assert_allclose(dZ[stays], expected[stays], rtol=tolerance, atol=size * tolerance)
    spoiled = np.full(Z.shape, np.nan, dtype, order="F")
    ops.activation_backward(spoiled, saved, kind, 0.5, dZ)
    assert np.isnan(dZ).all(), "a gradient that is not finite must show"


@pytest.mark.parametrize("dtype", list(FLOOR))
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ELEMENTWISE_LOSSES)
def test_losses_of_single_outputs(name: str, n: int, weighted: bool, dtype: str) -> None:
    ops, far = compiled_ops(), 900.0 if dtype == "float64" else 120.0
    Z = np.linspace(-far, 0.0, 60, dtype=dtype).reshape(-1, n).T
    losses, dZ, Y = np.empty(Z.shape[1], dtype), np.empty_like(Z), np.zeros_like(Z)
    weights = np.full(Z.shape[1], FLOOR[dtype] * 2**30, dtype) if weighted else None
    of_output = np.full(n, 0.5, dtype) if name == "quantile" else None
    delta = 1.0 if name == "huber" else 0.0
    ops.elementwise_loss(Z, Y, name, delta, weights, losses, dZ, of_output=of_output)
    assert not has_faded(dZ).any()


@pytest.mark.parametrize("dtype", list(FLOOR))
@pytest.mark.parametrize("n", [2, 5, 40])
def test_softmax(n: int, dtype: str) -> None:
    ops, far = compiled_ops(), 900.0 if dtype == "float64" else 120.0
    Z = np.zeros((60, n), dtype).T
    Z[1] = -np.linspace(0.0, far, 60)
    losses, dZ, labels = np.empty(60, dtype), np.empty_like(Z), np.zeros(60, np.int64)
    given: list[dict[str, Any]] = [{"targets": labels}, {"targets": np.eye(n, dtype=dtype)[labels].T}]
    for case in given:
        ops.softmax_cross_entropy(Z, case["targets"], None, None, 0.0, losses, dZ, None)
        assert not has_faded(dZ).any()
        assert (dZ[1, :5] > 0).all()
    A = np.empty_like(Z)
    ops.softmax(Z, A)
    ops.softmax_backward(np.ones_like(Z) + Z / far, A, dZ)
    assert not has_faded(dZ).any()
