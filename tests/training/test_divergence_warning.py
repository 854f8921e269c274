"""What is said of runs that end, at finite numbers, far above the loss of a network that says nothing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.estimators import TargetScaleWarning
from fcnn_gpu.losses import LOSSES, EnsembleLoss, Loss
from fcnn_gpu.training import loss_of_constant
from tests.support.estimator_cases import classifier, regressor, scaled_iris

X, Y = scaled_iris()
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
VALUES = 1.0 + X[:, :1]


def fit(rate: float, X: Any = X, y: Any = Y, epochs: int = 12, **options: Any) -> fcnn.History:
    model = fcnn.Sequential([fcnn.Dense(8, activation="relu"), fcnn.Dense(3)], n_in=4, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(rate))
    return trainer.fit(X, y, epochs=epochs, batch_size=32, progress=False, **options)


def test_a_run_that_diverged_to_finite_numbers_says_so() -> None:
    with pytest.warns(
        fcnn.DivergenceWarning, match=r"loss of .*outputs are all 0 has one of 1\.1: .*it was 1e\+06"
    ) as got:
        assert np.isfinite(fit(1e6)["loss"][-1])
    assert got[0].filename == __file__
    with pytest.warns(fcnn.DivergenceWarning):
        classifier(learning_rate=1e6, epochs=12).fit(X, Y)


@pytest.mark.parametrize(
    "options",
    [{"rate": 0.01}, {"rate": 1e6, "epochs": 9}],
    ids=["well", "short"],
)
def test_others_say_nothing(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(**options)


def test_the_weights_that_a_callback_put_back_count() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates = fcnn.schedules.StepDecay(0.01, every=6, factor=1e9)
        model = fcnn.Sequential([fcnn.Dense(3)], n_in=4, seed=0, backend="numpy")
        best = fcnn.callbacks.KeepBest("loss")
        fcnn.Trainer(model, optimizer=fcnn.Adam(rates)).fit(X, Y, epochs=12, progress=False, callbacks=[best])
    assert best.best_epoch is not None
    assert best.best_epoch <= 6


@pytest.mark.parametrize("weights", [None, WEIGHTS.astype("float32")], ids=["", "weighted"])
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("kl_divergence", "hinge")])
def test_loss_of_constant_is_that_of_such_outputs(name: str, weights: Any) -> None:
    loss: Loss = LOSSES[name]()
    n_out = 3 if loss.link == "softmax" else 1
    y: Any = Y if n_out == 3 else (VALUES > 1) * 1.0 if loss.link == "sigmoid" else np.abs(VALUES)
    outputs = np.linspace(-0.5, 0.7, n_out).astype("float32")
    expected = loss.forward(np.tile(outputs, (len(y), 1)), y, weights)
    prepared = loss.prepare_targets(y, n_out, np.float32)
    assert loss_of_constant(loss, outputs, prepared, weights) == pytest.approx(float(expected), rel=1e-5)


def test_loss_of_constant_of_an_ensemble_and_of_many_samples() -> None:
    loss = EnsembleLoss("mse", members=2)
    y = np.random.default_rng(0).normal(size=(20_000, 1)).astype("float32")
    looked_at = y[:: 20_000 // 1000]  # a thousand of them
    assert loss_of_constant(loss, np.zeros(2, "float32"), y) == pytest.approx(float((looked_at**2).mean()), rel=1e-6)


# Targets far from unit scale


@pytest.mark.parametrize(
    ("offset", "scale"), [(1e5, 1e3), (0.0, 1e4), (50.0, 1.0), (0.0, 1e-4)], ids=["far", "large", "distant", "small"]
)
def test_a_regressor_worse_than_the_mean_says_to_scale(offset: float, scale: float) -> None:
    y = offset + scale * (X[:, 0] + 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fcnn.DivergenceWarning)  # of small values it may say so, too
        with pytest.warns(TargetScaleWarning, match="(?s)nothing was learned.*TransformedTargetRegressor") as got:
            network = regressor(epochs=10, learning_rate=1e-4).fit(X, y, WEIGHTS)
    assert {w.filename for w in got if w.category is TargetScaleWarning} == {__file__}
    assert network.score(X, y) < 0.0


def test_several_columns_and_other_losses_are_judged_by_their_own_mean() -> None:
    y = np.c_[X[:, 0], 1e3 * (X[:, 1] + 3.0)]
    with pytest.warns(TargetScaleWarning, match=r"mean 3e\+03, standard deviation 1e\+03"):
        regressor(epochs=10, learning_rate=1e-4, loss="mae").fit(X, y)
    with pytest.warns(TargetScaleWarning, match="nothing was learned"):
        regressor(epochs=10, learning_rate=1e-4, loss="poisson").fit(X, np.abs(y))


@pytest.mark.filterwarnings("ignore::fcnn_gpu.estimators.UnfinishedFitWarning")
@pytest.mark.parametrize(
    ("y", "options"),
    [
        (20.0 * X[:, 0], {"learning_rate": 0.05, "epochs": 60}),  # learned all the same
        (X[:, 0], {"learning_rate": 1e-6, "epochs": 10}),  # of unit scale
        (1e5 + 1e3 * X[:, 0], {"epochs": 9}),  # few epochs, as somebody wanted
        (np.full(150, 0.0), {"epochs": 10}),  # nothing to learn
    ],
    ids=["learned", "unit", "short", "constant"],
)
def test_no_word_about_others(y: Any, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", TargetScaleWarning)
        regressor(**options).fit(X, y)
