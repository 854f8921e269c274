"""What an estimator cannot do: it says so, and nothing about it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from tests.support.estimator_cases import classifier, regressor, scaled_iris, three_labels


@pytest.fixture(scope="module")
def iris() -> tuple[HostArray, HostArray]:
    return scaled_iris()


@pytest.fixture(scope="module")
def labels_matrix() -> tuple[HostArray, HostArray]:
    return three_labels()


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
    ({"bias_init": "fan_in"}, ValueError, "fan_in_uniform"),
    ({"bias_init": "orthogonal"}, ValueError, "bias_init=Orthogonal.* makes whole weight matrices"),
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
    ({"verbose": "yes"}, TypeError, "verbose"),
    ({"verbose": -1}, ValueError, "verbose"),
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
