"""Estimators that go on: the same seed, warm starts, partial fits, copies, pickles and changes of backend."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.schedules import Cosine, Exponential, ReduceOnPlateau
from tests.support.estimator_cases import assert_same_network, classifier, regressor, scaled_iris, three_labels


@pytest.fixture(scope="module")
def iris() -> tuple[HostArray, HostArray]:
    return scaled_iris()


@pytest.fixture(scope="module")
def labels_matrix() -> tuple[HostArray, HostArray]:
    return three_labels()


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
    drawn: dict[str, Any] = {"init": "fan_in_uniform", "bias_init": "fan_in_uniform", "l2": 1e-3}
    layers = [fcnn.Dense(8, activation="relu", **drawn), fcnn.Dropout(0.2), fcnn.Dense(3, **drawn)]
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
    network = classifier(learning_rate=0.02)
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


def test_a_schedule_that_has_ended_is_named_as_it_was_given(iris: tuple[HostArray, HostArray]) -> None:
    network = classifier(epochs=1, learning_rate=Cosine(0.01, epochs=1)).fit(*iris)
    with pytest.raises(ValueError, match=r"^Cosine\(.*epochs=1\), 1 epochs on, gives a learning rate of 0"):
        network.partial_fit(*iris)


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
    with pytest.raises(ValueError, match=r"partial_fit.*early_stopping=True"):
        classifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])


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
    X, y = iris[0][::4], iris[1][::4]
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
