"""Estimators on numbers far from 0 beside their spread: right where they are standardized outside, told where not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fcnn_gpu import DigitsWarning
from fcnn_gpu.estimators import FCNNClassifier, FCNNRegressor, TargetScaleWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
Y = 1.7e9 + 20 * X[:, 0] + RNG.normal(size=400)
SECONDS = 1.7e9 + 1000 * RNG.uniform(size=(400, 1))


def regressor(**options: Any) -> FCNNRegressor:
    return FCNNRegressor((), learning_rate=0.02, epochs=30, batch_size=32, random_state=0, backend="numpy", **options)


@pytest.mark.parametrize("y", [Y, np.column_stack([Y, Y + 5])])
def test_a_target_that_is_scaled_outside_keeps_its_digits(y: Any) -> None:
    whole = TransformedTargetRegressor(make_pipeline(StandardScaler(), regressor()), transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("error", DigitsWarning)
        whole.fit(X, y)
    assert whole.predict(X).dtype == np.float64
    assert whole.score(X, y) > 0.996  # 0.9975 is what can be known


def test_predictions_come_in_the_dtype_of_y() -> None:
    small = (Y - 1.7e9).astype(np.float32)
    assert regressor().fit(X, small).predict(X).dtype == np.float32
    assert regressor().fit(X, small.round().astype(int)).predict(X).dtype == np.float64
    assert regressor(dtype="float64").fit(X, small.astype(np.float64)).predict(X).dtype == np.float64


def test_what_the_network_would_lose_is_told() -> None:
    digits = r"y: the numbers of column 0 lose their digits.*TransformedTargetRegressor"
    with pytest.warns(TargetScaleWarning), pytest.warns(DigitsWarning, match=digits):
        regressor().fit(X, Y)
    labels = (SECONDS[:, 0] > SECONDS.mean()).astype(int)
    with pytest.warns(DigitsWarning, match=r"FCNNClassifier.fit: X: the numbers of column 0 .*StandardScaler") as told:
        FCNNClassifier((), epochs=1, backend="numpy").fit(SECONDS, labels)
    assert told[0].filename == __file__
    scaled = make_pipeline(
        StandardScaler(), FCNNClassifier((), learning_rate=0.1, epochs=30, random_state=0, backend="numpy")
    )
    assert scaled.fit(SECONDS, labels).score(SECONDS, labels) > 0.95
