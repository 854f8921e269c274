"""Inference as one program over samples wherever they lie: outputs of calls made anew, nothing kept, nothing unsaid."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn

from ..conftest import compiled_ops, numpy_ops
from ..support.tolerances import assert_close

N_IN = 12


def _model(backend: Any, **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(16, activation="relu"), fcnn.BatchNorm(), fcnn.Activation("gelu"), fcnn.Dense(3)]
    return fcnn.Sequential(layers, N_IN, seed=0, backend=backend, **options)


def _samples(n: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, N_IN)).astype(dtype)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100])
@pytest.mark.parametrize("link", [None, "softmax", "sigmoid"])
def test_many_batches_are_the_batches_one_by_one(batch_size: int, link: str | None) -> None:
    X, model = _samples(70), _model(compiled_ops())
    found = model.infer(X, link, batch_size)
    parts = [model.infer(X[i : i + batch_size].copy(), link) for i in range(0, 70, batch_size)]
    np.testing.assert_array_equal(found, np.concatenate(parts))
    assert_close(found, _model(numpy_ops()).infer(X, link, batch_size), "training")


def test_views_other_orders_and_other_types_have_the_same_outputs() -> None:
    X, model = _samples(40), _model(compiled_ops())
    expected = model(X)
    wide = np.concatenate([X, X], axis=1)
    for given in (wide[:, :N_IN], np.asfortranarray(X), X.astype(np.float64), X.tolist(), X[::-1][::-1]):
        np.testing.assert_array_equal(model(given), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_stored_types_are_read_where_they_lie(dtype: str, scale: float) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (70, N_IN)).astype(dtype)
    model = _model(compiled_ops(), input_scale=scale)
    for link, size in ((None, 16), ("softmax", 70)):
        given = model.infer(stored, link, size)
        np.testing.assert_array_equal(given, model.infer(stored.astype(np.float32), link, size))
    assert_close(model(stored), _model(numpy_ops(), input_scale=scale)(stored), "training")


@pytest.mark.parametrize("where", [0, 5, 69])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(where: int, value: float) -> None:
    X, model = _samples(70), _model(compiled_ops())
    expected = model(X, batch_size=16)
    X[where, 3] = value
    for call in (lambda: model(X, batch_size=16), lambda: model.forward(X)):
        with pytest.raises(ValueError, match=rf"X holds -?(nan|inf) \(first in row {where}, column 3\)"):
            call()
    np.testing.assert_array_equal(model(_samples(70), batch_size=16), expected)


def test_numbers_whose_squares_overflow_are_taken() -> None:
    X, model = np.full((4, N_IN), 1e30, np.float32), _model(compiled_ops())
    np.testing.assert_array_equal(model(X), model(X.tolist()))


@pytest.mark.parametrize("make", [numpy_ops, compiled_ops])
def test_samples_are_not_kept(make: Any) -> None:
    model = _model(make())
    for call in (model, model.forward, model.predict):
        X = _samples(70)
        gone = weakref.ref(X)
        call(X)
        del X
        gc.collect()
        assert gone() is None


def test_a_shortage_of_memory_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = compiled_ops()

    def fails(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    model = _model(ops)
    monkeypatch.setattr(type(ops), "capture_over", fails)
    with pytest.raises(fcnn.OutOfMemoryError, match="Inference ran out of memory"):
        model(_samples(70), batch_size=16)
