"""The mean of the members' losses, their gradients, and predictions that are the mean of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.gradient_check import check_loss
from fcnn_gpu.losses import LOSSES

from .support.registry_cases import LossCase, labelled
from .support.tolerances import assert_close

K = 3


@pytest.mark.parametrize("weighted", ["unweighted", "weighted", "weights of each"])
@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_it_is_the_mean_of_the_losses_of_the_members(ops: Ops, name: str, case: LossCase, weighted: str) -> None:
    rng = np.random.default_rng(0)
    batch, n = 7, case.n_outputs
    Z, y = rng.normal(size=(batch, K * n)), case.targets(rng, batch)
    weight = (
        None if weighted == "unweighted" else rng.uniform(0.5, 2.0, batch if weighted == "weighted" else (batch, K))
    )
    if weighted == "weights of each":
        assert weight is not None
        weight[rng.random((batch, K)) < 0.3] = 0.0
        weight[0] = 1.0  # else a member by itself would have nothing to learn from
    ours = fcnn.EnsembleLoss(case.loss, K)
    value = float(ops.to_numpy(ours.forward(ops.asarray(Z), y, weight)))
    gradient, values = ops.to_numpy(ours.backward()), []
    for g in range(K):
        member = slice(g * n, (g + 1) * n)
        own = weight[:, g] if weight is not None and weight.ndim == 2 else weight
        values.append(float(case.loss.forward(Z[:, member].copy(), y, own)))
        assert_close(gradient[:, member], case.loss.backward() / K, "elementwise", f"member {g}")
    assert value == pytest.approx(np.mean(values), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_its_gradient_by_numbers(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(5, 4 * K)), rng.integers(0, 4, 5)
    weight = rng.uniform(0.5, 2.0, (5, K)) if weighted else None
    if weight is not None:
        weight[:, 1] = 0.0  # of a batch a member may have no sample
    assert check_loss(fcnn.EnsembleLoss("cross_entropy", K), Z, y, sample_weight=weight).passed


def network(ops: Ops | str, n_outputs: int, dtype: str = "float64", **options: Any) -> fcnn.Sequential:
    layers = [
        fcnn.Members(K),
        fcnn.BatchEnsemble(6, K, "tanh", scale_in="random_signs"),
        fcnn.DenseEnsemble(5, K, "gelu"),
        fcnn.DenseEnsemble(n_outputs, K),
    ]
    return fcnn.Sequential(layers, n_in=4, seed=0, dtype=dtype, backend=ops, **options)


def data(loss: str, n: int = 60) -> tuple[HostArray, Any, int]:
    """X, y, and outputs of a member."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 4))
    made: dict[str, Any] = {
        "cross_entropy": (X @ rng.normal(size=(4, 3))).argmax(axis=1),
        "binary_cross_entropy": (X[:, 0] > 0).astype(np.int64),
        "mse": X[:, :2] * X[:, 2:],
    }
    return X, made[loss], {"cross_entropy": 3, "binary_cross_entropy": 1, "mse": 2}[loss]


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse"])
def test_members_learn_by_themselves(ops: Ops, loss: str) -> None:
    """A step changes each member of a network without shared weights as it changes that member alone."""
    X, y, n = data(loss)
    layer = fcnn.DenseEnsemble(n, K)
    model = fcnn.Sequential([fcnn.Members(K), layer], n_in=4, seed=0, dtype="float64", backend=ops)
    start = ops.to_numpy(layer.W).copy()
    fcnn.Trainer(model, fcnn.EnsembleLoss(loss, K), fcnn.SGD(0.3), seed=1).fit(
        X, y, epochs=2, batch_size=16, progress=False
    )
    for g in range(K):
        alone = fcnn.Dense(n)
        single = fcnn.Sequential([alone], n_in=4, seed=0, dtype="float64", backend="numpy")
        alone.W[...] = start[:, 4 * g : 4 * g + 4]
        fcnn.Trainer(single, loss, fcnn.SGD(0.3 / K), seed=1).fit(X, y, epochs=2, batch_size=16, progress=False)
        assert_close(ops.to_numpy(layer.W)[:, 4 * g : 4 * g + 4], alone.W, "training", f"member {g}")


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse"])
def test_predictions_are_the_mean_of_the_members_predictions(ops: Ops, loss: str, tmp_path: Path) -> None:
    X, y, n = data(loss)
    model = network(ops, n)
    metrics = ["accuracy"] if loss != "mse" else ["r2"]
    trainer = fcnn.Trainer(model, fcnn.EnsembleLoss(loss, K), metrics=metrics)
    history = trainer.fit(X, y, epochs=3, batch_size=16, validation_data=(X, y), progress=False)
    raw = model(X).reshape(len(X), K, n)
    if loss == "cross_entropy":
        raw = np.exp(raw) / np.exp(raw).sum(axis=2, keepdims=True)
    elif loss == "binary_cross_entropy":
        raw = 1 / (1 + np.exp(-raw))
    expected = raw.mean(axis=1)
    assert_close(model.predict(X), expected, "elementwise")
    assert_close(trainer.predict(X, batch_size=7), expected, "elementwise")
    assert (model.n_out, model.n_predictions, model.members) == (K * n, n, K)
    scores = trainer.evaluate(X, y)
    if loss == "mse":
        residual = ((y - expected) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
        assert scores["r2"] == pytest.approx(1 - residual.mean())
    else:
        classes = expected.argmax(axis=1) if n > 1 else (expected[:, 0] > 0.5).astype(int)
        np.testing.assert_array_equal(model.predict_classes(X), classes)
        assert scores["accuracy"] == pytest.approx((classes == y).mean())
        assert trainer.predict_proba(X).shape == (len(X), max(n, 2))
    assert history[f"val_{metrics[0]}"][-1] == pytest.approx(scores[metrics[0]])
    model.save(tmp_path / "m")
    again = fcnn.load(tmp_path / "m", backend="numpy")
    assert (again.members, again.config()) == (K, model.config())
    assert_close(again.predict(X), expected, "elementwise")


def test_in_16_bits_recorded_and_in_parts(device_ops: Ops) -> None:
    X, y, n = data("cross_entropy")
    for micro in (None, 5):
        models = [network(device_ops, n, "float32", precision="float16") for _ in range(2)]
        for model, capture in zip(models, (True, False), strict=True):
            trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K))
            trainer.fit(X, y, epochs=2, batch_size=16, micro_batch_size=micro, capture=capture, progress=False)
        recorded, eager = (device_ops.to_numpy(model.flat.values) for model in models)
        np.testing.assert_array_equal(recorded, eager)


