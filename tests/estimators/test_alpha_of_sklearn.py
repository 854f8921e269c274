"""What the docstrings say of scikit-learn's alpha: steps of its own networks against ours with that λ₂."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fcnn_gpu.estimators import FCNNClassifier, FCNNRegressor

N, N_IN, BATCH, RATE, ALPHA = 48, 4, 12, 0.05, 3.0
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, N_IN))
VALUES = RNG.normal(size=(N, 3))
CASES: dict[str, tuple[Any, Any, Any, float, float]] = {
    # theirs, ours, y, alpha/(batch_size·λ₂), and what the objectives, and so the rates, differ by
    "classes": (MLPClassifier, FCNNClassifier, np.arange(N) % 3, 2.0, 1.0),
    "a 0/1 matrix of 3 labels": (MLPClassifier, FCNNClassifier, (VALUES > 0).astype(int), 6.0, 3.0),
    "one value": (MLPRegressor, FCNNRegressor, VALUES[:, 0], 1.0, 0.5),
    "3 values": (MLPRegressor, FCNNRegressor, VALUES, 3.0, 1.5),
}


@pytest.mark.parametrize("case", CASES)
def test_alpha(case: str) -> None:
    make_theirs, make_ours, y, factor, rate = CASES[case]
    theirs = make_theirs(
        hidden_layer_sizes=(5,),
        activation="tanh",
        solver="sgd",
        momentum=0.0,
        alpha=ALPHA,
        batch_size=BATCH,
        learning_rate_init=RATE,
        shuffle=False,
        max_iter=1,
        warm_start=True,
        random_state=0,
    )
    ours = make_ours(
        (5,),
        "tanh",
        optimizer="sgd",
        learning_rate=RATE * rate,
        l2=ALPHA / (factor * BATCH),
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        warm_start=True,
        dtype="float64",
        random_state=0,
        backend="numpy",
    )
    ours.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y)  # to have weights, which ours get
        layers = ours.model_.layers
        for layer, W, b in zip(layers, theirs.coefs_, theirs.intercepts_, strict=True):
            layer.W[...], layer.b[...] = W.T, b[:, None]
        ours.fit(X, y)
        theirs.fit(X, y)
        theirs.fit(X, y)
    for layer, W, b in zip(layers, theirs.coefs_, theirs.intercepts_, strict=True):
        np.testing.assert_allclose(layer.W, W.T, rtol=1e-10)
        np.testing.assert_allclose(layer.b[:, 0], b, rtol=1e-10)
