"""X without samples: predictions of none, in the shape and dtype of others; nothing is learned or measured of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fcnn_gpu as fcnn
from fcnn_gpu.losses import EnsembleLoss
from fcnn_gpu.tables import TablePreparation
from tests.conftest import compiled_ops

X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 2

KINDS: dict[str, Callable[[Any], Any]] = {
    "float64": lambda x: x,
    "as it is stored": lambda x: x.astype(np.float32),
    "bytes": lambda x: np.abs(x).astype(np.uint8),
    "a table": pd.DataFrame,
    "sparse": lambda x: sparse.csr_array(x),
}
NETWORKS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "classes": ("cross_entropy", 2, {}),
    "two classes": ("binary_cross_entropy", 1, {}),
    "values": ("mse", 3, {}),
    "far from 0": ("mse", 3, {"output_center": [1e6, 2e6, 3e6]}),
    "members": (EnsembleLoss("cross_entropy", members=3), 6, {}),
}


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_of_none(backend: str, network: str, kind: str) -> None:
    loss, n_out, options = NETWORKS[network]
    ops = compiled_ops() if backend == "cpu" else backend
    model = fcnn.Sequential([fcnn.Dense(n_out)], n_in=4, seed=0, backend=ops, **options)
    trainer = fcnn.Trainer(model, loss)
    calls: list[Callable[[Any], Any]] = [model, model.predict, model.predict_members, model.predict_classes]
    calls.append(trainer.predict)
    for call in calls:
        some, none = call(KINDS[kind](X)), call(KINDS[kind](X[:0]))
        assert (none.shape, none.dtype) == ((0, *some.shape[1:]), some.dtype)


def test_a_table_without_rows() -> None:
    table = pd.DataFrame({"size": X[:, 0], "town": ["Oslo", "Rome", "Bern"] * 4})
    preparation = TablePreparation().fit(table)
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=preparation.n_outputs_, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model)
    model.signature = fcnn.Signature(preparation=preparation, class_names=["no", "yes"])
    assert model.predict(table[:0]).shape == (0, 2)
    assert model.predict_labels(table[:0]).shape == (0,)
    with pytest.raises(ValueError, match="0 sample"):  # what scikit-learn asks of a transformer
        preparation.transform(table[:0])
    with pytest.raises(ValueError, match="X without samples"):
        trainer.fit(table[:0], Y[:0])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_learned_or_measured_of_it(kind: str) -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=4, seed=0, backend="numpy")
    trainer, none = fcnn.Trainer(model), KINDS[kind](X[:0])
    calls: list[Callable[[], Any]] = [
        lambda: trainer.fit(none, Y[:0]),
        lambda: trainer.evaluate(none, Y[:0]),
        lambda: model.forward(none, training=True),
        lambda: model.initialize(none),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"an X without samples: shape \(0, 4\)"):
            call()


def test_other_columns_than_the_network_s_are_refused_without_samples_too() -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=4, seed=0, backend="numpy")
    with pytest.raises(ValueError, match=r"expects X of shape \(n_samples, 4\), got \(0, 3\)"):
        model.predict(X[:0, :3])


def test_estimators_refuse_it_as_scikit_learn_does() -> None:
    classifier = fcnn.FCNNClassifier(epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        classifier.predict(X[:0])
