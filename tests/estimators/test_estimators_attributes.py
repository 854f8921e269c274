"""The attributes that scikit-learn's MLPs have, the rules that end a run, and schedules of its learning rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu.estimators import UnfinishedFitWarning
from tests.support.estimator_cases import classifier, regressor, scaled_iris, three_labels
from tests.support.tolerances import assert_close

X, Y = scaled_iris()
VALUES = X[:, :2] + 1.0


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_coefs_and_intercepts_are_the_network(backend: str) -> None:
    network = regressor(hidden_layer_sizes=(5, 4), activation="tanh", backend=backend).fit(X, VALUES)
    assert [c.shape for c in network.coefs_] == [(4, 5), (5, 4), (4, 2)]
    A = X.astype("float32")
    for W, b in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        A = np.tanh(A @ W + b)
    assert_close(A @ network.coefs_[-1] + network.intercepts_[-1], network.predict(X), "sum")
    network.coefs_[0][...] = 0.0  # copies
    assert network.coefs_[0].any()


def test_batch_norm_has_no_intercepts() -> None:
    network = classifier(batch_norm=True).fit(X, Y)
    assert len(network.coefs_) == 2
    with pytest.raises(AttributeError, match="batch_norm"):
        _ = network.intercepts_


@pytest.mark.parametrize(
    ("network", "y", "activation"),
    [
        (classifier(), Y, "softmax"),
        (classifier(), None, "logistic"),
        (regressor(), VALUES, "identity"),
        (regressor(loss="poisson"), Y, "exp"),
    ],
)
def test_out_activation_and_layers(network: Any, y: Any, activation: str) -> None:
    network.fit(*((X, y) if y is not None else three_labels()))
    assert (network.out_activation_, network.n_layers_) == (activation, 3)


def test_losses_and_samples() -> None:
    network = classifier(epochs=4, warm_start=True).fit(X, Y)
    assert network.loss_ == network.loss_curve_[-1] == network.history_["loss"][-1]
    assert network.best_loss_ == min(network.loss_curve_)
    assert (network.validation_scores_, network.best_validation_score_) == (None, None)
    assert network.t_ == 4 * 150
    assert network.fit(X[:100], Y[:100] * 2).partial_fit(X[:10], Y[:10] * 2).t_ == 600 + 400 + 10


def test_validation_scores_are_what_early_stopping_goes_by() -> None:
    network = classifier(epochs=30, early_stopping=True, patience=3).fit(X, Y)
    assert network.validation_scores_ == [-v for v in network.history_["val_loss"]]
    assert network.best_validation_score_ == max(network.validation_scores_)
    assert network.best_loss_ is None
    assert network.t_ == network.n_iter_ * 135


# What ends a run


@pytest.mark.parametrize("n_iter_no_change", [1, 4])
def test_tol_ends_the_run_after_so_many_epochs_without_a_fall(n_iter_no_change: int) -> None:
    network = classifier(epochs=500, l2=1e-2, tol=0.05, n_iter_no_change=n_iter_no_change).fit(X, Y)
    losses = np.add(network.history_["loss"], network.history_["penalty"])
    no_fall = [i > 0 and losses[i] > losses[:i].min() - 0.05 for i in range(len(losses))]
    assert all(no_fall[-n_iter_no_change - 1 :])
    assert len(losses) < 500
    assert network.history_.stopped_by == f"tol: loss fell by less than 0.05 for {n_iter_no_change + 1} epochs"


def test_tol_with_early_stopping_is_of_val_loss_and_the_best_epoch_is_kept() -> None:
    network = classifier(epochs=500, early_stopping=True, patience=2, tol=0.5).fit(X, Y)
    assert network.n_iter_ == 4
    assert network.history_.stopped_by.startswith("tol: val_loss")
    assert network.history_.best_epoch == int(np.argmax(network.validation_scores_)) + 1


def test_a_run_that_tol_has_not_ended_warns() -> None:
    with pytest.warns(UnfinishedFitWarning, match="took all its 3 epochs"):
        classifier(tol=0.0, n_iter_no_change=np.inf).fit(X, Y)


def test_auto_batches_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(450, 2)), rng.normal(size=450)
    auto, given = (regressor(batch_size=size).fit(X, y) for size in ("auto", 200))
    np.testing.assert_array_equal(auto.predict(X), given.predict(X))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tol": -1.0}, "tol"),
        ({"n_iter_no_change": 0}, "n_iter_no_change"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_rules_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**parameters).fit(X, Y)
