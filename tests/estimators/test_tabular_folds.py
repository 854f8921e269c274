"""Bagged networks: what each fold trains on and predicts, within a time, in several processes."""

from __future__ import annotations

import math
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import GroupKFold, KFold, RepeatedKFold, StratifiedKFold

import fcnn_gpu as fcnn
from fcnn_gpu import TabularClassifier, TabularRegressor
from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.estimators._deadline import affordable
from fcnn_gpu.estimators._folds import folds_of

FEW: dict[str, Any] = {"epochs": 6, "random_state": 0, "backend": "cpu", "hidden_layer_sizes": (16, 16)}


@given(
    st.floats(0, 1e6),
    st.floats(1e-6, 1e3),
    st.integers(1, 300),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 8),
)
def test_what_is_planned_fits_wherever_more_than_the_least_is_planned(
    seconds: float, per_epoch: float, epochs: int, n_folds: int, fewest: int, at_once: int
) -> None:
    fewest = min(fewest, n_folds)
    folds, planned = affordable(seconds, per_epoch, epochs, n_folds, fewest, at_once)
    assert fewest <= folds <= n_folds
    assert min(2, epochs) <= planned <= epochs
    if planned > 2:
        assert math.ceil(folds / at_once) * planned * per_epoch <= seconds * (1 + 1e-9)
    if folds < n_folds and planned == epochs:  # a round more would be too long
        assert (folds // at_once + 1) * epochs * per_epoch > seconds * (1 - 1e-9)


def test_each_fold_s_network_is_the_one_that_those_rows_train() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    model = TabularClassifier("fast", cv=3, **FEW).fit(X, y)
    folds = folds_of(3, y, 0, "cv")
    members = [model.model_.select_members([i]) for i in range(3)]
    seeds = np.random.SeedSequence(0).generate_state(3)
    proba = np.mean([member.predict(X) for member in members], axis=0)
    np.testing.assert_allclose(model.predict_proba(X), proba, rtol=1e-5, atol=1e-7)
    assert model.out_of_fold_.shape == (len(X), 2)
    for (train, held_out), member, T, seed in zip(folds, members, model.temperature_, seeds, strict=True):
        np.testing.assert_array_equal(model.out_of_fold_[held_out], member.predict(X[held_out]))
        one = TabularClassifier("fast", **FEW | {"random_state": int(seed)})
        one.fit(X[train], y[train], validation_data=(X[held_out], y[held_out]))
        assert one.temperature_ == pytest.approx(T, rel=0.2)  # but for the preparation, which has seen all rows here
    assert len(model.history_) == len(model.best_epoch_) == 3


def test_best_is_eight_folds_of_the_default() -> None:
    X, y = load_iris(return_X_y=True)
    settings: dict[str, Any] = {"epochs": 3, "hidden_layer_sizes": (8,), "random_state": 0}
    best, folds = TabularClassifier("best", **settings).fit(X, y), TabularClassifier(cv=8, **settings).fit(X, y)
    assert best.model_.members == 8
    np.testing.assert_array_equal(best.predict_proba(X), folds.predict_proba(X))
    assert TabularClassifier("best", cv=2, **settings).fit(X, y).model_.members == 2


def test_a_regressor_s_folds_predict_values_within_their_range(tmp_path: Path) -> None:
    X, y = load_diabetes(return_X_y=True)
    model = TabularRegressor("fast", cv=4, **FEW | {"epochs": 40}).fit(X, 1e5 + y)
    assert model.out_of_fold_.shape == y.shape
    assert model.out_of_fold_.min() >= 1e5 + y.min() - 0.02
    assert model.out_of_fold_.max() <= 1e5 + y.max() + 0.02
    assert 1 - ((model.out_of_fold_ - 1e5 - y) ** 2).mean() / y.var() > 0.3
    assert model.score(X, 1e5 + y) > 0.4
    model.model_.save(tmp_path / "bag.safetensors")
    loaded = fcnn.load(tmp_path / "bag.safetensors")
    np.testing.assert_array_equal(loaded.predict(X)[:, 0], model.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    two = TabularRegressor("fast", cv=2, **FEW).fit(X, np.stack([y, -y], axis=1))
    assert two.out_of_fold_.shape == (len(y), 2)


def test_tables_with_categories_and_gaps_are_bagged_too() -> None:
    rng = np.random.default_rng(0)
    town = rng.integers(0, 14, 300)
    table = {
        "town": [f"town {i}" for i in town],
        "size": [None if i % 9 == 0 else float(x) for i, x in enumerate(rng.normal(size=300))],
    }
    labels = np.where(town % 2 == 0, "even", "odd")
    model = TabularClassifier(cv=3, epochs=60, random_state=0, hidden_layer_sizes=(32,), backend="cpu").fit(
        table, labels
    )
    assert (model.classes_[model.out_of_fold_.argmax(axis=1)] == labels).mean() > 0.9
    assert model.score(table, labels) > 0.95


@pytest.mark.parametrize(
    "cv",
    [
        KFold(3, shuffle=True, random_state=1),
        StratifiedKFold(3),
        [(np.arange(50, 150), np.arange(50))],
        [(np.arange(150) >= 50, np.arange(150) < 50)],
    ],
    ids=["KFold", "StratifiedKFold", "rows", "masks"],
)
def test_splitters_of_scikit_learn_and_pairs_of_rows(cv: Any) -> None:
    X, y = load_iris(return_X_y=True)
    model = TabularClassifier("fast", cv=cv, **FEW).fit(X, y)
    parts = [np.arange(len(X))[rows] for _, rows in (cv if isinstance(cv, list) else cv.split(X, y))]
    held_out = np.concatenate(parts)
    predicted = np.isfinite(model.out_of_fold_).all(axis=1)
    assert set(np.flatnonzero(predicted)) == set(held_out.tolist())
    assert np.isnan(model.out_of_fold_[~predicted]).all()


def test_samples_that_several_folds_hold_out_have_the_mean_of_their_predictions() -> None:
    X, y = load_iris(return_X_y=True)
    cv = RepeatedKFold(n_splits=2, n_repeats=2, random_state=0)
    model = TabularClassifier("fast", cv=cv, **FEW).fit(X, y)
    assert model.model_.members == 4
    each = np.full((4, len(X), 3), np.nan)
    for i, (_, rows) in enumerate(cv.split(X)):
        each[i, rows] = model.model_.select_members([i]).predict(X[rows])
    np.testing.assert_allclose(model.out_of_fold_, np.nanmean(each, axis=0), rtol=1e-6)


@pytest.mark.slow
def test_networks_of_other_processes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    one = TabularClassifier("fast", cv=3, **FEW).fit(X, y)
    several = TabularClassifier("fast", cv=3, n_jobs=2, **FEW).fit(X, y)
    np.testing.assert_array_equal(one.out_of_fold_, several.out_of_fold_)
    np.testing.assert_array_equal(one.predict_proba(X), several.predict_proba(X))
    monkeypatch.setattr("fcnn_gpu.backend._select._default", "numpy")  # as set_backend does in this process
    of_numpy = TabularClassifier("fast", cv=2, n_jobs=2, **FEW | {"backend": None}).fit(X, y)
    assert of_numpy.model_.ops is resolve_backend("numpy")
    limited = TabularClassifier("fast", cv=2, n_jobs=2, time_limit=1e6, **FEW | {"backend": None}).fit(X, y)
    np.testing.assert_array_equal(of_numpy.predict_proba(X), limited.predict_proba(X))
    with pytest.raises(ValueError, match="watch runs in this process"):
        TabularClassifier("fast", cv=3, n_jobs=2, callbacks=[Callback()], **FEW).fit(X, y)


class Clock(Callback):
    """Time stands still but in an epoch, in which as much of it passes as one says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.an_epoch = 0.0, 1.0
        for module in ("callbacks.time_limit", "estimators._tabular", "estimators._run"):
            monkeypatch.setattr(f"fcnn_gpu.{module}.time", SimpleNamespace(perf_counter=lambda: self.now))

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        self.now += self.an_epoch


def test_fewer_folds_and_shorter_runs_are_planned_where_time_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_iris(return_X_y=True)
    clock = Clock(monkeypatch)
    monkeypatch.setattr("fcnn_gpu.estimators._run.Run.seconds_per_epoch", lambda *_: clock.an_epoch)
    settings = FEW | {"epochs": 10, "callbacks": [clock]}

    def lengths(cv: Any, limit: float) -> list[int]:
        model = TabularClassifier("fast", cv=cv, time_limit=limit, **settings).fit(X, y)
        assert np.isfinite(model.out_of_fold_).all()
        return [len(history) for history in model.history_]

    assert lengths(8, 1000.0) == [10] * 8
    assert lengths(8, 35.0) == [10] * 3
    assert lengths(8, 12.0) == [6, 6]
    assert lengths(8, 1.0) == [2, 2]  # the first step of all has the rate 0
    assert lengths(KFold(3, shuffle=True, random_state=0), 15.0) == [5, 5, 5]
    one = TabularClassifier("fast", time_limit=4.0, **settings).fit(X, y)
    assert (len(one.history_), one.history_.stopped_by) == (4, "epochs")


def test_a_run_that_is_slower_than_planned_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_iris(return_X_y=True)
    clock = Clock(monkeypatch)
    monkeypatch.setattr("fcnn_gpu.estimators._run.Run.seconds_per_epoch", lambda *_: clock.an_epoch / 2)
    model = TabularClassifier("fast", cv=4, time_limit=20.0, callbacks=[clock], **FEW).fit(X, y)
    assert np.isfinite(model.out_of_fold_).all()
    assert clock.now == 20.0
    assert [len(history) for history in model.history_] == [5, 5, 5, 5]
    assert all(history.stopped_by == "time limit of 5 seconds" for history in model.history_)


def test_how_long_an_epoch_takes_is_measured_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_iris(return_X_y=True)
    told: list[float] = []

    def noted(*arguments: Any) -> tuple[int, int]:
        told.append(arguments[1])
        return affordable(*arguments)

    monkeypatch.setattr("fcnn_gpu.estimators._bag.affordable", noted)
    ends = iter([0.0, 5.0, 7.0])
    monkeypatch.setattr("fcnn_gpu.estimators._run.time", SimpleNamespace(perf_counter=lambda: next(ends)))
    TabularClassifier("fast", cv=2, time_limit=1e9, **FEW).fit(X, y)
    assert told == [5.0]


def test_ctrl_c_keeps_the_folds_so_far() -> None:
    X, y = load_iris(return_X_y=True)

    class Interrupt(Callback):
        runs = 0

        def on_train_begin(self, trainer: Any) -> None:
            self.runs += 1
            if self.runs == 3:
                raise KeyboardInterrupt

    model = TabularClassifier("fast", cv=5, callbacks=[Interrupt()], **FEW)
    with pytest.raises(KeyboardInterrupt, match="best so far"):
        model.fit(X, y)
    assert model.model_.members == 2
    assert np.isfinite(model.out_of_fold_).all(axis=1).sum() == 60
    assert model.predict(X).shape == y.shape


def test_half_a_run_is_not_bagged_with_whole_ones() -> None:
    X, y = load_diabetes(return_X_y=True)

    class Interrupt(Callback):
        runs = 0

        def on_train_begin(self, trainer: Any) -> None:
            self.runs += 1

        def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
            if self.runs == 2:
                signal.raise_signal(signal.SIGINT)

    model = TabularRegressor("fast", cv=4, callbacks=[Interrupt()], **FEW)
    with pytest.raises(KeyboardInterrupt, match="best so far"):
        model.fit(X, y)
    assert [len(history) for history in model.history_] == [6]
    assert model.model_.members == 1
    assert np.isfinite(model.out_of_fold_).sum() == len(folds_of(4, y[:, np.newaxis], 0, "cv")[0][1])


def test_samples_of_weight_0_have_no_part_in_anything() -> None:
    X, y = load_diabetes(return_X_y=True)
    X, y = np.concatenate([X, X[:100]]), np.concatenate([y, np.full(100, 1e6)])
    w = np.ones(len(y))
    w[-100:] = 0
    X[-1] = 1e9
    settings = FEW | {"epochs": 40}
    for cv in (None, 3):
        model = TabularRegressor("fast", cv=cv, **settings).fit(X, y, sample_weight=w)
        assert model.score(X[:-100], y[:-100]) > 0.4
        assert model.predict(X).max() <= y[:-100].max() + 0.01
    with_validation = TabularRegressor("fast", **settings).fit(X[:-100], y[:-100], validation_data=(X[:50], y[:50]))
    again = TabularRegressor("fast", **settings).fit(X, y, sample_weight=w, validation_data=(X[:50], y[:50]))
    np.testing.assert_array_equal(with_validation.predict(X), again.predict(X))  # a weight of 1 multiplies exactly


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cv": 1}, ValueError, r"TabularClassifier\(cv\) expects an integer of at least 2"),
    ({"cv": 151}, ValueError, r"TabularClassifier\(cv\)=151 folds cannot be made of 150 samples"),
    ({"cv": "five"}, TypeError, r"TabularClassifier\(cv\) expects a number of folds"),
    ({"cv": True}, TypeError, r"TabularClassifier\(cv\) expects a number of folds"),
    ({"cv": GroupKFold(3)}, ValueError, r"TabularClassifier\(cv\): The 'groups' parameter"),
    ({"cv": []}, ValueError, r"TabularClassifier\(cv\) gives no folds"),
    (
        {"cv": [(np.arange(100), np.arange(90, 150))]},
        ValueError,
        "fold 0 trains on samples which it holds out",
    ),
    ({"cv": [(np.arange(100), np.arange(0))]}, ValueError, "100 samples to train on and 0 held out"),
    ({"cv": [(np.arange(150), np.arange(-10, 0))]}, ValueError, "rows from -10 to -1; there are those from 0 to 149"),
    ({"cv": [(np.arange(100), np.arange(100, 151))]}, ValueError, "rows from 100 to 150; there are"),
    ({"cv": [(np.arange(100), np.array([100, 100]))]}, ValueError, "a row more than once"),
    ({"cv": [(np.arange(100.0), np.arange(100, 150))]}, TypeError, "numbers of rows, or a mask of 150, got float64"),
    ({"cv": [(np.arange(100), np.arange(100, 150), 3)]}, ValueError, "fold 0 expects a pair"),
    ({"time_limit": 0}, ValueError, r"TabularClassifier\(time_limit\)"),
    ({"time_limit": "1 day"}, ValueError, r"TabularClassifier\(time_limit\)"),
    ({"n_jobs": 0}, ValueError, r"TabularClassifier\(n_jobs\) expects at least 1, or -1"),
    ({"n_jobs": 1.5}, TypeError, r"TabularClassifier\(n_jobs\)"),
]


@pytest.mark.parametrize(("given", "error", "words"), BAD, ids=lambda value: str(value)[:30])
def test_what_cannot_be_is_refused(given: dict[str, Any], error: type[Exception], words: str) -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(error, match=words):
        TabularClassifier("fast", **FEW | given).fit(X, y)


def test_folds_and_validation_data_are_refused_together_and_weights_of_0_in_a_fold() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="Leave out validation_data"):
        TabularClassifier("best", **FEW).fit(X, y, validation_data=(X, y))
    weights = np.zeros(len(X))
    weights[:3] = 1
    with pytest.raises(ValueError, match="a fold holds out 15 samples, and the weight of each of them is 0"):
        TabularClassifier("fast", cv=10, **FEW).fit(X, y, sample_weight=weights)
    model = clone(TabularClassifier("fast", cv=10, **FEW))
    assert model.cv == 10
