"""What a user passes in is never changed, whatever the layers: passes work in place only in the model's own arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from tests.support.registry_cases import LayerCase, LossCase, labelled


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "case"), labelled("layer"))
def test_layer_leaves_x_alone(name: str, case: LayerCase, dtype: str) -> None:
    """X has the model's own dtype and order, so that nothing forces a copy of it."""
    model = fcnn.Sequential([case.make()], case.n_in, seed=0, dtype=dtype, backend="numpy")
    X = case.inputs(np.random.default_rng(0), 6).astype(dtype)
    kept = X.copy()
    outputs = model.forward(X, training=True)
    model.backward(np.ones(outputs.shape, dtype), input_gradient=True)
    np.testing.assert_array_equal(X, kept, "forward and backward")
    for link in ("identity", "sigmoid", "softmax"):
        model.link = link
        model(X)
        model.predict(X)
        model.predict_classes(X, batch_size=4)
        np.testing.assert_array_equal(X, kept, f"predict with {link}")


@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_loss_leaves_its_arguments_alone(name: str, case: LossCase) -> None:
    rng = np.random.default_rng(1)
    outputs, y = rng.standard_normal((6, case.n_outputs)), np.asarray(case.targets(rng, 6))
    weight = rng.uniform(0.5, 2.0, 6)
    arguments: list[Any] = [outputs, y, weight]
    kept = [array.copy() for array in arguments]
    case.loss.forward(outputs, y, weight)
    case.loss.backward()
    for array, before in zip(arguments, kept, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_trainer_leaves_the_data_alone(name: str, case: LossCase) -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((20, 4)).astype("float32")
    y = np.asarray(case.targets(rng, 20))
    y = y if y.dtype.kind == "i" else y.astype("float32")
    weight = rng.uniform(0.5, 2.0, 20).astype("float32")
    arguments: list[Any] = [X, y, weight]
    kept = [array.copy() for array in arguments]
    model = fcnn.Sequential([fcnn.Dropout(0.0), fcnn.Dense(case.n_outputs)], 4, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, case.loss, "adam")
    trainer.fit(X, y, sample_weight=weight, epochs=2, batch_size=8, validation_data=(X, y, weight), progress=False)
    trainer.evaluate(X, y, weight)
    trainer.predict(X)
    for array, before in zip(arguments, kept, strict=True):
        np.testing.assert_array_equal(array, before)
