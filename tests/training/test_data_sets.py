"""A data set where X and y are expected: its training part is trained on, its test part measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.datasets import Dataset


def data_set(**changes: Any) -> Dataset:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (40, 6)), rng.integers(0, 3, 40)
    parts = (X[:30] / 255).astype(np.float32), y[:30], (X[30:] / 255).astype(np.float32), y[30:]
    names, columns = ("cat", "dog", "owl"), tuple("abcdef")
    data = Dataset("own", *parts, (2, 3), names, "classification", "here", feature_names=columns, byte_scale=1 / 255)
    return dataclasses.replace(data, **changes)


def trainer() -> fcnn.Trainer:
    layers = [fcnn.Dense(5, activation="relu"), fcnn.Dense(3)]
    return fcnn.Trainer(fcnn.Sequential(layers, n_in=6, seed=0, backend="numpy"), metrics=["accuracy"])


def test_it_trains_as_its_arrays_do_and_notes_what_they_are_called() -> None:
    data, of_set, of_arrays = data_set(), trainer(), trainer()
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "validation_split": 0.2, "class_weight": "balanced"}
    of_set.fit(data, **options)
    of_arrays.fit(data.X_train, data.y_train, **options)
    for name, array in of_set.model.named_arrays().items():
        np.testing.assert_array_equal(array, of_arrays.model.named_arrays()[name])
    assert of_set.evaluate(data) == of_arrays.evaluate(data.X_test, data.y_test)
    signature = of_set.model.signature
    assert (signature.feature_names, signature.class_names) == (data.feature_names, data.class_names)
    assert signature.byte_scale == 1 / 255
    assert of_set.model.predict_labels(data.X_test)[0] in ("cat", "dog", "owl")
    report = of_set.model.memory_report(8, data=data)
    assert report == of_set.model.memory_report(8, data=(data.X_train, data.y_train))


REFUSED: dict[str, tuple[Callable[[fcnn.Trainer, Dataset], Any], str]] = {
    "targets beside it": (
        lambda t, data: t.fit(data, data.y_train),
        "fit: the data set has targets of its own. Leave y",
    ),
    "validation": (lambda t, data: t.fit(data, validation_data=data), r"Write validation_data=\(data.X_test, data.y_t"),
    "prediction": (lambda t, data: t.model.predict(data), "model.predict: X: got a data set, .* such as X_train"),
    "targets": (
        lambda t, data: t.fit(data.X_train, data),
        "the targets: got a data set, which has a training and a test",
    ),
    "an estimator": (lambda t, data: fcnn.FCNNClassifier().fit(data, data.y_train), "X: got a data set"),
    "a table": (lambda t, data: fcnn.TabularClassifier().fit(data, data.y_train), "X: got a data set"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_where_it_does_not_say_which_part_the_error_does(what: str) -> None:
    call, message = REFUSED[what]
    with pytest.raises(TypeError, match=message):
        call(trainer(), data_set())


def test_without_a_test_part_there_is_nothing_to_evaluate() -> None:
    data = data_set()
    with pytest.raises(ValueError, match=r"own has no test part. Pass data.X_train, data.y_train"):
        trainer().evaluate(dataclasses.replace(data, X_test=data.X_test[:0], y_test=data.y_test[:0]))


def test_a_shortage_of_memory_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise MemoryError

    t = trainer()
    monkeypatch.setattr(type(t._feed), "training", full)
    with pytest.raises(fcnn.OutOfMemoryError, match=r"Trainer\.fit"):
        t.fit(data_set())
