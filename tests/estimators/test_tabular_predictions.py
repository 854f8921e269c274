"""What the estimators for tables predict beside the mean and the most probable class: quantiles, and thresholds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, matthews_corrcoef

import fcnn_gpu as fcnn
from fcnn_gpu import TabularClassifier, TabularRegressor
from fcnn_gpu._types import HostArray
from fcnn_gpu.estimators._threshold import best_threshold

FEW: dict[str, Any] = {"epochs": 6, "random_state": 0, "backend": "cpu", "hidden_layer_sizes": (16, 16)}


def quantile_data(n: int) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, 1))
    return x, 50 + 10 * x[:, 0] + rng.exponential(1.0 + (x[:, 0] > 0), n)


def test_quantiles_of_a_known_distribution() -> None:
    X, y = quantile_data(4000)
    model = TabularRegressor(
        quantiles=[0.9, 0.25], epochs=40, hidden_layer_sizes=(32, 32), random_state=0, backend="cpu"
    ).fit(X, y)
    at = np.linspace(-0.9, 0.9, 20)[:, np.newaxis]
    scale, mean = 1.0 + (at[:, 0] > 0), 50 + 10 * at[:, 0]
    predicted = model.predict_quantiles(at)
    for q, found in ((0.9, predicted[:, 0]), (0.25, predicted[:, 1]), (0.5, model.predict(at))):
        shares = 1 - np.exp(-(found - mean) / scale)  # of y below; of the 200 samples around a place 0.03 off is usual
        assert np.abs(shares - q).mean() < 0.1
    assert (predicted[:, 0] >= model.predict(at)).all()
    assert (predicted[:, 1] <= model.predict(at)).all()
    assert (y < model.predict_quantiles(X)[:, 0]).mean() == pytest.approx(0.9, abs=0.04)
    assert model.model_.signature.target_names == ("quantile 0.25", "quantile 0.5", "quantile 0.9")
    assert model.score(X, y) > 0.8
    model.set_params(quantiles=[0.1])  # of the next fit
    np.testing.assert_array_equal(model.predict_quantiles(at), predicted)
    np.testing.assert_array_equal(model.quantiles_, [0.9, 0.25])


def test_quantiles_that_cannot_be_learned_are_refused() -> None:
    X, y = quantile_data(60)
    settings = FEW | {"epochs": 2}
    for bad, error in (([0.0], ValueError), ([], TypeError), (0.5, TypeError), ("0.5", TypeError), ([2], ValueError)):
        with pytest.raises(error, match=r"TabularRegressor\(quantiles\)"):
            TabularRegressor(quantiles=bad, **settings).fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one target"):
        TabularRegressor(quantiles=[0.1], **settings).fit(X, np.stack([y, y], axis=1))
    with pytest.raises(AttributeError, match="has learned no quantiles"):
        TabularRegressor(**settings).fit(X, y).predict_quantiles(X)
    model = TabularRegressor(quantiles=[0.1], **settings).fit(X, y, validation_data=(X, y))
    with pytest.raises(ValueError, match=r"expects y of shape \(n_samples,\)"):
        model.fit(X, y, validation_data=(X, np.stack([y, y], axis=1)))


METRICS: dict[str, Any] = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "f1": f1_score,
    "mcc": matthews_corrcoef,
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_threshold_is_the_best_there_is(metric: str, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    for n in (2, 5, 40):
        p, labels = rng.integers(0, 9, n) / 8, rng.integers(0, 2, n)
        w = rng.random(n) if weighted else None
        t = best_threshold(p, labels, w, metric)
        assert 0 < t < 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scores that are 0/0
            scores = [METRICS[metric](labels, p > c, sample_weight=w) for c in np.linspace(0.001, 0.999, 999)]
            # A recall of a class that is not there: scikit-learn leaves it out, and nothing depends on it
            if labels.min() != labels.max():
                assert METRICS[metric](labels, p > t, sample_weight=w) == pytest.approx(max(scores))


def test_a_threshold_moves_the_labels_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = np.where(X[:, 0] + rng.normal(0, 1.0, 600) > 1.6, "rare", "common")
    plain = TabularClassifier("fast", **FEW).fit(X, y)
    tuned = TabularClassifier("fast", threshold="f1", **FEW).fit(X, y)
    high = TabularClassifier("fast", threshold=0.9, **FEW).fit(X, y)
    np.testing.assert_array_equal(plain.predict_proba(X), tuned.predict_proba(X))
    assert plain.threshold_ == 0.5
    assert tuned.threshold_ < 0.5
    assert f1_score(y, tuned.predict(X), pos_label="rare") > f1_score(y, plain.predict(X), pos_label="rare")
    np.testing.assert_array_equal(high.predict(X) == "rare", high.predict_proba(X)[:, 1] > 0.9)
    assert tuned.score(X, y) == (tuned.predict(X) == y).mean()
    for model in (tuned, high):  # the saved network knows it
        model.model_.save(tmp_path / "model.safetensors")
        saved = fcnn.load(tmp_path / "model.safetensors", backend="numpy")
        assert saved.signature.threshold == model.threshold_
        np.testing.assert_array_equal(saved.predict_labels(X), model.predict(X))
    assert plain.model_.signature.threshold is None
    bagged = TabularClassifier("fast", threshold="f1", cv=3, **FEW).fit(X, y)
    p = bagged.out_of_fold_[:, 1]
    assert bagged.threshold_ == best_threshold(p, (y == "rare").astype(np.int64), None, "f1")
    assert bagged.model_.signature.threshold == bagged.threshold_
    for bad, words in (("recall", "recall"), (1.0, "threshold"), (0, "threshold")):
        with pytest.raises(ValueError, match=words):
            TabularClassifier("fast", threshold=bad, **FEW).fit(X, y)
    with pytest.raises(ValueError, match="holds none out"):
        TabularClassifier("fast", threshold="f1", validation_fraction=0.0, **FEW).fit(X, y)
    with pytest.raises(ValueError, match="of two classes, and y has 3"):
        TabularClassifier("fast", threshold="f1", **FEW).fit(*load_iris(return_X_y=True))
