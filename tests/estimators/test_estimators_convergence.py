"""How many epochs `fit` takes by itself, what networks start from, and when it says that its loss still falls."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.estimators import FCNNClassifier, FCNNRegressor, UnfinishedFitWarning
from fcnn_gpu.estimators._convergence import still_falls
from tests.support.estimator_cases import assert_same_network, classifier, scaled_iris

RNG = np.random.default_rng(0)
QUICK: dict[str, Any] = {"random_state": 0, "backend": "numpy"}


# Epochs


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "n_epochs"),
    [(20, 128, 300), (128, 128, 300), (129, 128, 160), (300, 128, 160), (40, 20, 160), (30, 20, 160), (45, 45, 300)],
)
@pytest.mark.filterwarnings("ignore::fcnn_gpu.estimators.UnfinishedFitWarning")
def test_without_a_number_small_data_gets_as_many_epochs_as_make_enough_steps(
    n_samples: int, batch_size: int, n_epochs: int
) -> None:
    X = RNG.normal(size=(n_samples, 2))
    network = FCNNRegressor((), batch_size=batch_size, **QUICK).fit(X, X[:, 0])
    assert network.n_iter_ == n_epochs


@pytest.mark.filterwarnings("ignore::fcnn_gpu.estimators.UnfinishedFitWarning")
def test_samples_that_are_held_out_make_no_steps() -> None:
    X = RNG.normal(size=(140, 2))
    network = FCNNRegressor((), validation_fraction=0.1, **QUICK).fit(X, X[:, 0])
    assert network.n_iter_ == 300  # of 126 samples


def test_a_number_of_epochs_is_taken_as_it_is() -> None:
    X = RNG.normal(size=(20, 2))
    assert FCNNRegressor((), epochs=2, **QUICK).fit(X, X[:, 0]).n_iter_ == 2
    assert FCNNRegressor((), **QUICK).partial_fit(X, X[:, 0]).n_iter_ == 1


# What a network starts from


def test_defaults_are_the_layers_own_under_these_names() -> None:
    X = RNG.normal(size=(20, 3))
    network = FCNNRegressor((6,), learning_rate=0.0, epochs=1, **QUICK).fit(X, X[:, 0])
    drawn: dict[str, Any] = {"init": "fan_in_uniform", "bias_init": "fan_in_uniform"}
    layers = [fcnn.Dense(6, activation="relu", **drawn), fcnn.Dense(1, **drawn)]
    model = fcnn.Sequential(layers, n_in=3, seed=0, backend="numpy")
    for name, array in network.model_.named_arrays().items():
        np.testing.assert_array_equal(array, model.named_arrays()[name], err_msg=name)
    before = FCNNRegressor((6,), learning_rate=0.0, epochs=1, init=None, bias_init=None, **QUICK).fit(X, X[:, 0])
    first: Any = before.model_.layers[0]
    assert first.init.name == "he_normal"
    assert not first.b.any()


def test_with_batch_norm_hidden_layers_have_no_biases_to_start_from() -> None:
    network = classifier(batch_norm=True).fit(*scaled_iris())
    first, last = network.model_.layers[0], network.model_.layers[-1]
    assert (first.bias, first.bias_init) == (False, None)
    assert last.bias_init.name == "fan_in_uniform"


def test_a_change_of_bias_init_is_no_going_on() -> None:
    network = classifier(warm_start=True).fit(*scaled_iris())
    with pytest.raises(ValueError, match="after a change of bias_init"):
        network.set_params(bias_init=None).fit(*scaled_iris())


# Whether the loss still falls


def history(losses: Any, penalties: Any = 0.0) -> fcnn.History:
    pairs = np.broadcast_arrays(losses, penalties)
    return fcnn.History([{"loss": float(a), "penalty": float(b)} for a, b in zip(*pairs, strict=True)])


T = np.linspace(0.0, 1.0, 200)


@pytest.mark.parametrize(
    ("losses", "falls"),
    [
        (1.0 - 0.5 * T, True),
        (np.exp(-2 * T), True),
        (np.exp(-12 * T), False),  # all is learned: a 300th within the last tenth, and next to nothing of the whole
        (0.3 + np.exp(-12 * T), False),
        (0.3 + 0.5 * T, False),
        (np.full(200, 0.7), False),
        (0.7 - 0.005 * T, False),  # less than 1 % of it
        (np.zeros(200), False),
        ((1.0 - 0.5 * T)[:49], False),  # few, as somebody wanted
        ((1.0 - 0.5 * T)[:50], True),
        (np.where(T < 0.8, 1.0 - 0.5 * T, 0.6), False),
    ],
)
def test_curves(losses: HostArray, falls: bool) -> None:
    assert still_falls(history(losses)) == falls


def test_penalties_count() -> None:
    assert not still_falls(history(1.0 - 0.5 * T, 1.0 + 0.5 * T))
    assert still_falls(history(np.ones(200), 1.0 - 0.5 * T))


@pytest.mark.parametrize("n", [50, 160, 400])
def test_noise_is_no_fall_and_hides_none(n: int) -> None:
    rng = np.random.default_rng(n)
    noise = 0.05 * rng.standard_normal((500, n))
    alarms = sum(still_falls(history(1.0 + row)) for row in noise)
    assert alarms <= 10  # 0.5 % are expected, and 2 % are ten standard deviations away for the longest
    falling = sum(still_falls(history(np.linspace(2.0, 0.5, n) + row)) for row in noise)
    assert falling >= 450


def slow(**options: Any) -> FCNNClassifier:
    few: dict[str, Any] = {"hidden_layer_sizes": (8,), "learning_rate": 5e-4}
    return FCNNClassifier(**few | QUICK | options)


def test_a_fit_that_ends_too_early_says_so_where_it_was_called() -> None:
    X, y = scaled_iris()
    with pytest.warns(
        UnfinishedFitWarning, match=r"FCNNClassifier.fit ended after 160 epochs .*Use more epochs"
    ) as told:
        slow().fit(X, y)
    assert issubclass(UnfinishedFitWarning, ConvergenceWarning)
    assert told[0].filename == __file__
    with pytest.warns(UnfinishedFitWarning, match="FCNNRegressor.fit ended after 60 epochs"):
        FCNNRegressor((8,), epochs=60, **QUICK).fit(X, y.astype(float))


class Stop(fcnn.Callback):
    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        if record["epoch"] == 100:
            trainer.stop_reason = "enough"


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 49},
        {"early_stopping": True},
        {"warm_start": True},
        {"callbacks": [Stop()]},
        {"learning_rate": 0.0},
        {"learning_rate": 0.02, "hidden_layer_sizes": (32,)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_fit_whose_end_is_wanted_or_comes_says_nothing(options: dict[str, Any]) -> None:
    X, y = scaled_iris()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slow(**options).fit(X, y)
        slow(**options | {"early_stopping": False}).partial_fit(X, y, classes=[0, 1, 2])


def test_labels_without_a_rule_raise_no_alarm() -> None:
    """Ten thousand samples that cannot be learned: the loss goes on falling by what is learned by heart, a little."""
    X, y = RNG.normal(size=(10_000, 5)), RNG.integers(0, 2, 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FCNNClassifier(epochs=60, **QUICK).fit(X, y)


def test_the_warning_changes_nothing() -> None:
    X, y = scaled_iris()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = slow(epochs=80).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = slow(epochs=80)
        with pytest.raises(UnfinishedFitWarning):
            network.fit(X, y)
    assert_same_network(told, network)
