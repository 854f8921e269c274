"""np.seterr(all="raise") is the user's choice for the user's own code: what underflows or overflows inside is checked
where it matters, and raises nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import losses, metrics, regularizers
from fcnn_gpu.datasets import open_arrays
from fcnn_gpu.gradient_check import check_loss, check_model, check_regularizer
from fcnn_gpu.large_matrix import chunked_matmul
from tests.support.estimator_cases import classifier, regressor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3)) * [1e-30, 1.0, 200.0]
X[0] = [1e-310, 1e-40, 5e-324]
Y = RNG.standard_normal(40)
Y[:2] = 1e-42, 1e-310
LABELS = np.arange(40) % 2
TINY = np.array([1e-200, 1e-310, 0.0, 1e-160])


def _model(dtype: str = "float32") -> fcnn.Sequential:
    names = ("tanh", "sigmoid", "gelu", "gelu_tanh", "elu")
    layers: list[Any] = [fcnn.Dense(8, activation=name, l2=1e-30) for name in names]
    layers += [fcnn.BatchNorm(), fcnn.Dropout(0.2), fcnn.Dense(2, init=fcnn.initializers.Normal(1e-25))]
    return fcnn.Sequential(layers, 3, seed=0, backend="numpy", dtype=dtype)


def _explicit_loop() -> None:
    model, loss = _model(), fcnn.CrossEntropy()
    optimizer = fcnn.Adam(clip_norm=1.0).bind(model)
    for _ in range(3):
        loss.forward(model.forward(X, training=True), LABELS)
        model.backward(loss.backward())
        optimizer.step()
    model.penalty()
    model.objective_gradient()


def _fit(loss: str, **options: Any) -> fcnn.Trainer:
    model = _model()
    trainer = fcnn.Trainer(model, loss, "adam", metrics=["accuracy"] if loss == "cross_entropy" else ["r2"])
    y = LABELS if loss == "cross_entropy" else np.stack([Y, Y], axis=1)
    trainer.fit(X, y, epochs=3, batch_size=8, progress=False, validation_data=(X, y), **options)
    trainer.evaluate(X, y)
    trainer.predict(X)
    return trainer


def _saved(path: Path) -> None:
    model = _fit("mse").model
    model.save(path / "model.safetensors")
    np.testing.assert_array_equal(fcnn.load(path / "model.safetensors", backend="numpy").predict(X), model.predict(X))


CALLS: dict[str, Callable[[Path], Any]] = {
    "fit": lambda _: _fit("cross_entropy"),
    "fit a regression": lambda _: _fit("mse", sample_weight=np.full(40, 1e-20)),
    "fit huber": lambda _: _fit("huber", capture=False),
    "fit mae in parts": lambda _: _fit("mae", memory_limit="1 MiB"),
    "a source": lambda _: _model().predict(open_arrays(X)),
    "predict_classes": lambda _: _model().predict_classes(X),
    "the explicit loop": lambda _: _explicit_loop(),
    "binary cross-entropy": lambda _: losses.BinaryCrossEntropy().forward(np.array([[900.0], [-900.0]]), [1, 0]),
    "classifier": lambda _: classifier().fit(X, LABELS).predict_log_proba(X),
    "classifier's score": lambda _: classifier().fit(X, LABELS, np.full(40, 1e-310)).score(X, LABELS),
    "regressor": lambda _: regressor().fit(X, Y).score(X, Y),
    "check_model": lambda _: check_model(_model("float64"), "mse", X, np.stack([Y, Y], axis=1)),
    "check_loss": lambda _: check_loss("huber", X, X[::-1]),
    "check_regularizer": lambda _: check_regularizer("l1_l2", X),
    "a regularizer": lambda _: (regularizers.L2().value(X), regularizers.L1L2().gradient(X)),
    "metrics": lambda _: [metrics.METRICS.resolve(name)(TINY, -TINY) for name in ("r2", "mse", "rmse", "mae")],
    "chunked_matmul": lambda _: chunked_matmul(X, X.T, activation="sigmoid", backend="numpy"),
    "a file": _saved,
    "a report": lambda _: metrics.classification_report(LABELS, LABELS[::-1], 2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_nothing_inside_raises(call: Callable[[Path], Any], tmp_path: Path) -> None:
    with np.errstate(all="raise"):
        call(tmp_path)
        with pytest.raises(FloatingPointError):  # the user's choice is as it was
            np.float32(1e-30) * np.float32(1e-30)


def test_training_is_the_same_whatever_the_user_has_set() -> None:
    with np.errstate(all="raise"):
        strict = _fit("mse").model.flat.values
    np.testing.assert_array_equal(strict, _fit("mse").model.flat.values)
