"""Muon: which weights are made orthogonal, what becomes of them and of all else, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import LossScaling, Ops, WeightMatrix
from fcnn_gpu.optimizers._newton_schulz import Memory, NewtonSchulz

from ..support.tolerances import assert_close

QUINTIC = (3.4445, -4.7750, 2.0315)
MUON: Any = fcnn.Muon


def network(layers: list[Any] | None = None, **options: Any) -> fcnn.Sequential:
    layers = layers or [fcnn.Dense(8, "tanh"), fcnn.Dense(6, "tanh"), fcnn.Dense(9, "tanh"), fcnn.Dense(3)]
    given: dict[str, Any] = {"seed": 0, "backend": "numpy", "dtype": "float64"} | options
    return fcnn.Sequential(layers, n_in=5, **given)


def draw_gradients(model: fcnn.Sequential, seed: int = 1) -> None:
    g = np.random.default_rng(seed).normal(size=model.flat.gradients.size)
    model.ops.assign(model.flat.gradients, g)


def weights(model: fcnn.Sequential) -> dict[str, HostArray]:
    return {name: np.array(model.ops.to_numpy(p.value)) for name, p in model.named_parameters().items()}


# Which


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (lambda: None, ["1.W", "2.W"]),
        (lambda: [fcnn.Dense(4), "relu", fcnn.BatchNorm(), fcnn.Dense(3)], []),
        (lambda: ["relu", fcnn.Dense(3)], []),
        (
            lambda: [fcnn.Dense(4), fcnn.Residual([fcnn.Dense(6), fcnn.LayerNorm(), fcnn.Dense(7)]), fcnn.Dense(3)],
            ["1.block.0.W", "1.block.2.W", "1.projection.W"],
        ),
        (lambda: [fcnn.Residual([fcnn.Dense(6), fcnn.Dense(7)]), fcnn.Dense(3)], ["0.block.1.W"]),
        (
            lambda: [fcnn.Branches([[fcnn.Dense(4), fcnn.Dense(5), fcnn.Dense(2)], [fcnn.Dense(3)]])],
            ["0.branches.0.1.W"],
        ),
        (
            lambda: [
                fcnn.Members(2),
                fcnn.BatchEnsemble(4, 2),
                fcnn.DenseEnsemble(4, 2),
                fcnn.PReLU(),
                fcnn.DenseEnsemble(3, 2),
            ],
            ["2.W"],
        ),
    ],
    ids=["plain", "two", "one", "residual", "residual first", "branches", "ensemble"],
)
def test_weights_between_others_are_made_orthogonal(layers: Any, expected: list[str], caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "fcnn_gpu"):
        optimizer = fcnn.Muon().bind(network(layers()))
    assert optimizer.orthogonalized == expected
    assert ("no weights to make orthogonal" in caplog.text) == (not expected)


def test_patterns_say_otherwise() -> None:
    for patterns, expected in ((["*"], 4), (["0.*", "3.W"], 2), ([], 0)):
        assert len(fcnn.Muon(orthogonalize=patterns).bind(network()).orthogonalized) == expected


# What


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (9, 5), (30, 30)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    ops, matrix = Ops(), WeightMatrix(*shape, members=2)
    given = np.random.default_rng(0).normal(size=(2, shape[1], shape[0]))
    U, _, Vt = np.linalg.svd(given, full_matrices=False)
    given = U @ (np.linspace(1.0, 0.02, min(shape))[:, None] * Vt)
    for coefficients, steps, least, most in ((QUINTIC, 5, 0.68, 1.2024), ((1.5, -0.5, 0.0), 40, 1 - 1e-9, 1 + 1e-9)):
        memory = Memory.of(ops, [matrix], np.dtype("float64"), None)
        iterations = NewtonSchulz(coefficients, steps, 1e-7)
        memory.direction[...] = given.reshape(-1)
        found = iterations.orthogonalize(ops, memory.direction, matrix, 3.0, memory)
        X = found.reshape(2, shape[1], shape[0]) / 3.0
        inside = U.swapaxes(1, 2) @ X @ Vt.swapaxes(1, 2)
        values = np.diagonal(inside, axis1=1, axis2=2)
        assert_close(U @ (values[:, :, None] * Vt), X, "sum")  # the singular vectors stay
        assert least <= values.min()
        assert values.max() <= most <= iterations.largest_value() < 1.5


def test_coefficients_that_let_values_grow_have_no_bound() -> None:
    assert NewtonSchulz((30.0, 5.0, 2.0), 5, 1e-7).largest_value() == np.inf


def test_no_gradient_no_step() -> None:
    model = network()
    before = weights(model)
    fcnn.Muon(0.1, weight_decay=0.0).bind(model).step()
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_each_member_has_a_matrix_of_its_own() -> None:
    """A step of an ensemble is that of its members alone: as long in each of them, however their gradients differ."""
    layers = [fcnn.Members(2), fcnn.DenseEnsemble(6, 2, "tanh"), fcnn.DenseEnsemble(4, 2), fcnn.DenseEnsemble(3, 2)]
    model = network(layers)
    gradient = np.random.default_rng(0).normal(size=(4, 12))
    gradient[:, 6:] *= 1e-3
    before = weights(model)
    optimizer = fcnn.Muon(0.1, 0.0, adjust_lr_fn="original").bind(model)
    model.layers[2].dW[...] = gradient  # type: ignore[attr-defined]
    optimizer.step()
    change = (before["2.W"] - weights(model)["2.W"]) / 0.1
    for g in range(2):
        values = np.linalg.svd(change[:, 6 * g : 6 * g + 6], compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.21


def test_all_else_is_adamw_s_with_its_own_settings() -> None:
    ours, theirs = network(), network()
    options: dict[str, Any] = {"rate_factors": {"0.*": 3.0}, "decay_factors": {"3.W": 0.5}}
    muon = fcnn.Muon(0.04, 0.2, adam_rate_factor=0.25, adam_beta1=0.8, adam_beta2=0.7, adam_eps=1e-3, **options)
    muon.bind(ours)
    adamw = fcnn.AdamW(0.01, 0.8, 0.7, 1e-3, 0.2, **options).bind(theirs)
    for step in range(3):
        for model, optimizer in ((ours, muon), (theirs, adamw)):
            draw_gradients(model, step)
            optimizer.step()
    expected = weights(theirs)
    for name, value in weights(ours).items():
        same = np.allclose(value, expected[name], rtol=1e-12, atol=1e-14)
        assert same == (name not in muon.orthogonalized), name
        if same:
            assert_close(muon.state_of(name)["v"], adamw.state_of(name)["v"], "elementwise")
    assert "v" not in muon.state_of("1.W")


def test_v_is_of_all_else_and_the_report_counts_what_products_need() -> None:
    model = network(dtype="float32")
    optimizer = fcnn.Muon().bind(model)
    hidden = 8 * 6 + 6 * 9
    assert optimizer.state["m"].size == model.n_parameters
    assert optimizer.state["v"].size == model.n_parameters - hidden
    muon, adamw = (model.memory_report(16, chosen).optimizer for chosen in (fcnn.Muon(), fcnn.AdamW()))
    arrays = 2 * (4 * 54 + 64) + 2 * (4 * 36 + 64)  # the largest matrix, and its smaller side squared; 64: aligned
    assert muon - adamw == arrays - 4 * hidden


def test_frozen_weights_are_passed_by() -> None:
    model = network()
    optimizer = fcnn.Muon(0.1).bind(model)
    model.freeze("1.W")
    before = weights(model)
    draw_gradients(model)
    optimizer.step()
    changed = [name for name, value in weights(model).items() if not np.array_equal(value, before[name])]
    assert changed == [name for name in before if name != "1.W"]
    assert not optimizer.state_of("1.W")["m"].any()
    assert optimizer.state_of("2.W")["m"].any()


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32"])
def test_products_have_the_precision_of_the_network_s(device_ops: Ops, precision: str) -> None:
    """The step is that of float32 up to the digits of the products, and the 16-bit copy is rounded from it."""
    steps, scale = [], {"1.W": 1.0, "2.W": (9 / 6) ** 0.5}
    for given in (None, precision):
        model = network(backend=device_ops, dtype="float32", precision=given)
        before = weights(model)
        optimizer = fcnn.Muon(0.1, 0.0, adjust_lr_fn="original").bind(model)
        draw_gradients(model)
        optimizer.step()
        after = weights(model)
        steps.append({name: (before[name] - after[name]) / (0.1 * scale[name]) for name in optimizer.orthogonalized})
    for name, step in steps[0].items():
        assert np.abs(steps[1][name] - step).max() < (0.05 if precision == "bfloat16" else 0.01), name
        assert np.linalg.svd(steps[1][name], compute_uv=False).max() < 1.3
    low = model.flat.low
    if low is not None:
        assert not np.array_equal(steps[1]["1.W"], steps[0]["1.W"])
        rounded = device_ops.to_numpy(model.flat.values)[: low.size].astype(device_ops.to_numpy(low).dtype)
        np.testing.assert_array_equal(device_ops.to_numpy(low), rounded)


def test_a_skipped_step_of_float16_changes_nothing(device_ops: Ops) -> None:
    model = network(backend=device_ops, dtype="float32", precision="float16")
    optimizer = fcnn.Muon(0.01).bind(model)
    scaling = optimizer.control.loss_scaling = LossScaling.start(device_ops)
    draw_gradients(model)
    optimizer.step()
    before, state = weights(model), {k: np.array(device_ops.to_numpy(v)) for k, v in optimizer.state.items()}
    device_ops.fill(scaling.skip, 1)
    draw_gradients(model, 2)
    optimizer.step()
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, before[name])
    for name, array in optimizer.state.items():
        np.testing.assert_array_equal(device_ops.to_numpy(array), state[name])
    device_ops.fill(scaling.skip, -1)
    optimizer.step()
    assert all(not np.array_equal(value, before[name]) for name, value in weights(model).items())


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A run and a half as one: the estimator's copies of the optimizer's arrays, v of its own length included."""
    pytest.importorskip("sklearn")
    from fcnn_gpu.estimators import FCNNClassifier

    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.random.default_rng(0).integers(0, 3, 40)
    found = []
    for pickled in (False, True):
        classifier: Any = FCNNClassifier((6, 5, 4), optimizer="muon", random_state=0, backend="numpy")
        classifier.partial_fit(X, y, classes=[0, 1, 2])
        if pickled:
            import pickle

            classifier = pickle.loads(pickle.dumps(classifier))
        classifier.partial_fit(X, y)
        found.append(classifier.predict_proba(X))
    np.testing.assert_array_equal(*found)


