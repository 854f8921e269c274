"""FCNNClassifier and FCNNRegressor: scikit-learn's own checks, and what those do not ask."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import fcnn_gpu as fcnn
from fcnn_gpu import FCNNClassifier, FCNNRegressor
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.schedules import Cosine, Exponential, ReduceOnPlateau


def _small(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_layer_sizes": (8,), "random_state": 0, "backend": "numpy", "epochs": 3} | parameters


def classifier(**parameters: Any) -> Any:
    return FCNNClassifier(**_small(parameters))


def regressor(**parameters: Any) -> Any:
    return FCNNRegressor(**_small(parameters))


@pytest.fixture(scope="module")
def iris() -> tuple[HostArray, HostArray]:
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def labels_matrix() -> tuple[HostArray, HostArray]:
    """Three labels that do not exclude each other, each the sign of one linear function."""
    X = np.random.default_rng(0).standard_normal((300, 4))
    return X, (X @ np.random.default_rng(1).standard_normal((4, 3)) > 0).astype(int)


def assert_same_network(a: Any, b: Any) -> None:
    mine, others = a.model_.named_arrays(), b.model_.named_arrays()
    assert mine.keys() == others.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


# scikit-learn's checks. With full batches in float64, all of them; by default, with two exceptions.

_DEFAULTS: dict[str, Any] = {"random_state": 0, "backend": "numpy"}
_EXACT: dict[str, Any] = {"batch_size": 1000, "dtype": "float64"}


def _expected_failures(estimator: Any) -> dict[str, str]:
    if estimator.dtype == "float64":
        return {}
    reasons = {
        "check_sample_weight_equivalence_on_dense_data": "asks for 1e-7, which float32 does not have",
    }
    if isinstance(estimator, FCNNRegressor):
        reasons["check_regressor_multioutput"] = "predictions come in the network's dtype, the check asks for float64"
    return reasons


@parametrize_with_checks(
    [
        FCNNClassifier(**_DEFAULTS),
        FCNNRegressor(**_DEFAULTS),
        FCNNClassifier(**_DEFAULTS, **_EXACT),
        FCNNRegressor(**_DEFAULTS, **_EXACT),
    ],
    expected_failed_checks=_expected_failures,
    xfail_strict=True,
)
@pytest.mark.filterwarnings("default")
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


# Quality


def test_digits_as_accurate_as_scikit_learns_mlp() -> None:
    """Same architecture, both with their defaults otherwise: at most 1 point below, mean of three seeds."""
    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    ours, theirs = [], []
    for seed in range(3):
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
        network = FCNNClassifier((64,), epochs=60, random_state=seed, backend="numpy").fit(X_train, y_train)
        with threadpool_limits(1):
            reference = MLPClassifier((64,), max_iter=400, random_state=seed).fit(X_train, y_train)
        ours.append(network.score(X_test, y_test))
        theirs.append(reference.score(X_test, y_test))
    assert np.mean(ours) >= np.mean(theirs) - 0.01, (ours, theirs)
    assert np.mean(ours) > 0.96


def test_regression_with_a_scaled_target() -> None:
    X, y = load_diabetes(return_X_y=True)
    network = make_pipeline(StandardScaler(), regressor(hidden_layer_sizes=(), epochs=60, learning_rate=0.01))
    scores = cross_val_score(TransformedTargetRegressor(network, transformer=StandardScaler()), X, y, cv=3)
    assert scores.mean() > 0.4  # least squares: 0.48


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", fcnn.Huber(delta=0.5)])
def test_each_regression_loss_learns_several_outputs(loss: Any) -> None:
    X = np.random.default_rng(0).standard_normal((400, 3))
    Y = np.column_stack([X[:, 0] - X[:, 1], np.tanh(2 * X[:, 2])])
    network = regressor(loss=loss, hidden_layer_sizes=(32,), epochs=100, learning_rate=0.01).fit(X, Y)
    assert network.predict(X).shape == Y.shape
    assert network.score(X, Y) > 0.97
    assert network.model_.link == "identity"


def test_column_target_gives_column_predictions() -> None:
    X, y = load_diabetes(return_X_y=True)
    assert regressor().fit(X, y).predict(X).shape == (442,)
    assert regressor().fit(X, y[:, None]).predict(X).shape == (442, 1)


# Labels, probabilities


def test_string_labels(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    network = classifier(epochs=60, learning_rate=0.01).fit(X, names)
    assert network.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert network.score(X, names) > 0.95
    numbers = classifier(epochs=60, learning_rate=0.01).fit(X, y)
    assert_same_network(network, numbers)


def test_probabilities_agree_with_each_other(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(epochs=30).fit(X, y)
    P = network.predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(P, network.model_.predict(X), atol=1e-6)
    np.testing.assert_allclose(network.predict_log_proba(X), np.log(P), atol=1e-5)
    np.testing.assert_array_equal(network.predict(X), P.argmax(axis=1))
    far = network.predict_log_proba(1e4 * X)
    assert np.isfinite(far).all()
    assert far.min() < -200  # whose exponential is 0 in float32


def test_decision_function_of_two_classes_is_the_log_odds(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris[0][50:], iris[1][50:]
    network = classifier(epochs=10).fit(X, y)
    P, D = network.predict_proba(X), network.decision_function(X)
    np.testing.assert_allclose(D, np.log(P[:, 1] / P[:, 0]), atol=1e-4)
    np.testing.assert_array_equal(network.predict(X), np.where(D > 0, 2, 1))


def test_label_matrix(labels_matrix: tuple[HostArray, HostArray]) -> None:
    X, Y = labels_matrix
    network = classifier(epochs=100, learning_rate=0.01, metrics=["accuracy"]).fit(X, Y)
    assert network.model_.link == "sigmoid"
    assert network.score(X, Y) > 0.9  # all three labels right
    assert network.history_["accuracy"][-1] > 0.9
    P = network.predict_proba(X)
    assert P.shape == Y.shape
    assert P.sum(axis=1).std() > 0.1  # no distribution over the labels
    np.testing.assert_array_equal(network.predict(X), P > 0.5)
    np.testing.assert_allclose(network.predict_log_proba(X), np.log(P), atol=1e-5)
    np.testing.assert_array_equal(network.classes_, [0, 1, 2])
    assert_same_network(network, clone(network).fit(X, csr_array(Y)))


def test_one_hot_label_matrix_is_counted_label_by_label() -> None:
    X = np.eye(4).repeat(10, axis=0)
    Y = np.eye(4, dtype=int).repeat(10, axis=0)
    network = classifier(epochs=1, metrics=["accuracy"]).fit(X, Y)
    started_wrong = (network.predict(X) != Y).any(axis=1).mean()
    assert started_wrong > 0.5
    assert network.history_["accuracy"][0] < 0.5


# Weights


def test_class_weight_moves_the_decision() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-0.5, 1, (450, 1)), rng.normal(0.5, 1, (50, 1))])
    y = np.repeat(["common", "rare"], [450, 50])
    recall = {}
    for weight in (None, "balanced", {"rare": 100.0}):
        network = classifier(class_weight=weight, epochs=30, learning_rate=0.01).fit(X, y)
        recall[str(weight)] = (network.predict(X)[450:] == "rare").mean()
    assert recall["None"] < 0.2 < 0.5 < recall["balanced"] < recall["{'rare': 100.0}"]


def test_class_weight_is_a_sample_weight(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    by_class = classifier(class_weight={0: 1.0, 1: 2.0, 2: 4.0}).fit(X, y)
    assert_same_network(by_class, classifier().fit(X, y, sample_weight=2.0**y))
    assert_same_network(by_class, classifier().fit(X, y, sample_weight=1e-6 * 2.0**y))  # only ratios count


def test_partial_fit_takes_weights_as_they_are(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    parameters = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 150, "dtype": "float64"}
    light, plain = classifier(**parameters), classifier(**parameters)
    start = classifier(**parameters, warm_start=True).partial_fit(X, y, [0, 1, 2], sample_weight=np.full(150, 1e-30))
    light.partial_fit(X, y, [0, 1, 2], sample_weight=np.full(150, 0.25))
    plain.partial_fit(X, y, [0, 1, 2])
    W0, W_light, W_plain = (network.model_.layers[0].W for network in (start, light, plain))
    np.testing.assert_allclose(W_light - W0, 0.25 * (W_plain - W0), rtol=1e-9, atol=1e-15)


# Determinism, warm start, partial_fit


def test_random_state_decides(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    options = {"dropout": 0.3, "validation_fraction": 0.2}
    first = classifier(**options).fit(X, y)
    assert_same_network(first, classifier(**options).fit(X, y))
    assert first.history_["val_loss"] == classifier(**options).fit(X, y).history_["val_loss"]
    other = classifier(**options | {"random_state": 1}).fit(X, y)
    assert not np.array_equal(first.model_.layers[0].W, other.model_.layers[0].W)
    drawn = [classifier(random_state=np.random.RandomState(3)).fit(X, y) for _ in range(2)]
    assert_same_network(*drawn)
    seedless = [classifier(random_state=None).fit(X, y).model_.seed for _ in range(2)]
    assert seedless[0] != seedless[1]


def test_it_is_the_network_that_the_explicit_interface_trains(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(dropout=0.2, l2=1e-3, optimizer=fcnn.Adam(0.01), batch_size=16).fit(X, y)
    layers = [fcnn.Dense(8, activation="relu", l2=1e-3), fcnn.Dropout(0.2), fcnn.Dense(3, l2=1e-3)]
    model = fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy")
    history = fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01)).fit(X, y, epochs=3, batch_size=16, progress=False)
    assert network.loss_curve_ == history["loss"]
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(array, network.model_.named_arrays()[name])


@pytest.mark.parametrize("pickled", [False, True], ids=["live", "pickled"])
@pytest.mark.parametrize("optimizer", ["adam", fcnn.SGD(0.1, momentum=0.9), "rmsprop", "adagrad"], ids=str)
def test_warm_start_equals_one_longer_run(optimizer: Any, pickled: bool, iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    options = {"dropout": 0.2, "batch_norm": True, "validation_fraction": 0.2, "optimizer": optimizer}
    halves = classifier(**options, warm_start=True, epochs=4).fit(X, y)
    if pickled:
        halves = pickle.loads(pickle.dumps(halves))
    halves.fit(X, y)
    whole = classifier(**options, epochs=8).fit(X, y)
    assert_same_network(halves, whole)
    assert halves.loss_curve_ == whole.loss_curve_
    assert halves.history_["epoch"] == whole.history_["epoch"] == list(range(1, 9))
    assert halves.history_["val_loss"] == whole.history_["val_loss"]
    assert halves.n_iter_ == whole.n_iter_ == 8


@pytest.mark.parametrize(
    "schedule",
    [
        Exponential(0.01, factor=0.7),
        Cosine(0.01, epochs=6),
        ReduceOnPlateau(0.01, factor=0.5, patience=0, column="loss", threshold=0.5),
    ],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("pickled", [False, True], ids=["live", "pickled"])
def test_time_in_schedules_goes_on(schedule: Any, pickled: bool, iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    before = copy.deepcopy(schedule)
    halves = classifier(learning_rate=schedule, warm_start=True).fit(X, y)
    if pickled:
        halves = pickle.loads(pickle.dumps(halves))
    halves.fit(X, y)
    whole = classifier(learning_rate=schedule, epochs=6).fit(X, y)
    rates = whole.history_["learning_rate"]
    assert rates[-1] < rates[0]
    np.testing.assert_allclose(halves.history_["learning_rate"], rates, rtol=1e-12)
    assert schedule == before, "the user's schedule is copied, not used up"


def test_a_new_learning_rate_holds_from_the_next_call(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(warm_start=True, learning_rate=0.01).fit(X, y)
    network.set_params(learning_rate=Exponential(0.002, factor=0.5)).fit(X, y)
    rates = network.history_["learning_rate"]
    assert rates[:3] == [0.01] * 3
    assert 0.001 < rates[3] < 0.002, "the new schedule begins at its own beginning"


def test_fit_without_warm_start_begins_anew(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier().fit(X, y)
    once = copy.deepcopy(network)
    assert_same_network(network.fit(X, y), once)
    assert network.n_iter_ == len(network.loss_curve_) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_layer_sizes": (9,)},
        {"activation": "tanh"},
        {"dropout": 0.1},
        {"batch_norm": True},
        {"l2": 0.1},
        {"init": "orthogonal"},
        {"optimizer": "sgd"},
        {"optimizer": fcnn.Adam(beta1=0.8)},
        {"dtype": "float64"},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
def test_warm_start_refuses_another_network(change: dict[str, Any], iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(warm_start=True).fit(X, y)
    predictions = network.predict_proba(X)
    with pytest.raises(ValueError, match=f"change of {next(iter(change))}.*warm_start=False"):
        network.set_params(**change).fit(X, y)
    np.testing.assert_array_equal(network.predict_proba(X), predictions)
    network.set_params(warm_start=False).fit(X, y)


def test_what_may_change_between_warm_starts(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(warm_start=True).fit(X, y)
    network.set_params(
        epochs=2, batch_size=10, class_weight="balanced", validation_fraction=0.2, metrics=["accuracy"], shuffle=False
    ).fit(X[20:], y[20:])
    assert network.n_iter_ == 5
    assert np.isnan(network.history_["val_accuracy"]).tolist() == [True] * 3 + [False] * 2
    assert network.history_["epoch"] == [1, 2, 3, 4, 5]


def test_partial_fit_learns_from_chunks(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    names = np.array(["a", "b", "c"])[y]
    network = classifier(learning_rate=0.01)
    rng = np.random.default_rng(0)
    for _ in range(60):
        part = rng.permutation(150)[:40]
        network.partial_fit(X[part], names[part], classes=["c", "b", "a"])
    assert network.classes_.tolist() == ["a", "b", "c"]
    assert network.score(X, names) > 0.95
    assert network.n_iter_ == len(network.loss_curve_) == 60
    network.partial_fit(X[:50], names[:50])  # classes that are known need not come
    with pytest.raises(ValueError, match=r"not among .*classes .*'d'"):
        network.partial_fit(X[:1], ["d"])
    with pytest.raises(ValueError, match="differs from"):
        network.partial_fit(X, names, classes=["a", "b", "d"])
    with pytest.raises(ValueError, match="not among"):
        network.partial_fit(X, y)  # numbers, where the classes are strings


def test_partial_fit_goes_on_after_fit_as_one_more_epoch(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(epochs=3, dropout=0.2).fit(X, y).partial_fit(X, y)
    assert_same_network(network, classifier(epochs=4, dropout=0.2).fit(X, y))


def test_partial_fit_of_a_label_matrix(labels_matrix: tuple[HostArray, HostArray]) -> None:
    X, Y = labels_matrix
    network = classifier(learning_rate=0.01).partial_fit(X[:100], Y[:100], classes=[0, 1, 2])
    for _ in range(60):
        for start in (0, 100, 200):
            network.partial_fit(X[start : start + 100], Y[start : start + 100])
    assert network.score(X, Y) > 0.9
    network.partial_fit(X[:5], np.zeros((5, 3)))  # a chunk in which no label is set
    with pytest.raises(ValueError, match="began with 3 labels"):
        network.partial_fit(X, Y[:, :2])
    with pytest.raises(ValueError, match="cannot go on with one label per sample"):
        network.partial_fit(X, Y[:, 0])
    with pytest.raises(ValueError, match=r"classes is 0 \.\.\. 2"):
        clone(network).partial_fit(X, Y, classes=["a", "b", "c"])


def test_regressor_partial_fit_equals_one_epoch_calls() -> None:
    X, y = load_diabetes(return_X_y=True)
    network = regressor()
    for _ in range(4):
        network.partial_fit(X, y / 100)
    assert_same_network(network, regressor(epochs=4).fit(X, y / 100))
    with pytest.raises(ValueError, match="began with 1 outputs and a 1-dimensional y"):
        network.partial_fit(X, np.column_stack([y, y]))


def test_partial_fit_refuses_what_needs_the_whole(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    with pytest.raises(ValueError, match=r"first call .* needs classes"):
        classifier().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"balanced.*needs all samples"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"early_stopping=True.*partial_fit"):
        classifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])


# Training options


def test_layers_follow_the_parameters(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    plain = classifier(hidden_layer_sizes=(6, 5), activation=["tanh", "relu"], dropout=(0.0, 0.5), l1=1e-4, l2=1e-3)
    kinds = [type(layer).__name__ for layer in plain.fit(X, y).model_.layers]
    assert kinds == ["Dense", "Dense", "Dropout", "Dense"]
    first, second, _, last = plain.model_.layers
    assert [layer.activation.name for layer in (first, second, last)] == ["tanh", "relu", "identity"]
    assert [layer.init.name for layer in (first, second, last)] == ["xavier_uniform", "he_normal", "xavier_uniform"]
    assert {(layer.l1, layer.l2) for layer in (first, second, last)} == {(1e-4, 1e-3)}
    assert plain.history_["penalty"][-1] > 0

    normalized = classifier(batch_norm=True, dropout=0.2, init="orthogonal", hidden_layer_sizes=6).fit(X, y)
    kinds = [type(layer).__name__ for layer in normalized.model_.layers]
    assert kinds == ["Dense", "BatchNorm", "Activation", "Dropout", "Dense"]
    assert normalized.model_.layers[0].parameters()[1:] == [], "no bias before β"
    assert {normalized.model_.layers[i].init.name for i in (0, 4)} == {"orthogonal"}

    linear = classifier(hidden_layer_sizes=()).fit(X, y)
    assert [type(layer).__name__ for layer in linear.model_.layers] == ["Dense"]


def test_batch_norm_default_init_fits_the_activation_behind_it(iris: tuple[HostArray, HostArray]) -> None:
    network = classifier(batch_norm=True).fit(*iris)
    assert network.model_.layers[0].init.name == "he_normal"


def test_batch_norm_leaves_out_a_last_batch_of_one(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris[0][:129], iris[1][:129]
    assert classifier(batch_norm=True, batch_size=32).fit(X, y).score(X, y) > 0
    with pytest.raises(ValueError, match="batch of one sample"):
        classifier(batch_norm=True, batch_size=1).fit(X, y)


def test_early_stopping_keeps_the_best_epoch() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((120, 5)), rng.integers(0, 2, 120)  # nothing to learn: it can only overfit
    network = classifier(early_stopping=True, patience=5, epochs=300, learning_rate=0.02, hidden_layer_sizes=(64,))
    network.fit(X, y)
    val_loss = network.history_["val_loss"]
    assert network.n_iter_ < 300
    assert network.history_.stopped_by.startswith("early stopping")
    assert network.history_.best_epoch == int(np.argmin(val_loss)) + 1 == network.n_iter_ - 5
    best = clone(network).set_params(early_stopping=False, validation_fraction=0.1, epochs=network.history_.best_epoch)
    assert_same_network(network, best.fit(X, y))


def test_validation_fraction_alone_records_and_does_not_stop(iris: tuple[HostArray, HostArray]) -> None:
    network = classifier(validation_fraction=0.2, metrics=["accuracy"]).fit(*iris)
    assert len(network.history_["val_accuracy"]) == 3
    assert "val_loss" not in classifier().fit(*iris).history_.columns


class _Counter(fcnn.Callback):
    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        self.epochs += 1


def test_callbacks_are_called_as_given_and_cloned_with_the_estimator(iris: tuple[HostArray, HostArray]) -> None:
    counter = _Counter()
    network = classifier(callbacks=[counter]).fit(*iris)
    assert counter.epochs == 3
    clone(network).fit(*iris)
    assert counter.epochs == 3


def test_optimizer_instance_stays_unbound(iris: tuple[HostArray, HostArray]) -> None:
    optimizer = fcnn.SGD(0.5, momentum=0.9)
    network = classifier(optimizer=optimizer, learning_rate=0.05).fit(*iris)
    assert network.history_["learning_rate"] == [0.05] * 3
    assert optimizer.learning_rate == 0.5
    with pytest.raises(RuntimeError, match="not bound"):
        optimizer.step()


def test_verbose_is_silent_off_a_terminal(
    iris: tuple[HostArray, HostArray], capsys: pytest.CaptureFixture[str]
) -> None:
    classifier(verbose=True).fit(*iris)
    assert capsys.readouterr() == ("", "")


# In scikit-learn's company


@pytest.mark.parametrize("parallel", [None, "threading"])
def test_grid_search_over_dropout(parallel: str | None, iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), classifier(epochs=20, learning_rate=0.01, callbacks=[_Counter()]))
    grid = {"fcnnclassifier__dropout": [0.0, 0.99], "fcnnclassifier__hidden_layer_sizes": [(8,), (8, 8)]}
    with joblib.parallel_config(parallel or "sequential", n_jobs=2 if parallel else 1):
        search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_["fcnnclassifier__dropout"] == 0.0
    assert search.best_score_ > 0.85
    alone = GridSearchCV(pipeline, grid, cv=3).fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone)


def test_one_estimator_predicts_from_several_threads(iris: tuple[HostArray, HostArray]) -> None:
    network = classifier(hidden_layer_sizes=(64, 64)).fit(*iris)
    X = np.random.default_rng(0).standard_normal((3000, 4))
    parts = [X[: 100 * k] for k in range(1, 31)]
    expected = [network.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(network.predict_proba, parts * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(got, want)


def test_clone_and_set_params_round_trip() -> None:
    network = classifier(optimizer=fcnn.AdamW(1e-3), learning_rate=Cosine(0.01), activation=["elu"], dropout=[0.1])
    copied = clone(network)
    assert copied.get_params() == network.get_params()
    assert copied.optimizer is not network.optimizer
    assert copied.set_params(l2=0.5).l2 == 0.5
    assert "dropout=[0.1]" in repr(network)


def test_data_frames(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    frame = pd.DataFrame(X, columns=list("abcd"))
    labels = pd.Series(np.array(["x", "y", "z"])[y])
    network = classifier(epochs=30).fit(frame, labels, sample_weight=pd.Series(np.ones(150)))
    assert network.feature_names_in_.tolist() == list("abcd")
    assert network.n_features_in_ == 4
    assert set(network.predict(frame)) <= {"x", "y", "z"}
    with pytest.raises(ValueError, match="feature names"):
        network.predict(frame[["b", "a", "c", "d"]])
    targets = frame[["a", "b"]] * 2
    assert regressor().fit(frame, targets).predict(frame).shape == (150, 2)


# Pickles and backends


def _pickled(network: Any) -> Any:
    return pickle.loads(pickle.dumps(network))


def _joblibbed(network: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(network, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("copy_of", [_pickled, _joblibbed, copy.deepcopy])
def test_copies_predict_the_same(copy_of: Callable[[Any], Any], iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(batch_norm=True, dropout=0.1, activation="gelu").fit(X, y)
    twin = copy_of(network)
    np.testing.assert_array_equal(twin.predict_proba(X), network.predict_proba(X))
    assert twin.loss_curve_ == network.loss_curve_
    assert twin.get_params() == network.get_params()
    twin.fit(X, y)
    assert_same_network(twin, network)


def test_an_unfitted_estimator_pickles() -> None:
    assert _pickled(classifier(l2=0.5)).get_params() == classifier(l2=0.5).get_params()


def test_a_copy_of_a_copy_that_was_never_used(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier().fit(X, y)
    np.testing.assert_array_equal(_pickled(_pickled(network)).predict_proba(X), network.predict_proba(X))


def test_a_pickle_from_a_gpu_opens_where_there_is_none(
    iris: tuple[HostArray, HostArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcnn_gpu.backend import _select

    X, y = iris
    network = classifier().fit(X, y)
    network.backend = "cupy"  # as if it had been fitted there

    def missing(device: int) -> Ops:
        raise fcnn.BackendError("There is no CUDA driver.")

    monkeypatch.setattr(_select, "_cupy_ops", missing)
    content = pickle.dumps(classifier().fit(X, y).set_params(backend="cupy"))
    opened = pickle.loads(content)
    assert opened.n_iter_ == 3
    with pytest.raises(fcnn.BackendError, match="no CUDA driver"):
        opened.predict(X)
    expected = classifier().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(opened.set_params(backend="numpy").predict_proba(X), expected)


def test_set_params_moves_a_fitted_network(device_ops: Ops, iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris[0][:40], iris[1][:40]
    y = (y > 0).astype(int) + (X[:, 0] > 0)
    network = classifier(epochs=2, dropout=0.2, batch_norm=True, warm_start=True).fit(X, y)
    stayed = copy.deepcopy(network)
    expected = network.predict_proba(X)
    network.backend = device_ops
    np.testing.assert_allclose(network.predict_proba(X), expected, atol=1e-5)
    assert network.model_.ops is device_ops
    network.fit(X, y)
    stayed.fit(X, y)
    assert network.model_.ops is device_ops
    network.backend = "numpy"
    assert type(network.model_.ops) is Ops
    np.testing.assert_allclose(network.predict_proba(X), stayed.predict_proba(X), atol=1e-4)
    assert network.n_iter_ == 4


def test_a_pickle_holds_host_arrays_alone(device_ops: Ops, iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris[0][:20], np.arange(20) % 2
    network = classifier(epochs=1).fit(X, y)
    network.backend = device_ops
    network.predict(X)
    state = network._network.__getstate__()["_state"]
    assert all(type(array) is np.ndarray for array in [*state.arrays.values(), *state.optimizer.values()])


def test_the_model_of_an_estimator_can_be_saved(tmp_path: Path, iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier().fit(X, y)
    network.model_.save(tmp_path / "iris.safetensors")
    loaded = fcnn.load(tmp_path / "iris.safetensors", backend="numpy")
    np.testing.assert_allclose(loaded.predict(X), network.predict_proba(X), atol=1e-6)


# What cannot work says so, and changes nothing

_BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"hidden_layer_sizes": (8, 0)}, ValueError, r"hidden_layer_sizes\).* at least 1"),
    ({"hidden_layer_sizes": "8"}, TypeError, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": (8.0,)}, TypeError, "hidden_layer_sizes"),
    ({"activation": "rleu"}, ValueError, "Did you mean 'relu'"),
    ({"activation": ["relu", "tanh"]}, ValueError, r"activation\) has 2 values for 1 hidden layers"),
    ({"optimizer": "adamm"}, ValueError, "Did you mean 'adam'"),
    ({"optimizer": 3}, TypeError, "optimizer"),
    ({"learning_rate": -1.0}, ValueError, "learning_rate"),
    ({"learning_rate": "constant"}, TypeError, "learning_rate"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"epochs": 2.5}, TypeError, "epochs"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"shuffle": 1}, TypeError, "shuffle"),
    ({"dropout": 1.0}, ValueError, "dropout"),
    ({"dropout": [0.1, 0.2]}, ValueError, "dropout"),
    ({"batch_norm": "yes"}, TypeError, "batch_norm"),
    ({"l1": -1e-3}, ValueError, r"l1\)"),
    ({"l2": float("nan")}, ValueError, r"l2\)"),
    ({"init": "he"}, ValueError, "he_normal"),
    ({"early_stopping": 1}, TypeError, "early_stopping"),
    ({"early_stopping": True, "validation_fraction": 0.0}, ValueError, "validation_fraction greater than 0"),
    ({"patience": 0}, ValueError, "patience"),
    ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
    ({"validation_fraction": 0.001}, ValueError, "leaves 150 for training and 0"),
    ({"metrics": "accuracy"}, TypeError, r"metrics=\['accuracy'\]"),
    ({"metrics": ["acuracy"]}, ValueError, "Did you mean 'accuracy'"),
    ({"callbacks": [print]}, TypeError, "callbacks"),
    ({"warm_start": None}, TypeError, "warm_start"),
    ({"random_state": -1}, ValueError, "random_state"),
    ({"random_state": "seed"}, TypeError, "random_state"),
    ({"backend": "numpi"}, ValueError, "backend does not know 'numpi'"),
    ({"dtype": "float16"}, ValueError, "'float32' or 'float64'"),
    ({"dtype": None}, ValueError, "'float32' or 'float64'"),
    ({"dtype": "floaty"}, ValueError, "'float32' or 'float64'"),
    ({"verbose": 2}, TypeError, "verbose"),
]
_BAD_CLASSIFIER: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"label_smoothing": 1.5}, ValueError, "label_smoothing"),
    ({"class_weight": "balancd"}, ValueError, "'balanced' or"),
    ({"class_weight": {7: 1.0}}, ValueError, r"class_weight\) names \[7\]"),
    ({"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\]"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "0 for every sample"),
    ({"metrics": ["r2"]}, ValueError, "'r2' is a metric of regression"),
]
_BAD_REGRESSOR: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"loss": "cross_entropy"}, ValueError, "'mse', 'mae', 'huber'"),
    ({"loss": "msee"}, ValueError, "Did you mean 'mse'"),
    ({"metrics": ["accuracy"]}, ValueError, "'accuracy' is a metric of classification"),
]


def _state(network: Any) -> dict[str, Any]:
    fitted = {name: value for name, value in vars(network).items() if name not in network.get_params()}
    arrays = {name: array.copy() for name, array in network.model_.named_arrays().items()}
    return fitted | arrays


@pytest.mark.parametrize(
    ("make", "parameters", "error", "message"),
    [
        *[(make, *case) for make in (classifier, regressor) for case in _BAD],
        *[(classifier, *case) for case in _BAD_CLASSIFIER],
        *[(regressor, *case) for case in _BAD_REGRESSOR],
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_parameters_change_nothing(
    make: Callable[..., Any],
    parameters: dict[str, Any],
    error: type[Exception],
    message: str,
    iris: tuple[HostArray, HostArray],
) -> None:
    X, y = iris
    network = make(**parameters)
    with pytest.raises(error, match=message):
        network.fit(X, y)
    assert vars(network).keys() == make().get_params().keys()

    network = make(epochs=1).fit(X, y)
    before = _state(network)
    with pytest.raises(error, match=message):
        network.set_params(**parameters).fit(X[:, :3], y)
    after = _state(network.set_params(backend="numpy"))
    assert before.keys() == after.keys()
    assert network.n_features_in_ == 4
    for name, value in before.items():
        assert np.array_equal(value, after[name]), name


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.zeros(150, int), ValueError, "at least two classes in y, got one class"),
        (np.linspace(0, 1, 150), ValueError, "continuous"),
        (np.arange(300).reshape(150, 2) % 5, ValueError, "0 and 1"),
        (np.tile([[0, 2]], (150, 1)), ValueError, "0 and 1"),
        (np.zeros(149, int), ValueError, "inconsistent"),
        (None, ValueError, "y"),
    ],
)
def test_bad_labels_change_nothing(
    y: Any, error: type[Exception], message: str, iris: tuple[HostArray, HostArray]
) -> None:
    X, good = iris
    network = classifier().fit(X, good)
    before = _state(network)
    with pytest.raises(error, match=message):
        network.fit(X, y)
    after = _state(network)
    for name, value in before.items():
        assert np.array_equal(value, after[name]), name


def test_options_for_one_label_per_sample_alone(labels_matrix: tuple[HostArray, HostArray]) -> None:
    for option in ({"label_smoothing": 0.1}, {"class_weight": "balanced"}):
        with pytest.raises(ValueError, match="one label per sample"):
            classifier(**option).fit(*labels_matrix)


def test_warm_start_refuses_other_classes_and_features(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = classifier(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"not among .*\[3\]"):
        network.fit(X, y + 1)
    with pytest.raises(ValueError, match="3 features, but FCNNClassifier is expecting 4"):
        network.fit(X[:, :3], y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_predict_before_fit(method: str, iris: tuple[HostArray, HostArray]) -> None:
    with pytest.raises(NotFittedError, match="This FCNNClassifier instance is not fitted yet"):
        getattr(classifier(), method)(iris[0])


def test_fitted_attributes_before_fit() -> None:
    assert not hasattr(classifier(), "model_")
    assert not hasattr(regressor(), "loss_curve_")


def test_divergence_leaves_the_estimator_as_it_was(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    network = regressor(optimizer="sgd", learning_rate=1e30)
    with pytest.raises(fcnn.DivergenceError, match="smaller learning rate"):
        network.fit(X, y)
    with pytest.raises(NotFittedError):
        network.predict(X)


def test_values_beyond_float32_are_refused_with_the_remedy(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    huge = np.where(np.arange(150) == 7, 1e300, 1.0)
    with pytest.raises(ValueError, match=r"targets hold 1e\+300 \(row 7\), outside the range of float32"):
        regressor().fit(X, huge)
    with pytest.raises(ValueError, match=r"X holds .*e\+\d+ \(row 7, column 0\), outside the range of float32"):
        regressor().fit(X * huge[:, None], y)
    with pytest.raises(ValueError, match=r"sample_weight holds 1e\+300 \(row 7\)"):
        regressor().partial_fit(X, y, sample_weight=huge)
    with pytest.raises(ValueError, match="rounds to 0 in float32"):
        regressor().partial_fit(X, y, sample_weight=np.full(150, 1e-300))
    assert np.isfinite(regressor(dtype="float64").fit(X, huge / 1e200, sample_weight=huge / 1e290).predict(X)).all()


# Import


def test_fcnn_gpu_imports_no_scikit_learn_until_asked() -> None:
    program = (
        "import sys, fcnn_gpu\n"
        "heavy = [name for name in ('sklearn', 'scipy', 'cupy', 'matplotlib') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert 'FCNNClassifier' in dir(fcnn_gpu)\n"
        "assert fcnn_gpu.FCNNRegressor.__name__ == 'FCNNRegressor'\n"
        "assert 'sklearn' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


def test_unknown_names_of_the_package_raise() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FCNNClasifier'"):
        fcnn.FCNNClasifier  # noqa: B018
