"""find_learning_rate: its curve, its suggestions, and that nothing is changed by it."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.training import LearningRateCurve
from tests.conftest import compiled_ops, numpy_ops

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 4)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


def trainer(backend: Any = "numpy", optimizer: Any = None) -> fcnn.Trainer:
    layers = [fcnn.Dense(16, activation="relu"), fcnn.BatchNorm(), fcnn.Dropout(0.1), fcnn.Dense(2)]
    model = fcnn.Sequential(layers, n_in=4, seed=0, backend=backend)
    return fcnn.Trainer(model, "cross_entropy", optimizer or fcnn.Adam(1e-3), metrics=["accuracy"])


@pytest.mark.parametrize("make", [numpy_ops, compiled_ops])
def test_nothing_is_changed(make: Any) -> None:
    found, plain = trainer(make()), trainer(make())
    for t in (found, plain):
        t.fit(X, Y, epochs=1, progress=False)
    before = dict(vars(found))
    curve = fcnn.find_learning_rate(found, X, Y, batch_size=32, steps=30)
    assert vars(found) == before
    for t in (found, plain):
        t.fit(X, Y, epochs=2, progress=False)
    for name, array in plain.model.named_arrays().items():
        to_numpy = plain.model.ops.to_numpy
        np.testing.assert_array_equal(to_numpy(array), to_numpy(found.model.named_arrays()[name]))
    assert len(curve.rates) >= 10


@pytest.mark.parametrize("batch_size", [10, 64, 200])
def test_rates_rise_exponentially_from_step_to_step(batch_size: int) -> None:
    curve = fcnn.find_learning_rate(trainer(), X, Y, low=1e-6, high=1e-2, steps=50, batch_size=batch_size)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-6, 1e-2, 50), rtol=1e-9)
    weights = 0.98 ** np.arange(50)[::-1]
    assert curve.smoothed[-1] == pytest.approx((weights * curve.losses).sum() / weights.sum())


def test_the_losses_are_those_of_training_at_these_rates() -> None:
    curve = fcnn.find_learning_rate(
        trainer(optimizer=fcnn.SGD(1.0)), X, Y, low=1e-3, high=1.0, steps=20, batch_size=200
    )

    class Rise(fcnn.schedules.Schedule):
        def __call__(self, epoch: float, n_epochs: float) -> float:
            return float(1e-3 * 1000 ** (epoch / 19))

    history = trainer(optimizer=fcnn.SGD(Rise())).fit(X, Y, epochs=20, batch_size=200, progress=False)
    np.testing.assert_allclose(curve.losses, history["loss"], rtol=1e-5)


def test_a_suggested_rate_trains_better_than_one_far_from_it() -> None:
    curve = fcnn.find_learning_rate(trainer(), X, Y, batch_size=32)
    losses = []
    for rate in (curve.suggestion, curve.suggestion / 300):
        losses.append(
            trainer(optimizer=fcnn.Adam(rate)).fit(X, Y, epochs=10, batch_size=32, progress=False)["loss"][-1]
        )
    assert losses[0] < 0.8 * losses[1]


def test_the_suggestions_of_a_known_curve() -> None:
    rates = np.geomspace(1e-6, 1.0, 61)
    smoothed = np.concatenate([np.full(20, 2.0), np.linspace(2.0, 1.0, 21), np.linspace(1.0, 9.0, 20)])
    smoothed[30] -= 0.02
    curve = LearningRateCurve(rates, smoothed, smoothed)
    assert rates[28] <= curve.valley <= rates[31]
    assert rates[28] <= curve.steepest <= rates[30]
    assert curve.suggestion == curve.valley


def test_the_curve_ends_where_the_loss_explodes_or_diverges() -> None:
    curve = fcnn.find_learning_rate(trainer(optimizer=fcnn.SGD(1.0)), 10 * X, Y, high=1e30, steps=60)
    assert 10 <= len(curve.rates) < 60
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=4, seed=0, backend="numpy")
    message = r"the loss diverged in step \d, at the rate .*smaller rate than low=1e\+30"
    with pytest.raises(ValueError, match=message):
        fcnn.find_learning_rate(model, X, X.sum(axis=1), loss="mse", optimizer=fcnn.SGD(1.0), low=1e30, high=1e35)
    assert np.isfinite(model.flat.values).all()


def test_a_network_by_itself_with_loss_and_optimizer() -> None:
    model, optimizer = trainer().model, fcnn.SGD(0.1)
    before = copy.deepcopy(vars(optimizer))
    curve = fcnn.find_learning_rate(model, X, Y, optimizer=optimizer, batch_size=50, class_weight="balanced")
    assert vars(optimizer) == before
    optimizers = fcnn.SGD(0.1), fcnn.Adam()
    expected, other = (
        fcnn.find_learning_rate(
            fcnn.Trainer(trainer().model, "cross_entropy", o), X, Y, batch_size=50, class_weight="balanced"
        )
        for o in optimizers
    )
    np.testing.assert_array_equal(curve.losses, expected.losses)
    assert not np.array_equal(curve.losses, other.losses)


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = fcnn.find_learning_rate(trainer(), X, Y, batch_size=32)
    figure = curve.plot(tmp_path / "curve.png")
    assert figure.axes[0].get_xscale() == "log"
    assert (tmp_path / "curve.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"low": 0.0}, ValueError, r"find_learning_rate\(low\)"),
        ({"low": 1.0, "high": 0.5}, ValueError, r"find_learning_rate\(high\)"),
        ({"steps": 5}, ValueError, r"find_learning_rate\(steps\)"),
        ({"epochs": 3}, TypeError, "takes no epochs"),
        ({"batch_size": 0}, ValueError, r"fit\(batch_size\)"),
    ],
)
def test_what_is_refused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fcnn.find_learning_rate(trainer(), X, Y, **options)


def test_what_is_no_network_and_what_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    small = fcnn.Sequential([fcnn.Dense(2)], n_in=4, backend="numpy")
    with pytest.raises(TypeError, match="LBFGS searches the length of each step itself"):
        fcnn.find_learning_rate(fcnn.Trainer(small, optimizer=fcnn.LBFGS()), X, Y)
    with pytest.raises(TypeError, match="expects a Trainer or a Sequential, got list"):
        fcnn.find_learning_rate([], X, Y)  # type: ignore[arg-type]
    from fcnn_gpu.training.learning_rate_finder import _Watch

    monkeypatch.setattr(_Watch, "on_step", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="find_learning_rate was interrupted"):
        fcnn.find_learning_rate(trainer(), X, Y)
