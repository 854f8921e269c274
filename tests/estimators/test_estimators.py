"""FCNNClassifier and FCNNRegressor: scikit-learn's own checks, and what those do not ask."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_type_hints

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import fcnn_gpu as fcnn
from fcnn_gpu import FCNNClassifier, FCNNRegressor
from fcnn_gpu._types import HostArray
from fcnn_gpu.callbacks import _progress
from fcnn_gpu.schedules import Cosine
from tests.support.estimator_cases import assert_same_network, classifier, regressor, scaled_iris, three_labels


@pytest.fixture(scope="module")
def iris() -> tuple[HostArray, HostArray]:
    return scaled_iris()


@pytest.fixture(scope="module")
def labels_matrix() -> tuple[HostArray, HostArray]:
    return three_labels()


# scikit-learn's checks. With full batches in float64, all of them; by default, with one exception, dense and sparse.

_DEFAULTS: dict[str, Any] = {"random_state": 0, "backend": "numpy"}
_EXACT: dict[str, Any] = {"batch_size": 1000, "dtype": "float64"}


def _expected_failures(estimator: Any) -> dict[str, str]:
    if estimator.dtype == "float64":
        return {}
    checks = (f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse"))
    return dict.fromkeys(checks, "asks for 1e-7, which float32 does not have")


@pytest.mark.filterwarnings("ignore::fcnn_gpu.estimators.UnfinishedFitWarning")  # on some 30 samples
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
        network = FCNNClassifier((64,), random_state=seed, backend="numpy").fit(X_train, y_train)
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


# Training options


def test_layers_follow_the_parameters(iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    options: dict[str, Any] = {"activation": ["tanh", "relu"], "dropout": (0.0, 0.5), "l1": 1e-4, "l2": 1e-3}
    plain = classifier(hidden_layer_sizes=(6, 5), init=None, bias_init=None, **options)
    kinds = [type(layer).__name__ for layer in plain.fit(X, y).model_.layers]
    assert kinds == ["Dense", "Dense", "Dropout", "Dense"]
    first, second, _, last = plain.model_.layers
    assert [layer.activation.name for layer in (first, second, last)] == ["tanh", "relu", "identity"]
    assert [layer.init.name for layer in (first, second, last)] == ["xavier_uniform", "he_normal", "xavier_uniform"]
    assert {layer.bias_init for layer in (first, second, last)} == {None}
    assert {(layer.l1, layer.l2) for layer in (first, second, last)} == {(1e-4, 1e-3)}
    assert plain.history_["penalty"][-1] > 0

    normalized = classifier(batch_norm=True, dropout=0.2, init="orthogonal", hidden_layer_sizes=6).fit(X, y)
    kinds = [type(layer).__name__ for layer in normalized.model_.layers]
    assert kinds == ["Dense", "BatchNorm", "Activation", "Dropout", "Dense"]
    assert normalized.model_.layers[0].parameters()[1:] == [], "no bias before β"
    assert {normalized.model_.layers[i].init.name for i in (0, 4)} == {"orthogonal"}

    linear = classifier(hidden_layer_sizes=()).fit(X, y)
    assert [type(layer).__name__ for layer in linear.model_.layers] == ["Dense"]
    (layer,) = linear.model_.layers
    assert (layer.init.name, layer.bias_init.name) == ("fan_in_uniform", "fan_in_uniform")


def test_with_batch_norm_too_init_none_fits_the_activation_behind_it(iris: tuple[HostArray, HostArray]) -> None:
    network = classifier(batch_norm=True, init=None).fit(*iris)
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


def test_whole_numbers_are_a_regressors_values_and_not_its_classes() -> None:
    X = np.linspace(-1, 1, 100).reshape(-1, 1)
    y = np.arange(100)  # as classes each would have one sample, and none to hold out
    whole, real = (regressor(early_stopping=True).fit(X, values) for values in (y, y.astype(float)))
    assert "val_loss" in whole.history_.columns
    assert_same_network(whole, real)


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


def test_verbose_off_a_terminal_writes_a_line_per_epoch(
    iris: tuple[HostArray, HostArray], capsys: pytest.CaptureFixture[str]
) -> None:
    classifier(verbose=True).fit(*iris)
    out, lines = capsys.readouterr()
    assert out == ""
    assert [line.split()[1] for line in lines.splitlines()] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize(("verbose", "shown"), [(0, []), (1, ["_Bar"]), (2, ["EpochLines"]), (10, ["EpochLines"])])
def test_verbose_as_a_number(
    verbose: int, shown: list[str], iris: tuple[HostArray, HostArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Bar(fcnn.ProgressBar):
        def on_train_begin(self, trainer: Any) -> None:
            began.append("_Bar")

    class _Lines(fcnn.callbacks.EpochLines):
        def on_train_begin(self, trainer: Any) -> None:
            began.append("EpochLines")
            super().on_train_begin(trainer)

    began: list[str] = []
    monkeypatch.setattr(_progress, "_is_terminal", lambda: True)
    monkeypatch.setattr(_progress, "KINDS", {"bar": _Bar, "lines": _Lines})
    classifier(verbose=verbose).fit(*iris)
    assert began == shown
    y = np.arange(30) % 2
    fcnn.TabularClassifier(preset="fast", epochs=2, verbose=verbose).fit(pd.DataFrame({"a": range(30)}), y)
    assert began == 2 * shown


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


def test_constructors_spell_out_shared_and_own_parameters() -> None:
    """For help, editors and type checkers: the shared ones alike, the own ones in their place, all but two keywords."""
    ours, others = (inspect.signature(kind).parameters for kind in (FCNNClassifier, FCNNRegressor))
    names = list(ours)
    assert names[names.index("l2") :][:4] == ["l2", "label_smoothing", "class_weight", "init"]
    assert list(others)[:4] == ["hidden_layer_sizes", "activation", "loss", "optimizer"]
    shared = [parameter for name, parameter in ours.items() if name not in ("label_smoothing", "class_weight")]
    assert shared == [parameter for name, parameter in others.items() if name != "loss"]
    assert [p.name for p in shared if p.kind is not p.KEYWORD_ONLY] == ["hidden_layer_sizes", "activation"]
    assert get_type_hints(FCNNRegressor.__init__)["loss"] == str | fcnn.losses.Loss
    with pytest.raises(TypeError, match=r"FCNNClassifier has no argument 'epoch'. Did you mean 'epochs'"):
        FCNNClassifier(epoch=3)  # type: ignore[call-arg]


def test_estimators_are_no_dataclasses() -> None:
    """Whoever compares dataclasses by their fields would take networks trained on different data for the same."""
    assert not any(dataclasses.is_dataclass(network) for network in (classifier(), regressor()))


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


# Import


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, lambda column: column["kind"].to_numpy(object)[:, None]])
def test_names_of_classes_in_a_column(make: Callable[[Any], Any], iris: tuple[HostArray, HostArray]) -> None:
    X, y = iris
    names = pd.DataFrame({"kind": np.array(["setosa", "versicolor", "virginica"])[y]})
    with pytest.warns(DataConversionWarning, match="column-vector"):
        fitted = classifier(epochs=1).fit(X, make(names))
    assert fitted.predict(X).tolist() == classifier(epochs=1).fit(X, names["kind"]).predict(X).tolist()


def test_fcnn_gpu_imports_no_scikit_learn_until_asked() -> None:
    program = (
        "import sys, fcnn_gpu\n"
        "from fcnn_gpu import *\n"
        "heavy = [name for name in ('sklearn', 'scipy', 'cupy', 'matplotlib') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert 'FCNNClassifier' in dir(fcnn_gpu)\n"
        "assert fcnn_gpu.FCNNRegressor.__name__ == 'FCNNRegressor'\n"
        "assert 'sklearn' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_unknown_names_of_the_package_raise() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FCNNClasifier'"):
        fcnn.FCNNClasifier  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_whole_targets_that_float64_cannot_tell_apart_are_not_taken_in_silence(dtype: Any) -> None:
    X = np.arange(64.0)[:, None]
    with pytest.warns(fcnn.DigitsWarning, match=r"FCNNRegressor.fit: y: .* Subtract their mean"):
        regressor(dtype="float64").fit(X, (2**60 + np.arange(64)).astype(dtype))


def test_a_regressor_of_quantiles_and_of_counts() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (400, 1))
    counts = rng.poisson(np.exp(1 + X[:, 0]))
    options: dict[str, Any] = {"random_state": 0, "backend": "numpy", "epochs": 20, "learning_rate": 0.02}
    poisson = FCNNRegressor((8,), loss="poisson", **options).fit(X, counts)
    assert poisson.predict(X).shape == (400,)
    assert poisson.predict(X).min() > 0
    assert poisson.score(X, counts) > 0
    quantiles = FCNNRegressor((8,), loss=fcnn.Quantile([0.1, 0.9]), **options).fit(X, counts)
    assert quantiles.n_outputs_ == 2
    assert (np.diff(quantiles.predict(X), axis=1) > 0).mean() > 0.9
    two = FCNNRegressor((8,), loss=fcnn.Quantile([0.1, 0.5, 0.9]), **options).fit(X, np.column_stack([X, counts]))
    assert two.predict(X).shape == (400, 6)
    with pytest.raises(ValueError, match="predictions have 2 quantiles of each target"):
        quantiles.score(X, counts)
    with pytest.raises(ValueError, match=r"loss\) is one of 'mse', 'mae'.*'poisson', or an instance, got 'hinge'"):
        FCNNRegressor(loss="hinge").fit(X, counts)
