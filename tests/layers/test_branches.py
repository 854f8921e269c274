"""Branches: each computes as it does alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.layers import Branches

from ..support.tolerances import assert_close

X = np.random.default_rng(0).normal(size=(9, 4))
WIDTHS = (3, 4, 2)


def stacks() -> list[list[Any]]:
    return [
        [fcnn.Dense(5, activation="gelu"), fcnn.BatchNorm(), fcnn.Dense(3)],
        ["tanh"],
        [fcnn.Residual([fcnn.Dense(4, activation="relu")]), fcnn.Dense(2, init="std", bias_init="he+5")],
    ]


def passes(model: fcnn.Sequential, dA: HostArray) -> tuple[HostArray, HostArray]:
    outputs = np.array(model.ops.to_numpy(model.forward(X, training=True)))
    dX = model.backward(model.ops.asarray(np.ascontiguousarray(dA)), input_gradient=True)
    return outputs, np.array(model.ops.to_numpy(dX))


def test_outputs_and_gradients_are_those_of_each_alone(ops: Ops) -> None:
    options: dict[str, Any] = {"n_in": 4, "seed": 0, "dtype": "float64", "backend": ops}
    model = fcnn.Sequential([Branches(stacks())], **options)
    assert model.awaits_data
    model.initialize(X)
    dA = np.random.default_rng(1).normal(size=(9, sum(WIDTHS)))
    outputs, dX = passes(model, dA)
    ends, total = np.cumsum([0, *WIDTHS]), np.zeros_like(X)
    for i, stack in enumerate(stacks()):
        alone, rows, prefix = fcnn.Sequential(stack, **options), slice(ends[i], ends[i + 1]), f"0.branches.{i}."
        if i == 2:
            alone.initialize(X)
        given = {n.removeprefix(prefix): x for n, x in model.named_arrays().items() if n.startswith(prefix)}
        fresh = {"0.running_mean", "0.running_var", "1.running_mean", "1.running_var"}
        for name, array in alone.named_arrays().items():
            if name not in fresh:
                ops.assign(array, given[name])
        expected, of_branch = passes(alone, dA[:, rows])
        np.testing.assert_array_equal(outputs[:, rows], expected)
        total += of_branch
        gradients = {f"{prefix}{name}": p.gradient for name, p in alone.named_parameters().items()}
        for name, gradient in gradients.items():
            theirs = ops.to_numpy(gradient)
            np.testing.assert_array_equal(ops.to_numpy(model.named_parameters()[name].gradient), theirs, err_msg=name)
    assert_close(dX, total, "sum")


def test_initial_values_wait_for_samples_as_they_do_alone(ops: Ops) -> None:
    options: dict[str, Any] = {"n_in": 4, "seed": 0, "dtype": "float64", "backend": ops}
    model = fcnn.Sequential([Branches([["identity"], [fcnn.Dense(6, init="std")]])], **options)
    model.initialize(X)
    products = model(X)[:, 4:]
    assert_close(products.std(axis=0), np.ones(6), "sum")


def test_it_is_recorded_and_computes_in_16_bits(device_ops: Ops) -> None:
    y = np.random.default_rng(2).integers(0, 3, len(X))
    made = []
    for capture in (True, False):
        layers = [Branches([[fcnn.Dense(5, "relu")], ["tanh"], [fcnn.Dense(1)]]), fcnn.Dense(3)]
        model = fcnn.Sequential(layers, n_in=4, seed=0, backend=device_ops, precision="float16")
        trainer = fcnn.Trainer(model, "cross_entropy", seed=1)
        trainer.fit(X, y, epochs=2, batch_size=4, capture=capture, progress=False)
        made.append(device_ops.to_numpy(model.flat.values))
    np.testing.assert_array_equal(made[0], made[1])


def test_what_is_refused() -> None:
    given: Any = Branches
    for wrong in ("relu", fcnn.Dense(2), 3):
        with pytest.raises(TypeError, match="Branches expects a list of branches, each a list of layers"):
            given(wrong)
    with pytest.raises(ValueError, match="at least one branch"):
        given([])
    with pytest.raises(ValueError, match="Branches, branch 1, expects at least one layer"):
        given([["relu"], []])
    with pytest.raises(TypeError, match="Branches, branch 0, expects a list of layers, got Dense"):
        given([fcnn.Dense(2)])
    with pytest.raises(TypeError, match=r"'branches' layer needs arguments: write Branches\(...\)"):
        fcnn.Sequential(["branches"], n_in=2)
    layer: Any = fcnn.Dense(3)
    for _ in range(64):
        layer = given([[layer]])
    with pytest.raises(ValueError, match="Branches layers are nested 65 deep"):
        given([[layer]])
    twice = fcnn.Dense(2)
    with pytest.raises(ValueError, match="stands twice"):
        fcnn.Sequential([given([[twice], [twice]])], n_in=2)
    soft = fcnn.Sequential([given([[fcnn.Dense(2, "softmax")]])], n_in=2, backend="numpy")
    with pytest.raises(ValueError, match=r"the last layer Dense.* applies it already"):
        fcnn.Trainer(soft, "cross_entropy")


def test_one_output_that_is_a_probability() -> None:
    model = fcnn.Sequential([Branches([[fcnn.Dense(1, "sigmoid")]])], n_in=4, seed=0, backend="numpy")
    np.testing.assert_array_equal(model.predict_classes(X), (model(X)[:, 0] > 0.5).astype(int))


def test_no_gradient_is_computed_before_the_first_parameters() -> None:
    layers = ["tanh", Branches([["relu"], ["silu", fcnn.Dense(2)]])]
    model = fcnn.Sequential(layers, n_in=4, seed=0, dtype="float64", backend="numpy")
    assert fcnn.gradient_check.check_model(model, "mse", X, X[:, [0, 1, 2, 3, 0, 1]]).passed
    model.forward(X, training=True)
    assert model.backward(np.ones((9, 6))) is None
