"""Estimators on sparse X: as accurate as scikit-learn's MLP, and the same as on the samples dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from fcnn_gpu import FCNNClassifier
from fcnn_gpu._types import HostArray
from tests.support.estimator_cases import classifier, regressor

pytestmark = pytest.mark.filterwarnings("ignore::fcnn_gpu.estimators.UnfinishedFitWarning")


def bags_of_words(n: int, seed: int) -> tuple[Any, HostArray]:
    """Counts (n, 2000) of words in sparse texts of four topics, which share most words, and the topics."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 4, n)
    common = rng.integers(0, 1600, (n, 30))
    own = 1600 + 100 * topics[:, None] + rng.integers(0, 100, (n, 8))
    words = np.hstack([common, np.where(rng.uniform(size=own.shape) < 0.5, own, rng.integers(0, 2000, own.shape))])
    counts = coo_array((np.ones(words.size), (np.repeat(np.arange(n), words.shape[1]), words.ravel())), (n, 2000))
    return counts.tocsr(), topics


def test_sparse_texts_as_accurate_as_scikit_learns_mlp() -> None:
    (X, y), (X_test, y_test) = bags_of_words(1500, 0), bags_of_words(1000, 1)
    options: dict[str, Any] = {"random_state": 0, "learning_rate": 0.003, "epochs": 15}
    for backend in ("numpy", "auto"):
        network = FCNNClassifier((32,), backend=backend, **options).fit(X, y)
        reference = MLPClassifier((32,), max_iter=15, learning_rate_init=0.003, random_state=0)
        with threadpool_limits(1), pytest.warns(ConvergenceWarning):
            reference.fit(X, y)
        score = network.score(X_test, y_test)
        assert score > 0.85
        assert score >= reference.score(X_test, y_test) - 0.02


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_sparse_samples_give_the_estimators_of_dense_ones(backend: str) -> None:
    X, y = bags_of_words(300, 0)
    options: dict[str, Any] = {"backend": backend, "epochs": 5, "early_stopping": True, "batch_norm": True}
    for make, targets in ((classifier, y), (regressor, 0.1 * y)):
        sparse, dense = (make(**options).fit(given, targets) for given in (X, X.toarray()))
        np.testing.assert_allclose(sparse.history_["val_loss"], dense.history_["val_loss"], rtol=1e-4)
        np.testing.assert_allclose(sparse._outputs(X.tocsc()), dense._outputs(X.toarray()), rtol=1e-3, atol=1e-4)
    again = [classifier(backend=backend).partial_fit(x, y, range(4)).partial_fit(x, y) for x in (X, X.toarray())]
    np.testing.assert_allclose(again[0].predict_proba(X), again[1].predict_proba(X), rtol=1e-4)
