"""The estimators for tables: what they take, what they keep, and what they are by the paper."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks

import fcnn_gpu as fcnn
from fcnn_gpu import TabularClassifier, TabularRegressor
from fcnn_gpu._types import HostArray
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.estimators._recipes import RECIPES
from fcnn_gpu.estimators._tasks import best_temperature
from fcnn_gpu.tables import TableError, TablePreparation

FEW: dict[str, Any] = {"epochs": 6, "random_state": 0, "backend": "cpu", "hidden_layer_sizes": (16, 16)}


def shop(n: int = 240, seed: int = 0) -> tuple[dict[str, list[Any]], list[str], list[float]]:
    """A table with numbers, gaps, many categories, yes and no and dates; classes and prices that follow from it."""
    rng = np.random.default_rng(seed)
    size, town = rng.gamma(2.0, 30.0, n), rng.integers(0, 14, n)
    garden = rng.random(n) < 0.4
    price = 1000 + 5.0 * size + 20.0 * (town % 5) + 90.0 * garden + rng.normal(0, 10, n)
    table: dict[str, list[Any]] = {
        "size": [None if gap else float(x) for x, gap in zip(size, rng.random(n) < 0.1, strict=True)],
        "town": [f"town {i}" for i in town],
        "garden": ["yes" if g else "no" for g in garden],
        "built": [f"{1950 + int(i)}-0{1 + int(i) % 9}-11" for i in rng.integers(0, 70, n)],
    }
    return table, ["dear" if p > np.median(price) else "cheap" for p in price], [float(p) for p in price]


@parametrize_with_checks(
    [
        TabularClassifier(epochs=60, batch_size=16, random_state=0, backend="cpu", validation_fraction=0.0),
        TabularRegressor("fast", epochs=120, batch_size=16, random_state=0, backend="cpu", validation_fraction=0.0),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "scales, batches and first weights are those of the samples"
    },
    xfail_strict=True,
)
def test_sklearn_s_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("preset", list(RECIPES))
def test_tables_as_they_are(preset: str, tmp_path: Path) -> None:
    table, labels, prices = shop()
    fresh, fresh_labels, fresh_prices = shop(80, seed=1)
    fresh["town"][0] = "a town that training did not have"
    settings = {**FEW, "epochs": 60, "hidden_layer_sizes": None if preset != "tabm" else (32, 32)}
    classifier = TabularClassifier(preset, **settings).fit(table, labels)
    regressor = TabularRegressor(preset, **settings).fit(table, prices)
    assert classifier.score(fresh, fresh_labels) > 0.85
    assert regressor.score(fresh, fresh_prices) > 0.75
    turned = dict(reversed(fresh.items()))
    np.testing.assert_array_equal(classifier.predict_proba(turned), classifier.predict_proba(fresh))
    for estimator in (classifier, regressor):
        estimator.model_.save(tmp_path / "model.safetensors")
        loaded = fcnn.load(tmp_path / "model.safetensors", backend="cpu")
        expected = estimator.predict_proba(fresh) if estimator is classifier else estimator.predict(fresh)[:, None]
        np.testing.assert_allclose(loaded.predict(fresh), expected, rtol=1e-6)
        twin = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(twin.predict(fresh), estimator.predict(fresh))
        again = clone(estimator).fit(table, labels if estimator is classifier else prices)
        np.testing.assert_array_equal(again.predict(fresh), estimator.predict(fresh))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(fresh)
    np.testing.assert_array_equal(classifier.predict(frame), classifier.predict(fresh))


def test_a_saved_model_prepares_matrices_where_it_was_trained_on_one(tmp_path: Path) -> None:
    X = 50 + 9 * np.random.default_rng(0).normal(size=(80, 3))
    estimator = TabularRegressor("fast", **FEW).fit(X, X[:, 0])
    estimator.model_.save(tmp_path / "model.safetensors")
    loaded = fcnn.load(tmp_path / "model.safetensors", backend="cpu")
    assert loaded.preparation is not None
    inputs = loaded.preparation.inputs(X)
    for predicted in (
        loaded.predict(X),
        loaded.predict(X.tolist()),
        loaded(X),
        loaded.infer(inputs, "identity", prepared=True),
    ):
        np.testing.assert_array_equal(predicted[:, 0], estimator.predict(X))
    np.testing.assert_array_equal(loaded.forward(X), loaded(X))


def test_a_pickle_holds_no_data_and_opens_on_another_backend() -> None:
    X = np.random.default_rng(0).normal(size=(20_000, 4))
    y = X[:, 0] > 0
    estimator = TabularClassifier(**(FEW | {"epochs": 1})).fit(X, y)
    assert len(pickle.dumps(estimator)) < 60_000
    twin = pickle.loads(pickle.dumps(estimator)).set_params(backend="numpy")
    assert twin.model_.ops.name == "numpy"
    np.testing.assert_allclose(twin.predict_proba(X[:50]), estimator.predict_proba(X[:50]), atol=1e-5)


def test_the_best_epoch_is_kept_and_of_equals_the_last() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    seen: list[dict[str, HostArray]] = []

    class Watches(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            seen.append({name: np.array(array) for name, array in trainer.model.named_arrays().items()})

    settings: dict[str, Any] = {**FEW, "epochs": 30, "calibrate": False, "callbacks": [Watches()]}
    settings["validation_fraction"] = 0.05  # of so few samples epochs are equally good
    estimator = TabularClassifier(**settings).fit(X, y)
    accuracy = np.array(estimator.history_["val_accuracy"])
    assert estimator.best_epoch_ == 1 + np.flatnonzero(accuracy == accuracy.max())[-1]
    assert (accuracy == accuracy.max()).sum() > 1, "no tie: the test shows nothing"
    for name, array in estimator.model_.named_arrays().items():
        np.testing.assert_array_equal(array, seen[estimator.best_epoch_ - 1][name])
    seen.clear()
    by_loss = TabularClassifier(**settings, metric="log_loss").fit(X, y)
    assert by_loss.best_epoch_ == 1 + int(np.argmin(by_loss.history_["val_loss"]))
    assert by_loss.history_["loss"][-1] < estimator.history_["loss"][-1], "smoothed labels have a loss of their own"


def test_given_validation_data_holds_nothing_out() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X, X_val, y, y_val = train_test_split(X, y, random_state=0)
    estimator = TabularClassifier(**FEW).fit(X, y, validation_data=(X_val, y_val))
    best = estimator.history_["val_accuracy"][estimator.best_epoch_ - 1]
    assert estimator.score(X_val, y_val) == pytest.approx(best)
    without = TabularClassifier(**FEW, validation_fraction=0.0).fit(X, y)
    assert "val_loss" not in without.history_.columns
    assert (without.best_epoch_, without.temperature_) == (6, 1.0)
    with pytest.raises(ValueError, match=r"validation_data has labels that y has not: \[7\]"):
        TabularClassifier(**FEW).fit(X, y, validation_data=(X_val, np.full(len(y_val), 7)))
    with pytest.raises(TypeError, match="validation_data is"):
        TabularClassifier(**FEW).fit(X, y, validation_data=X_val)


def test_calibration_betters_probabilities_and_changes_no_label() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, _ = train_test_split(X, y, random_state=1)
    settings: dict[str, Any] = {**FEW, "epochs": 40}
    plain, calibrated = (TabularClassifier(**settings, calibrate=c).fit(X, y) for c in (False, True))
    np.testing.assert_array_equal(plain.predict(X_test), calibrated.predict(X_test))
    assert calibrated.temperature_ != 1.0
    np.testing.assert_allclose(
        calibrated.decision_function(X_test) * calibrated.temperature_,
        plain.decision_function(X_test),
        rtol=1e-4,
        atol=1e-5,
    )
    rows = np.random.default_rng(0).integers(0, 3, 400)
    Z = 5.0 * (np.eye(3)[rows] + np.random.default_rng(1).normal(0, 0.7, (400, 3)))
    T = best_temperature(Z, rows)
    smoothed = np.eye(3)[rows] * 400 / 401 + 1 / 3 / 401
    losses = [-(smoothed * np.log(_softmax(Z / t))).sum() for t in (0.9 * T, T, 1.1 * T)]
    assert losses[1] < min(losses[0], losses[2])
    weights = np.where(np.arange(400) < 200, 1.0, 0.0)
    assert best_temperature(Z, rows, weights) == pytest.approx(best_temperature(Z[:200], rows[:200]), rel=1e-3)


def test_calibration_on_a_few_samples_that_are_all_right_is_not_sure_of_all_others() -> None:
    X, y = load_iris(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, random_state=0)
    settings: dict[str, Any] = {"epochs": 40, "random_state": 0, "backend": "cpu"}
    plain, calibrated = (TabularClassifier(**settings, calibrate=c).fit(X, y) for c in (False, True))
    wrong = calibrated.predict(X_test) != y_test
    assert wrong.any()
    assert calibrated.temperature_ > 0.3
    assert log_loss(y_test, calibrated.predict_proba(X_test)) < log_loss(y_test, plain.predict_proba(X_test))
    sure = np.log([[0.9, 0.1], [0.1, 0.9]])
    assert best_temperature(sure, np.array([0, 1])) == pytest.approx(np.log(9) / np.log(5), rel=1e-3)  # 2.5 of 3


def _softmax(Z: HostArray) -> HostArray:
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_weights_of_samples_and_classes() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = rng.random(400) < 1 / (1 + np.exp(-X[:, 0] + 2.0))  # about one in six
    settings: dict[str, Any] = {**FEW, "epochs": 20, "calibrate": False}
    shares = [
        TabularClassifier(**settings, class_weight=w).fit(X, y).predict(X).mean()
        for w in (None, "balanced", {True: 40.0})
    ]
    assert shares[0] < shares[1] < shares[2]
    by_sample = TabularClassifier(**settings).fit(X, y, sample_weight=np.where(y, 40.0, 1.0))
    assert by_sample.predict(X).mean() == shares[2]
    noisy = np.where(np.arange(400) % 2, X[:, 0], -X[:, 0])
    weights = np.arange(400) % 2
    values = TabularRegressor(**settings_of_regressor(settings)).fit(X, noisy, sample_weight=weights.astype(float))
    assert values.score(X[1::2], noisy[1::2]) > 0.5
    with pytest.raises(ValueError, match=r"class_weight.*names"):
        TabularClassifier(**settings, class_weight={"no": 2.0}).fit(X, y)
    with pytest.raises(ValueError, match=r"class_weight.*'balanced'"):
        TabularClassifier(**settings, class_weight="equal").fit(X, y)


def settings_of_regressor(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "calibrate"}


def test_several_values_in_their_own_units_and_within_their_range() -> None:
    X, y = load_diabetes(return_X_y=True)
    Y = np.stack([y, -1e6 - 1000.0 * y, 1e-4 * y], axis=1)
    estimator = TabularRegressor(**{**FEW, "epochs": 60}).fit(X, Y)
    predicted = estimator.predict(X)
    assert predicted.shape == Y.shape
    assert (predicted >= Y.min(axis=0)).all()
    assert (predicted <= Y.max(axis=0)).all()
    each = [np.corrcoef(predicted[:, i], Y[:, i])[0, 1] for i in range(3)]
    assert min(each) > 0.6
    extreme = estimator.predict(X * 100)
    assert (extreme <= Y.max(axis=0)).all()


def test_importances_find_the_columns_that_matter() -> None:
    table, labels, prices = shop(400)
    regressor = TabularRegressor("fast", **{**FEW, "epochs": 60}).fit(table, prices)
    fresh, _, fresh_prices = shop(200, seed=2)
    found = regressor.feature_importances(fresh, fresh_prices, n_repeats=3)
    order = [found.names[i] for i in np.argsort(-found.importances_mean)]
    assert order[0] == "size"
    assert order[-1] == "built"
    assert found.importances.shape == (4, 3)
    again = regressor.feature_importances(fresh, fresh_prices, n_repeats=3)
    np.testing.assert_array_equal(again.importances, found.importances)
    classifier = TabularClassifier("fast", **{**FEW, "epochs": 30}).fit(table, labels)
    assert classifier.feature_importances(table, labels).importances_mean.max() > 0.05


def test_ctrl_c_keeps_the_best_so_far() -> None:
    X, y = load_breast_cancer(return_X_y=True)

    class Presses(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            if record["epoch"] == 3:
                os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    estimator = TabularClassifier(**{**FEW, "epochs": 50}, callbacks=[Presses()])
    with pytest.raises(KeyboardInterrupt, match="keeps the best so far"):
        estimator.fit(X, y)
    assert len(estimator.history_) == 3
    assert estimator.score(X, y) > 0.8


def test_an_error_leaves_the_estimator_as_it_was() -> None:
    table, labels, prices = shop()
    estimator = TabularClassifier(**FEW).fit(table, labels)
    before = estimator.predict_proba(table)
    with pytest.raises(ValueError, match="at least two classes"):
        estimator.fit(table, ["dear"] * len(labels))
    np.testing.assert_array_equal(estimator.predict_proba(table), before)
    for settings, message in (
        ({"preset": "fastest"}, r"preset.*'fast'"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": 0.0}, r"TabularClassifier\(learning_rate\)"),
        ({"epochs": 1}, r"epochs.* is a single step.*Take more epochs"),
        ({"dropout": 1.0}, "dropout"),
        ({"epochs": 0}, "epochs"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes"),
        ({"metric": "auc"}, "metric"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"dtype": "float16"}, "dtype"),
        ({"columns": {"sise": "number"}}, "sise"),
    ):
        with pytest.raises(ValueError, match=message):
            TabularClassifier(**(FEW | settings)).fit(table, labels)
    with pytest.raises(TypeError, match=r"expects a table, got str\. Of a file: fcnn_gpu\.tables\.read"):
        TabularClassifier(**FEW).fit("shop.csv", labels)
    with pytest.raises(ValueError, match="X has 240 rows, and y 239"):
        TabularRegressor(**FEW).fit(table, prices[:-1])
    with pytest.raises(ValueError, match="NaN"):
        TabularRegressor(**FEW).fit(table, [math.nan, *prices[1:]])
    with pytest.raises(TableError, match="lacks 'size'"):
        estimator.predict({name: column for name, column in table.items() if name != "size"})
    with pytest.raises(TypeError):
        TabularClassifier(epoch=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_default_is_realmlp_td(task: Any) -> None:
    """Every constant of the table of the paper, by the network and the optimizer that come of it."""
    table, _, _ = shop()
    recipe = RECIPES["default"][task]
    preparation = TablePreparation(**recipe.preparation).fit(table)
    layers = recipe.layers(preparation, 3)
    model = fcnn.Sequential(layers, preparation.n_outputs_, seed=0, backend="numpy")
    kinds = [type(layer).__name__ for layer in model.layers]
    hidden = ["Dense", "ParametricActivation", "Dropout"]
    assert kinds == ["Embedding", "PBLD", "Scale", *hidden, *hidden, *hidden, "Dense"]
    embedding, pbld, scale, dense, activation, dropout, *_ = (vars(layer) for layer in model.layers)
    assert (embedding["outputs"], embedding["n_categories"]) == (8, [15])
    assert (pbld["frequencies"], pbld["outputs"], pbld["sigma"]) == (16, 4, 0.1)
    assert (scale["init"], dense["n_out"], dense["parametrization"]) == (1.0, 256, "ntk")
    assert (dense["init"].name, dense["bias_init"].name, activation["alpha"]) == ("std", "he+5", 1.0)
    assert activation["activation"].name == {"classification": "selu", "regression": "mish"}[task]
    assert dropout["p"] == fcnn.schedules.FlatCos(0.15)
    optimizer = recipe.optimizer(model.layers)
    peak = {"classification": 0.04, "regression": 0.2}[task]
    assert optimizer.learning_rate == fcnn.schedules.CosLog4(peak)
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps) == (0.9, 0.95, 1e-8)
    assert optimizer.weight_decay == fcnn.schedules.FlatCos(0.02)
    treated = optimizer.bind(model)._treat(model.flat)
    factors = {}
    for name, place in model.flat.places.items():
        (of,) = {(s.rate, s.decay) for s in treated.segments if s.start <= place.start and place.stop <= s.stop}
        factors[name] = of
    assert factors["0.E"] == (1.0, 1.0)
    assert {factors[f"1.{name}"] for name in ("w", "phase", "W", "b")} == {(0.1, 0.1)}
    assert factors["2.s"] == (6.0, 6.0)
    assert {factors[name] for name in ("3.W", "6.W", "9.W", "12.W")} == {(1.0, 1.0)}
    assert {factors[name] for name in ("3.b", "6.b", "9.b", "12.b")} == {(0.1, 0.0)}
    assert {factors[name] for name in ("4.alpha", "7.alpha", "10.alpha")} == {(0.1, 0.1)}
    assert (recipe.epochs, recipe.batch_size) == (256, 256)
    assert recipe.label_smoothing == {"classification": 0.1, "regression": 0.0}[task]


def test_tabm_is_an_ensemble_of_32() -> None:
    recipe = RECIPES["tabm"]["regression"]
    preparation = TablePreparation(**recipe.preparation).fit(shop()[0])
    model = fcnn.Sequential(recipe.layers(preparation, 2), preparation.n_outputs_, seed=0, backend="numpy")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Members", *["BatchEnsemble", "Dropout"] * 3, "DenseEnsemble"]
    first, second, head = (vars(model.layers[i]) for i in (1, 3, 7))
    assert (first["units"], first["members"], first["activation"].name) == (512, 32, "relu")
    signs = fcnn.initializers.RandomSigns((2, 14, 1, 5))  # size, town, garden, built
    assert (first["scale_in"], first["scale_out"], second["scale_in"]) == (signs, 1.0, 1.0)
    assert (head["units"], head["members"], vars(model.layers[2])["p"]) == (2, 32, 0.1)
    optimizer = recipe.optimizer(model.layers)
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.decay_all) == (0.002, 3e-4, True)
    assert (recipe.patience, recipe.batch_size, recipe.preparation) == (17, 256, {"numbers": "quantile"})
    assert (optimizer.clip_norm, recipe.ties, recipe.drop_last) == (1.0, "first", False)


def test_tabm_ends_when_it_gets_no_better_and_its_members_can_be_taken_out() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    settings: dict[str, Any] = {**FEW, "epochs": 200, "hidden_layer_sizes": (24,)}
    classifier = TabularClassifier("tabm", **settings).fit(X, y)
    n, best = len(classifier.history_), classifier.best_epoch_
    assert n < 200
    accuracy = classifier.history_["val_accuracy"]
    assert accuracy[best - 1] == max(accuracy)
    assert classifier.score(X_test, y_test) > 0.9
    each = [classifier.model_.select_members([g]).predict(X_test) for g in range(32)]
    np.testing.assert_allclose(np.mean(each, axis=0), classifier.predict_proba(X_test), atol=1e-6)
    assert np.std([np.argmax(P, axis=1) for P in each], axis=0).max() > 0, "all members say the same"
    scores = classifier.decision_function(X_test)
    np.testing.assert_array_equal(scores > 0, classifier.predict(X_test) == 1)
    regressor = TabularRegressor("tabm", **settings).fit(X[:, 1:], X[:, 0])
    assert regressor.score(X_test[:, 1:], X_test[:, 0]) > 0.95


@pytest.mark.parametrize("preset", list(RECIPES))
def test_targets_far_from_0_keep_their_digits(preset: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    years = 1e9 + 10 * X[:, 0]
    estimator = TabularRegressor(preset, **{**FEW, "epochs": 60}).fit(X, years)
    assert estimator.score(X, years) > 0.9
    estimator.model_.save(tmp_path / "model.safetensors")
    loaded = fcnn.load(tmp_path / "model.safetensors", backend="cpu")
    np.testing.assert_array_equal(loaded.predict(X)[:, 0], estimator.predict(X))
    if preset == "tabm":
        one = loaded.select_members([5])
        each = [loaded.select_members([g]).predict(X) for g in range(32)]
        assert one.n_out == 1
        inside = np.abs(X[:, 0]) < 1.0  # no member leaves the range of the targets
        np.testing.assert_allclose(np.mean(each, axis=0)[inside, 0], estimator.predict(X)[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", list(RECIPES))
def test_targets_out_of_range_are_refused_before_training(preset: str) -> None:
    X = np.random.default_rng(0).normal(size=(60, 2))

    class Trains(Callback):
        def on_train_begin(self, trainer: fcnn.Trainer) -> None:
            raise AssertionError("trained")

    for factor in (1e300, 1e-300, 1e38):
        with pytest.raises(ValueError, match=r"Column 1 of the targets spreads by .*Give it in other units"):
            TabularRegressor(preset, **FEW, callbacks=[Trains()]).fit(X, np.stack([X[:, 0], factor * X[:, 1]], axis=1))


def test_validation_targets_of_another_shape_are_told_so() -> None:
    X = np.random.default_rng(0).normal(size=(60, 2))
    for y, other in ((X, X[:, 0]), (X[:, 0], X)):
        with pytest.raises(ValueError, match=r"validation_data.*expects y .*, as in training, got"):
            TabularRegressor(**FEW).fit(X, y, validation_data=(X, other))


@pytest.mark.parametrize("kind", [TabularClassifier, fcnn.FCNNClassifier])
@pytest.mark.parametrize("gap", [None, math.nan])
def test_missing_labels_are_called_so(kind: Any, gap: Any) -> None:
    X = np.random.default_rng(0).normal(size=(6, 2))
    for labels in (["a", "b", gap, "a", "b", "a"], [True, False, gap, True, False, True]):
        with pytest.raises(ValueError, match=r"y has no label in row 2.*Remove these samples"):
            kind().fit(X, np.array(labels, object))
        with pytest.raises(ValueError, match=r"y has no label in row 2"):
            kind().fit(X, labels)


@pytest.mark.parametrize("kind", [TabularClassifier, fcnn.FCNNClassifier])
@pytest.mark.parametrize("dtype", ["Int64", "boolean", "category", "int64[pyarrow]"])
def test_labels_of_pandas_own_types_stay_what_they_are(kind: Any, dtype: str) -> None:
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    labels = pandas.Series([0, 1] * 20).astype(bool if dtype == "boolean" else int).astype(dtype)
    X = np.random.default_rng(0).normal(size=(40, 2))
    settings = {"hidden_layer_sizes": (4,), "epochs": 3, "backend": "numpy"}
    assert kind(**settings).fit(X, labels).classes_.dtype.kind == ("b" if dtype == "boolean" else "i")


def test_a_table_without_columns_is_called_so() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="0 feature"):
        TabularClassifier(**FEW).fit(pandas.DataFrame(index=range(4)), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("n", "settings", "epochs"),
    [
        (10, {}, 56),
        (5_486, {}, 56),
        (12_800, {}, 24),
        (1_000_000, {}, 8),
        (12_800, {"batch_size": 512}, 48),
        (12_800, {"epochs": 256}, 256),
    ],
)
def test_how_long_the_fast_one_trains(n: int, settings: dict[str, Any], epochs: int) -> None:
    """56 epochs, or as many as make 1,200 steps, but at least 8; others that are said."""
    recipe = TabularRegressor("fast", **settings)._recipe()
    assert recipe.for_samples(n).epochs == epochs
    assert RECIPES["default"]["regression"].for_samples(n).epochs == 256


def test_the_fast_one_is_realmlp_td_s() -> None:
    preparation = TablePreparation().fit(shop()[0])
    for task, activation, peak in (("classification", "selu", 0.04), ("regression", "mish", 0.07)):
        recipe = RECIPES["fast"][task]
        model = fcnn.Sequential(recipe.layers(preparation, 2), preparation.n_outputs_, seed=0, backend="numpy")
        kinds = [type(layer).__name__ for layer in model.layers]
        assert kinds == ["Scale", *["Dense", "Activation"] * 3, "Dense"]
        dense, shape, last = (vars(model.layers[i]) for i in (1, 2, 7))
        assert (dense["init"], dense["bias_init"]) == (fcnn.initializers.Normal(1.0), fcnn.initializers.Normal(1.0))
        assert (last["init"].name, last["bias_init"].name, shape["activation"].name) == ("zeros", "zeros", activation)
        optimizer = recipe.optimizer(model.layers)
        assert (optimizer.learning_rate, optimizer.weight_decay) == (fcnn.schedules.CosLog4(peak), 0.0)
        assert not model.awaits_data


def test_n_jobs_are_the_threads_of_one_network() -> None:
    X, y = load_iris(return_X_y=True)
    one, two = (TabularClassifier(n_jobs=n, **FEW).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
