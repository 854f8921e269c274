"""Small estimators and data that the tests of estimators share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from fcnn_gpu import FCNNClassifier, FCNNRegressor
from fcnn_gpu._types import HostArray


def _small(parameters: dict[str, Any]) -> dict[str, Any]:
    few: dict[str, Any] = {"hidden_layer_sizes": (8,), "epochs": 3, "batch_size": 32}
    return few | {"random_state": 0, "backend": "numpy"} | parameters


def classifier(**parameters: Any) -> Any:
    return FCNNClassifier(**_small(parameters))


def regressor(**parameters: Any) -> Any:
    return FCNNRegressor(**_small(parameters))


def scaled_iris() -> tuple[HostArray, HostArray]:
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def three_labels() -> tuple[HostArray, HostArray]:
    """Three labels that do not exclude each other, each the sign of one linear function."""
    X = np.random.default_rng(0).standard_normal((300, 4))
    return X, (X @ np.random.default_rng(1).standard_normal((4, 3)) > 0).astype(int)


def assert_same_network(a: Any, b: Any) -> None:
    mine, others = a.model_.named_arrays(), b.model_.named_arrays()
    assert mine.keys() == others.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