def test_weights_of_classes_and_memory_are_those_of_a_member() -> None:
    X, y, n = data("cross_entropy")
    model = network("numpy", n)
    loss = fcnn.EnsembleLoss(fcnn.CrossEntropy(0.1), K)
    trainer = fcnn.Trainer(model, loss, metrics=["accuracy"])
    trainer.fit(X, y, epochs=1, class_weight="balanced", progress=False)
    known = model.memory_report(16, data=(X, y), loss=fcnn.EnsembleLoss("cross_entropy", K))
    assert model.memory_report(16, data=(X, y)) == known
    before = loss.n_changes
    loss.loss.label_smoothing = 0.2
    assert loss.n_changes > before


def test_what_is_refused() -> None:
    given: Any = fcnn.EnsembleLoss
    with pytest.raises(ValueError, match="expects the loss of one member"):
        given(given("mse", 2), 2)
    with pytest.raises(ValueError, match="Unknown loss 'msee'"):
        given("msee", 2)
    with pytest.raises(ValueError, match=r"EnsembleLoss\(members\)"):
        given("mse", 0)
    with pytest.raises(ValueError, match=r"outputs of 4 members, and a network with 6 outputs does"):
        fcnn.Trainer(network("numpy", 2), given("mse", 4))
    with pytest.raises(ValueError, match="needs one output per class"):
        fcnn.Trainer(network("numpy", 1), given("cross_entropy", K))
    twice = fcnn.Sequential([fcnn.Members(2), fcnn.DenseEnsemble(1, 2, "sigmoid")], n_in=3, backend="numpy")
    with pytest.raises(ValueError, match=r"the last layer DenseEnsemble.* applies it already"):
        fcnn.Trainer(twice, given("binary_cross_entropy", 2))
    known = network("numpy", 2)
    fcnn.Trainer(known, given("mse", K))
    with pytest.raises(ValueError, match="outputs are those of 3 members, and mse takes those of 1"):
        fcnn.Trainer(known, "mse")
    centered = network("numpy", 2, output_center=np.arange(6.0))
    with pytest.raises(ValueError, match="output_center that differs among members"):
        fcnn.Trainer(centered, given("mse", K))
    assert "the ensemble's mse" not in LOSSES


def test_an_output_center_is_that_of_each_member() -> None:
    rng = np.random.default_rng(0)
    X, y, far = rng.normal(size=(60, 4)), rng.normal(size=(60, 2)), np.array([1e9, -1e7])
    plain, centered = (network("numpy", 2, output_center=c) for c in (None, np.tile(far, K)))
    results = []
    for model, targets in ((plain, y), (centered, y + far)):
        trainer = fcnn.Trainer(model, fcnn.losses.EnsembleLoss("mse", K), metrics=["mae"])
        history = trainer.fit(X, targets, epochs=2, batch_size=20, validation_data=(X, targets), progress=False)
        results.append([history[name][-1] for name in ("loss", "mae", "val_loss", "val_mae")])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)
    np.testing.assert_allclose(centered.predict(X) - far, plain.predict(X), atol=1e-6)
