"""Losses: each definition to the factor, their options, extreme logits, and what targets are refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.losses import LOSSES, Loss, check_sample_weight

DTYPES = [np.float32, np.float64]


def rho(loss: Loss, z: HostArray, y: HostArray) -> HostArray:
    """The elementwise losses as their docstrings define them, by SciPy where it has the function."""
    if isinstance(loss, fcnn.Huber):
        return special.huber(loss.delta, z - y)
    if isinstance(loss, fcnn.BinaryCrossEntropy) and (loss.label_smoothing or loss.pos_weight):
        y = (1 - loss.label_smoothing) * y + loss.label_smoothing / 2
        v = 1.0 if loss.pos_weight is None else np.asarray(loss.pos_weight)
        return -(v * y * special.log_expit(z) + (1 - y) * special.log_expit(-z))
    if isinstance(loss, fcnn.Quantile):
        q = np.tile(loss.quantiles, z.shape[-1] // len(loss.quantiles))
        return np.maximum(q * (y - z), (q - 1) * (y - z))
    if isinstance(loss, fcnn.Hinge):
        margin = np.maximum(0, 1 - (2 * y - 1) * z)
        return margin**2 if loss.squared else margin
    definitions: dict[str, Any] = {
        "mse": lambda: (z - y) ** 2,
        "mae": lambda: np.abs(z - y),
        "log_cosh": lambda: np.logaddexp(z - y, y - z) - np.log(2),
        "poisson": lambda: np.exp(z) - y * z,
        "binary_cross_entropy": lambda: -(y * special.log_expit(z) + (1 - y) * special.log_expit(-z)),
    }
    return definitions[loss.name]()


ELEMENTWISE = [
    fcnn.MSE(),
    fcnn.MAE(),
    fcnn.Huber(),
    fcnn.Huber(delta=0.3),
    fcnn.LogCosh(),
    fcnn.Quantile(),
    fcnn.Quantile([0.9]),
    fcnn.Poisson(),
    fcnn.BinaryCrossEntropy(),
    fcnn.BinaryCrossEntropy(label_smoothing=0.2),
    fcnn.BinaryCrossEntropy(pos_weight=3.0),
    fcnn.BinaryCrossEntropy(0.3, 0.5),
    fcnn.Hinge(),
    fcnn.Hinge(squared=True),
]


def test_every_loss_is_tested() -> None:
    assert {loss.name for loss in ELEMENTWISE} | {"cross_entropy", "kl_divergence", "focal"} == set(LOSSES)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ELEMENTWISE, ids=repr)
@given(n=st.integers(1, 7), batch=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_elementwise_losses_are_means_over_outputs_and_batch(
    loss: Loss, weighted: bool, n: int, batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(batch, n)), rng.random((batch, n))
    if isinstance(loss, fcnn.Hinge):
        y = np.round(y)
    w = rng.uniform(0.5, 2, batch) if weighted else None
    value = loss.forward(z, y, w)
    weights = np.ones(batch) if w is None else w
    assert value.shape == ()
    assert float(value) == pytest.approx(float(weights @ rho(loss, z, y).mean(axis=1)) / batch, rel=1e-12)
    h = 1e-6
    slope = (rho(loss, z + h, y) - rho(loss, z - h, y)) / (2 * h)
    np.testing.assert_allclose(loss.backward(), weights[:, None] * slope / (n * batch), atol=1e-7)


@pytest.mark.parametrize("loss", ELEMENTWISE, ids=repr)
def test_outputs_are_weighted(loss: Loss) -> None:
    """By u, and divided by their number: two columns of weight 1 are one of weight 2 and one of weight 0."""
    rng = np.random.default_rng(0)
    z, y, u = rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3)).astype(float), np.array([0.0, 2.0, 0.5])
    weighted = dataclasses.replace(loss, output_weight=u)  # type: ignore[call-arg]
    assert float(weighted.forward(z, y)) == pytest.approx((rho(loss, z, y) * u).mean(), rel=1e-12)
    gradient = np.array(weighted.backward())
    loss.forward(z, y)
    np.testing.assert_allclose(gradient, loss.backward() * u, rtol=1e-12)


def test_several_quantiles_of_several_targets_lie_target_by_target() -> None:
    rng = np.random.default_rng(0)
    z, y, q = rng.normal(size=(6, 2, 3)), rng.normal(size=(6, 2)), [0.1, 0.5, 0.9]
    loss = fcnn.Quantile(q, output_weight=[1, 2, 1, 0, 1, 1])
    e = y[:, :, None] - z
    expected = (np.maximum(q * e, (np.array(q) - 1) * e).reshape(6, 6) * [1, 2, 1, 0, 1, 1]).mean()
    assert float(loss.forward(z.reshape(6, 6), y)) == pytest.approx(expected, rel=1e-12)
    one = fcnn.Quantile(q)
    assert float(one.forward(z[:, 0], y[:, 0])) == pytest.approx(np.maximum(q * e, (np.array(q) - 1) * e)[:, 0].mean())


def test_predicted_quantiles_have_their_share_of_the_targets_below() -> None:
    rng = np.random.default_rng(0)
    X, q = rng.uniform(-1, 1, (4000, 1)), [0.1, 0.5, 0.9]
    y = X[:, 0] + rng.exponential(size=4000)
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=1, seed=0, backend="numpy")
    fcnn.Trainer(model, fcnn.Quantile(q), fcnn.SGD(0.5)).fit(X, y, epochs=40, batch_size=200, progress=False)
    below = (y[:, None] < model.predict(X)).mean(axis=0)
    np.testing.assert_allclose(below, q, atol=0.03)


def test_poisson_predicts_means_of_counts() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (4000, 1))
    y = rng.poisson(np.exp(1 + X[:, 0]))
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=1, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, "poisson", fcnn.Adam(0.02), metrics=["mae"])
    history = trainer.fit(X, y, epochs=20, batch_size=100, progress=False)
    assert model.layers[0].W.item() == pytest.approx(1, abs=0.1)  # type: ignore[attr-defined]
    assert model.layers[0].b.item() == pytest.approx(1, abs=0.1)  # type: ignore[attr-defined]
    np.testing.assert_allclose(model.predict(X), np.exp(model(X)), rtol=1e-5)
    assert history.records[-1]["mae"] == pytest.approx(np.abs(model.predict(X)[:, 0] - y).mean(), rel=0.05)
    with pytest.raises(TypeError, match="'poisson' predicts values, not probabilities"):
        trainer.predict_proba(X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_cosh_keeps_its_digits_near_and_far(dtype: Any) -> None:
    e = np.array([[1e-12, 1e-5, 1e-3, 0.3, 0.9999, 1.0001, 3.0, 30.0, 1e4, 1e30]], dtype).T
    wide = np.abs(e.astype(np.float64))
    exact = np.where(wide < 1e-3, wide**2 / 2 - wide**4 / 12, wide + np.log1p(np.exp(-2 * wide)) - np.log(2))
    ops, losses, dZ = Ops(), np.empty(len(e), dtype), np.empty((1, len(e)), dtype, "F")
    ops.elementwise_loss(np.asfortranarray(e.T), np.zeros_like(dZ), "log_cosh", 0.0, None, losses, dZ)
    np.testing.assert_allclose(losses, exact[:, 0], rtol=1e-9 if dtype == np.float64 else 4e-7)


@pytest.mark.parametrize("y", [[0, 1, 1, 0], [-1, 1, 1, -1], [False, True, True, False]])
@pytest.mark.parametrize("squared", [False, True])
def test_hinge_takes_labels_of_either_kind_and_separates_them(y: Any, squared: bool) -> None:
    X = np.array([[-1.0, 0.5], [1.0, 0.2], [2.0, -0.3], [-1.5, 0.1]])
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, fcnn.Hinge(squared), fcnn.SGD(0.5), metrics=["accuracy"])
    history = trainer.fit(X, y, epochs=30, batch_size=4, progress=False)
    assert history.records[-1]["accuracy"] == 1
    np.testing.assert_array_equal(model.predict_classes(X), [0, 1, 1, 0])
    assert trainer.evaluate(X, y)["loss"] < 1e-2
    with pytest.raises(TypeError, match="predicts scores, not probabilities"):
        trainer.predict_proba(X)


def cross_entropy(z: HostArray, T: HostArray, s: float, v: Any, w: Any) -> float:
    """L as the docstring defines it, T (batch, n_classes) one-hot or soft."""
    smooth = (1 - s) * T + s / T.shape[1]
    losses = -(np.asarray(v) * smooth * special.log_softmax(z, axis=1)).sum(axis=1)
    return float(np.asarray(w) @ losses) / len(z)


@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("classes", [False, True], ids=["alike", "class weights"])
@given(n=st.integers(2, 40), batch=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=10)
def test_cross_entropy(kind: str, smoothing: float, classes: bool, n: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, labels, w = rng.normal(scale=3, size=(batch, n)), rng.integers(0, n, batch), rng.uniform(0.5, 2, batch)
    T = rng.dirichlet(np.ones(n), batch) if kind == "soft" else np.eye(n)[labels]
    v = rng.uniform(0.1, 2, n) if classes else np.ones(n)
    loss = fcnn.CrossEntropy(label_smoothing=smoothing, class_weight=list(v) if classes else None)
    value = loss.forward(z, labels if kind == "labels" else T, w)
    assert float(value) == pytest.approx(cross_entropy(z, T, smoothing, v, w), rel=1e-10)
    direction = rng.normal(size=z.shape)
    h = 1e-6
    ends = [cross_entropy(z + sign * h * direction, T, smoothing, v, w) for sign in (1, -1)]
    assert (loss.backward() * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-7)


def test_gradient_of_the_plain_cross_entropy_is_p_minus_y_over_the_batch() -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(6, 4)), np.array([0, 1, 2, 3, 0, 1])
    loss = fcnn.CrossEntropy()
    loss.forward(z, labels)
    np.testing.assert_allclose(loss.backward(), (special.softmax(z, axis=1) - np.eye(4)[labels]) / 6, atol=1e-15)


@given(n=st.integers(2, 40), batch=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_kl_divergence(n: int, batch: int, seed: int) -> None:
    """By SciPy; its gradient is that of cross-entropy, and it is that of cross-entropy where a class is sure."""
    rng = np.random.default_rng(seed)
    z, w, y = rng.normal(scale=3, size=(batch, n)), rng.uniform(0.5, 2, batch), rng.dirichlet(np.ones(n), batch)
    y[:, 0] = 0
    y /= y.sum(axis=1, keepdims=True)
    loss, reference = fcnn.KLDivergence(), fcnn.CrossEntropy()
    expected = w @ special.rel_entr(y, special.softmax(z, axis=1)).sum(axis=1) / batch
    assert float(loss.forward(z, y, w)) == pytest.approx(expected, rel=1e-10)
    reference.forward(z, y, w)
    np.testing.assert_array_equal(loss.backward(), reference.backward())
    labels = rng.integers(0, n, batch)
    assert float(loss.forward(z, np.eye(n)[labels], w)) == pytest.approx(float(reference.forward(z, labels, w)))
    assert float(loss.forward(z, labels, w)) == float(reference.forward(z, labels, w))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_divergence_of_what_is_predicted_is_zero_but_for_rounding(ops: Ops, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for n in (2, 10, 500):
        z = (5 * rng.normal(size=(50, n))).astype(dtype)
        y = special.softmax(z.astype(np.float64), axis=1)
        value = float(fcnn.KLDivergence().forward(ops.asarray(z), y))
        assert abs(value) < 8 * np.finfo(dtype).eps


def focal(z: HostArray, labels: HostArray, gamma: float, alpha: Any, w: Any) -> float:
    """L as the docstring defines it."""
    log_p = special.log_softmax(z, axis=1)[np.arange(len(z)), labels]
    losses = -np.asarray(alpha)[labels] * (-np.expm1(log_p)) ** gamma * log_p
    return float(np.asarray(w) @ losses) / len(z)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0, 5.0])
@given(n=st.integers(2, 40), batch=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=10)
def test_focal(gamma: float, n: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, labels, w = rng.normal(scale=3, size=(batch, n)), rng.integers(0, n, batch), rng.uniform(0.5, 2, batch)
    alpha, direction, h = rng.uniform(0.1, 2, n), rng.normal(size=z.shape), 1e-6
    loss = fcnn.Focal(gamma, list(alpha))
    assert float(loss.forward(z, labels, w)) == pytest.approx(focal(z, labels, gamma, alpha, w), rel=1e-10)
    ends = [focal(z + sign * h * direction, labels, gamma, alpha, w) for sign in (1, -1)]
    assert (loss.backward() * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-7)


def test_focal_with_gamma_zero_is_cross_entropy(ops: Ops) -> None:
    rng = np.random.default_rng(0)
    for n in (3, 40):
        z, labels, v = ops.asarray(rng.normal(size=(20, n))), rng.integers(0, n, 20), list(rng.uniform(0.5, 2, n))
        loss, reference = fcnn.Focal(0.0, v), fcnn.CrossEntropy(class_weight=v)
        assert float(loss.forward(z, labels)) == float(reference.forward(z, labels))
        np.testing.assert_array_equal(ops.to_numpy(loss.backward()), ops.to_numpy(reference.backward()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [1e-3, 0.5, 1.0, 2.0, 1e30])
@pytest.mark.parametrize("n", [3, 40])
def test_focal_at_the_ends(ops: Ops, n: int, gamma: float, dtype: Any) -> None:
    """A class that is sure costs nothing and pulls at nothing, whatever γ; one that cannot be costs all."""
    z = np.zeros((4, n), dtype)
    z[0, 0], z[1, 0], z[2, 0], z[3, 1:] = 1e4, -1e4, 17.0, -np.inf
    loss = fcnn.Focal(gamma)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [float(loss.forward(ops.asarray(z[j : j + 1]), [0])) for j in range(3)]
    assert values[0] == 0
    assert values[1] == pytest.approx(1e4 + np.log(n - 1), rel=1e-6)
    expected = focal(z[2:3].astype(float), np.array([0]), gamma, np.ones(n), [1.0])
    assert values[2] == pytest.approx(expected, rel=0.1, abs=4 * float(np.finfo(dtype).eps))  # of a sum just above 1
    loss.forward(ops.asarray(z), [0, 0, 0, 1])
    d = ops.to_numpy(loss.backward())
    np.testing.assert_array_equal(d[0], 0)
    np.testing.assert_allclose(4 * d[1], np.where(np.arange(n) == 0, -1, 1 / (n - 1)), rtol=1e-6)
    assert (d[2, 0] <= 0).all()
    np.testing.assert_array_equal(4 * d[3], (np.arange(n) == 0) * 1.0 - (np.arange(n) == 1))  # p = 0, L is infinite


def test_labels_may_be_any_integers_floats_without_fraction_or_booleans() -> None:
    z = np.random.default_rng(0).normal(size=(4, 2))
    expected = float(fcnn.CrossEntropy().forward(z, np.array([0, 1, 1, 0])))
    for y in ([0, 1, 1, 0], np.array([0, 1, 1, 0], np.uint8), [0.0, 1.0, 1.0, 0.0], [False, True, True, False]):
        assert float(fcnn.CrossEntropy().forward(z, y)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_extreme_logits_are_finite_and_right(dtype: Any, size: float) -> None:
    z = np.array([[size, -size, 0.0], [-size, size, 0.0], [size, size, -size]], dtype)
    labels = np.array([1, 1, 0])
    Y = np.eye(3)[labels]
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        for loss, y, expected in (
            (fcnn.CrossEntropy(), labels, (2 * size + 0 + np.log(2)) / 3),
            (fcnn.CrossEntropy(), Y, (2 * size + 0 + np.log(2)) / 3),
            (fcnn.CrossEntropy(label_smoothing=0.3), labels, cross_entropy(z.astype(float), Y, 0.3, 1.0, np.ones(3))),
            (fcnn.BinaryCrossEntropy(), Y, rho(fcnn.BinaryCrossEntropy(), z.astype(float), Y).mean()),
            (fcnn.Huber(), Y, rho(fcnn.Huber(), z.astype(float), Y).mean()),
            (fcnn.MAE(), Y, rho(fcnn.MAE(), z.astype(float), Y).mean()),
            (fcnn.MSE(), Y, rho(fcnn.MSE(), z.astype(float), Y).mean()),
        ):
            assert float(loss.forward(z, y)) == pytest.approx(float(expected), rel=1e-5)
            assert np.isfinite(loss.backward()).all()
            assert loss.backward().dtype == dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fcnn.MSE(output_weight=cast(Any, 2.0)),
            r"MSE\(output_weight\) expects one number per output, got 2.0",
        ),
        (lambda: fcnn.MSE(output_weight=[0.0, 0]), "is 0 for every output"),
        (lambda: fcnn.MAE(output_weight=[1.0, -1]), r"MAE\(output_weight\): each of them expects .* at least 0"),
        (lambda: fcnn.Huber(output_weight=[1.0]).check_outputs(2), "has 1 numbers for 2 outputs; give one per output"),
        (lambda: fcnn.Quantile([0.1, 1.0]), r"Quantile\(quantiles\): each of them expects .* in \(0, 1\), got 1.0"),
        (lambda: fcnn.Quantile(cast(Any, 0.5)), "expects one number per quantile, got 0.5"),
        (lambda: fcnn.Quantile([]), "expects one number per quantile"),
        (lambda: fcnn.Quantile([0.1, 0.9]).check_outputs(3), "a multiple of 2, got 3"),
        (lambda: fcnn.Quantile([0.1, 0.9]).forward(np.zeros((2, 4)), np.zeros(2)), r"of shape \(n_samples, 2\), got"),
        (lambda: fcnn.Poisson().forward(np.zeros((2, 1)), [3, -1]), r"targets of at least 0, got -1 in row 1"),
        (lambda: fcnn.BinaryCrossEntropy(1.5), r"BinaryCrossEntropy\(label_smoothing\) expects .* in \[0, 1\]"),
        (lambda: fcnn.BinaryCrossEntropy(pos_weight=0.0), r"\(pos_weight\) expects a finite number greater than 0"),
        (lambda: fcnn.BinaryCrossEntropy(pos_weight=[1.0, 0]), r"\(pos_weight\) expects numbers greater than 0"),
        (lambda: fcnn.BinaryCrossEntropy(pos_weight=[1.0, 2]).check_outputs(3), r"\(pos_weight\) has 2 numbers for 3"),
        (
            lambda: fcnn.BinaryCrossEntropy(pos_weight=cast(Any, "balanced")),
            "expects one number for all outputs or one per",
        ),
        (lambda: fcnn.Hinge(squared=1), r"Hinge\(squared\) expects True or False"),  # type: ignore[arg-type]
        (lambda: fcnn.Hinge().forward(np.zeros((2, 1)), [0, 0.5]), "labels 0 and 1, or −1 and 1, got 0.5 in row 1"),
        (lambda: fcnn.Hinge().forward(np.zeros((3, 1)), [-1, 1, 0]), "labels 0 and 1, or −1 and 1, got 0 in row 2"),
    ],
)
def test_settings_and_targets_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("loss", [*ELEMENTWISE, fcnn.CrossEntropy(), fcnn.KLDivergence()], ids=repr)
def test_nan_outputs_give_a_nan_loss(loss: Loss) -> None:
    z = np.zeros((3, 2))
    z[1, 0] = np.nan
    with np.errstate(invalid="ignore"):
        assert np.isnan(float(loss.forward(z, np.array([[0.0, 1], [1, 0], [0, 1]]))))
    assert np.isnan(loss.backward()[1, 0])


def test_a_sample_of_weight_two_is_that_sample_twice() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 4))
    for loss, y in ((fcnn.CrossEntropy(label_smoothing=0.1), np.array([0, 3, 1])), (fcnn.MSE(), rng.random((3, 4)))):
        weighted = float(loss.forward(z, y, [1, 2, 0])) * 3
        repeated = float(loss.forward(z[[0, 1, 1]], y[[0, 1, 1]])) * 3
        assert weighted == pytest.approx(repeated)


def test_mae_has_no_slope_where_it_is_right() -> None:
    loss = fcnn.MAE()
    loss.forward(np.array([[1.0, 2.0]]), np.array([[1.0, 3.0]]))
    np.testing.assert_array_equal(loss.backward(), [[0.0, -0.5]])


# Refusals


@pytest.mark.parametrize(
    ("loss", "n_outputs", "y", "error", "message"),
    [
        ("cross_entropy", 3, [0, 1, 3], ValueError, r"expects labels 0 ... 2, got 3 in row 2"),
        ("cross_entropy", 3, [0, -1, 1], ValueError, r"got -1 in row 1. Give the last layer one output per class"),
        ("cross_entropy", 3, [0, 1.5, 1], ValueError, r"integer labels, got 1.5 in row 1. .* use 'mse'"),
        ("cross_entropy", 3, [0, 1e300, 1], ValueError, r"got 1e\+300 in row 1"),
        ("cross_entropy", 3, np.array([0, 2**64 - 1], np.uint64), ValueError, "got 18446744073709551615 in row 1"),
        ("cross_entropy", 3, [0, np.nan, 1], ValueError, r"targets hold NaN or infinity \(first in row 1\)"),
        ("cross_entropy", 3, [0, np.inf, 1], ValueError, "targets hold NaN or infinity"),
        ("cross_entropy", 3, ["a", "b"], TypeError, "got <U1 values. For names of classes use FCNNClassifier"),
        ("cross_entropy", 3, [None, 1], ValueError, r"a value is missing, None \(row 0\)"),
        ("cross_entropy", 3, [1j, 1], TypeError, r"got complex numbers\.$"),
        ("cross_entropy", 3, [[0], [1]], ValueError, r"shape \(2, 1\): a column. .* y.ravel\(\)"),
        ("cross_entropy", 3, [[0, 1], [1, 0]], ValueError, r"expects targets of shape \(n_samples, 3\), got \(2, 2\)"),
        ("cross_entropy", 2, [[0.5, 0.6], [1, 0]], ValueError, "distribution: .* use 'binary_cross_entropy'"),
        ("cross_entropy", 2, [[-0.5, 1.5], [1, 0]], ValueError, "distribution"),
        ("kl_divergence", 2, [[0.5, 0.6], [1, 0]], ValueError, "kl_divergence expects each row .* distribution"),
        ("focal", 2, [[0.5, 0.5], [1, 0]], ValueError, r"focal expects integer labels .* \(2, 2\). .*argmax"),
        ("focal", 2, [[0], [1]], ValueError, r"y.ravel\(\)\.$"),
        ("cross_entropy", 3, np.zeros((2, 2, 2)), ValueError, r"got \(2, 2, 2\)"),
        ("cross_entropy", 3, 1, ValueError, r"got \(\)"),
        ("cross_entropy", 3, [[0, 1], [1]], ValueError, "the targets cannot be made an array"),
        ("mse", 2, [0.0, 1.0], ValueError, r"mse with 2 outputs expects targets of shape \(n_samples, 2\), got \(2,\)"),
        ("mse", 1, [[0.0, 1.0]], ValueError, r"\(n_samples, 1\) or \(n_samples,\), got \(1, 2\)"),
        ("mae", 1, [0.0, 1e300], ValueError, r"the targets hold 1e\+300 \(row 1\), outside the range of float32"),
        ("huber", 1, [0.0, np.nan], ValueError, "NaN or infinity"),
        (
            "binary_cross_entropy",
            1,
            [0, 2],
            ValueError,
            r"targets in \[0, 1\], got values from 0 to 2. .*cross_entropy",
        ),
        ("binary_cross_entropy", 2, [[0, 1], [-1, 0]], ValueError, "got values from -1 to 1"),
    ],
)
def test_targets_that_are_refused(loss: str, n_outputs: int, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LOSSES.resolve(loss).prepare_targets(y, n_outputs, np.float32)


def test_sparse_targets() -> None:
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="cross_entropy: the targets must be dense, got the sparse csr_array"):
        fcnn.CrossEntropy().prepare_targets(csr_array(np.eye(3)), 3, np.float32)


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ([1.0, -1.0], ValueError, "finite weights of at least 0"),
        ([1.0, np.nan], ValueError, "finite weights of at least 0"),
        ([1.0, np.inf], ValueError, "finite weights of at least 0"),
        ([0.0, 0.0], ValueError, "sample_weight is 0 for every sample: there is nothing to learn"),
        ([1e300, 1.0], ValueError, r"sample_weight holds 1e\+300 \(row 0\), outside the range of float32"),
        ([1e-300, 0.0], ValueError, "rounds to 0 in float32"),
        ([1.0], ValueError, r"expects shape \(2,\), one weight per sample, got \(1,\)"),
        ([[1.0], [1.0]], ValueError, r"got \(2, 1\)"),
        (1.0, ValueError, r"got \(\)"),
        (["1", "2"], TypeError, "sample_weight expects numbers, got <U1 values"),
        ([1j, 1], TypeError, "sample_weight expects numbers"),
    ],
)
def test_sample_weights_that_are_refused(weight: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_sample_weight(weight, 2, np.float32)


CROSS_ENTROPY: Any = fcnn.CrossEntropy
"""Free of types, as a user without a type checker calls it."""


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CROSS_ENTROPY(label_smoothing=1.5), ValueError, r"label_smoothing\) expects .* in \[0, 1\]"),
        (lambda: CROSS_ENTROPY(label_smoothing=True), TypeError, "expects a number, got True"),
        (lambda: CROSS_ENTROPY(class_weight=[1.0, -1.0]), ValueError, "each weight expects a finite number"),
        (lambda: CROSS_ENTROPY(class_weight=[1.0, np.nan]), ValueError, "each weight expects a finite number"),
        (lambda: CROSS_ENTROPY(class_weight=[0.0, 0.0]), ValueError, "0 for every class"),
        (lambda: CROSS_ENTROPY(class_weight={0: 1.0, 1: 5.0}), TypeError, "A dict of labels.* goes to trainer.fit"),
        (lambda: CROSS_ENTROPY(class_weight="balanced"), TypeError, "expects one number per class, got 'balanced'"),
        (lambda: CROSS_ENTROPY(class_weight=2.0), TypeError, "expects one number per class, got 2.0"),
        (lambda: CROSS_ENTROPY(class_weight=["1", "2"]), TypeError, "expects a number, got '1'"),
        (lambda: fcnn.Huber(delta=0.0), ValueError, r"Huber\(delta\) expects a finite number greater than 0"),
        (lambda: fcnn.Focal(-1.0), ValueError, r"Focal\(gamma\) expects a finite number of at least 0"),
        (lambda: fcnn.Focal(alpha=[1.0]).check_outputs(3), ValueError, r"Focal\(alpha\) has 1 weights for 3 outputs"),
        (lambda: fcnn.Focal(alpha=[0.0, 0]), ValueError, r"Focal\(alpha\) is 0 for every class"),
        (lambda: CROSS_ENTROPY().check_outputs(1), ValueError, "at least 2, got 1. .*'binary_cross_entropy'"),
        (lambda: CROSS_ENTROPY(class_weight=[1.0]).check_outputs(3), ValueError, "1 weights for 3 outputs"),
    ],
)
def test_options_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_explicit_loops_calls_are_checked() -> None:
    loss = fcnn.MSE()
    with pytest.raises(RuntimeError, match=r"backward\(\) needs forward\(outputs, y\) before it"):
        loss.backward()
    with pytest.raises(ValueError, match=r"outputs of shape \(batch, n_outputs\), got \(3,\)"):
        loss.forward(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="3 rows of outputs but 2 targets"):
        loss.forward(np.zeros((3, 1)), np.zeros(2))
    with pytest.raises(ValueError, match=r"sample_weight expects shape \(3,\)"):
        loss.forward(np.zeros((3, 1)), np.zeros(3), [1, 2])
    with pytest.raises(ValueError, match="at least 2, got 1"):
        fcnn.CrossEntropy().forward(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(RuntimeError, match="needs forward"):
        loss.backward()


def test_a_copy_or_pickle_has_the_options_and_no_gradient() -> None:
    loss = fcnn.CrossEntropy(label_smoothing=0.1, class_weight=[1.0, 2.0])
    loss.forward(np.zeros((3, 2)), [0, 1, 1])
    for again in (copy.deepcopy(loss), copy.copy(loss), pickle.loads(pickle.dumps(loss))):
        assert again == loss
        with pytest.raises(RuntimeError):
            again.backward()
    assert loss.backward().shape == (3, 2)


def test_the_base_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="Loss must define prepare_targets"):
        Loss().prepare_targets([0], 1, np.float32)
    with pytest.raises(NotImplementedError, match="Loss must define compute"):
        Loss().compute(*[None] * 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "loss", [fcnn.CrossEntropy(), fcnn.CrossEntropy(0.1, [1.0, 2.0, 0.5]), fcnn.Focal(), *ELEMENTWISE], ids=repr
)
def test_a_loss_scale_multiplies_the_gradient_and_nothing_else(ops: Ops, loss: Loss, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    Z, dZ, scaled = (ops.matrix(3, 7, dtype) for _ in range(3))
    ops.assign(Z, rng.normal(size=(3, 7)))
    y = rng.integers(0, 3, 7) if loss.link == "softmax" else rng.integers(0, 2, (7, 3))
    targets, weights = ops.asarray(loss.prepare_targets(y, 3, dtype)), ops.asarray(rng.random(7), dtype)
    losses, again, scale = ops.empty(7, dtype), ops.empty(7, dtype), ops.asarray(np.array([2.0**16]))
    loss.compute(ops, Z, targets, weights, losses, dZ)
    loss.compute(ops, Z, targets, weights, again, scaled, loss_scale=scale)
    np.testing.assert_array_equal(ops.to_numpy(again), ops.to_numpy(losses))
    # A power of two moves the exponent alone, so the digits must be the same.
    np.testing.assert_array_equal(ops.to_numpy(scaled), ops.to_numpy(dZ) * dtype(2.0**16))


def test_a_captured_loss_reads_its_scale_anew() -> None:
    ops, loss = Ops(), fcnn.MSE()
    Z, dZ, Y = np.full((3, 2), 2.0).T, np.empty((3, 2)).T, np.zeros((3, 2))
    losses, scale = np.empty(3), np.array([4.0])
    replay = ops.capture(lambda: loss.compute(ops, Z, Y, None, losses, dZ, scale))
    for value in (4.0, 4.0, 2.0, 0.5):
        scale[0] = value
        replay()
        np.testing.assert_array_equal(dZ, np.full((2, 3), 4.0 / 6 * value))


def test_a_loss_of_ones_own_needs_to_know_the_loss_scale_only_in_float16() -> None:
    class Mine(Loss):
        name, link = "mine", "identity"

        def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
            return np.asarray(y, dtype).reshape(-1, 1)

        def compute(self, ops: Ops, Z: Any, y: Any, w: Any, losses: Any, dZ: Any) -> None:  # type: ignore[override]
            losses[...] = (Z - y.T)[0]
            dZ[...] = 1.0 / Z.shape[1]

    class Forwarding(Mine):
        def compute(self, *args: Any, **options: Any) -> None:
            super().compute(*args, **options)

    loss = Mine()
    assert float(loss.forward(np.array([[1.0], [3.0]]), [0.0, 0.0])) == 2.0
    np.testing.assert_array_equal(loss.backward(), [[0.5], [0.5]])
    with pytest.raises(TypeError, match=r"precision='float16' .* Mine\.compute has no parameter loss_scale. Add"):
        loss.check_loss_scale()
    Forwarding().check_loss_scale()
    for known in LOSSES:
        LOSSES.resolve(known).check_loss_scale()