# Weights elsewhere, and bad input


def test_weights_on_the_host_take_adamw_s_updates_alone() -> None:
    def layers() -> list[Any]:
        return [fcnn.Dense(6, "tanh"), fcnn.Dense(7, "tanh", placement="host"), fcnn.Dense(6), fcnn.Dense(3)]

    model = network(layers())
    with pytest.raises(ValueError, match=r"Muon makes whole matrices orthogonal, and 1\.W would pass .* in parts"):
        fcnn.Muon().bind(model)
    optimizer = fcnn.Muon(0.01, orthogonalize=["2.W"])
    X, y = np.random.default_rng(0).normal(size=(24, 5)), np.random.default_rng(0).integers(0, 3, 24)
    before = weights(model)
    fcnn.Trainer(model, optimizer=optimizer).fit(X, y, epochs=1, batch_size=8, progress=False)
    resident = network([fcnn.Dense(6, "tanh"), fcnn.Dense(7, "tanh"), fcnn.Dense(6), fcnn.Dense(3)])
    for name, value in before.items():
        resident.ops.assign(resident.named_arrays()[name], value)
    again = fcnn.Muon(0.01, orthogonalize=["2.W"])
    fcnn.Trainer(resident, optimizer=again).fit(X, y, epochs=1, batch_size=8, progress=False)
    for name, value in weights(resident).items():
        assert_close(weights(model)[name], value, "training", name)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MUON(momentum=1.0), ValueError, r"Muon\(momentum\) expects a finite number"),
        (lambda: MUON(nesterov=1), TypeError, r"Muon\(nesterov\) expects True or False"),
        (lambda: MUON(ns_steps=0), ValueError, r"Muon\(ns_steps\) expects an integer of at least 1, got 0"),
        (lambda: MUON(ns_coefficients=(1.5, -0.5)), TypeError, r"Muon\(ns_coefficients\) expects three numbers"),
        (lambda: MUON(ns_coefficients="abc"), TypeError, r"Muon\(ns_coefficients\) expects three numbers"),
        (lambda: MUON(ns_coefficients=(1.5, -0.5, np.nan)), ValueError, r"Muon\(ns_coefficients\) expects a finite"),
        (lambda: MUON(eps=0.0), ValueError, r"Muon\(eps\) expects a finite number greater than 0"),
        (lambda: MUON(adjust_lr_fn="orginal"), ValueError, "original"),
        (lambda: MUON(orthogonalize="*.W"), TypeError, r"Muon\(orthogonalize\) expects a list of patterns"),
        (lambda: MUON(adam_rate_factor=-1.0), ValueError, r"Muon\(adam_rate_factor\)"),
        (lambda: MUON(adam_beta1=1.0), ValueError, r"Muon\(adam_beta1\)"),
        (lambda: MUON(adam_eps=0.0), ValueError, r"Muon\(adam_eps\)"),
        (
            lambda: MUON(orthogonalize=["1.W", "*.b"]).bind(network()),
            ValueError,
            r"Muon\(orthogonalize\): '\*\.b' matches no weights of the model. Its weights: 0\.W, 1\.W, 2\.W, 3\.W",
        ),
    ],
)
def test_bad_settings_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
