"""A copied or pickled trainer goes on as the original would, bit for bit, and neither touches the other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.optimizers import OPTIMIZERS
from tests.support.registry_cases import OPTIMIZER_CASES

X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
Y = np.arange(30) % 3


def _trainer(optimizer: Any = "adam", placement: str = "device", **options: Any) -> fcnn.Trainer:
    layers = [fcnn.Dense(8, activation="gelu", l2=1e-3, placement=placement), fcnn.BatchNorm(), fcnn.Dropout(0.3)]
    model = fcnn.Sequential([*layers, fcnn.Dense(3)], 4, seed=1, backend="numpy", **options)
    model.info["classes"] = ["a", "b", "c"]
    return fcnn.Trainer(model, fcnn.CrossEntropy(label_smoothing=0.1), optimizer, metrics=["accuracy"], seed=2)


def _go_on(trainer: fcnn.Trainer, epochs: int = 2) -> list[dict[str, float]]:
    history = trainer.fit(X, Y, epochs=epochs, batch_size=8, validation_split=0.2, progress=False)
    times = ("seconds", "samples_per_second")
    return [{name: value for name, value in record.items() if name not in times} for record in history.records]


def _everything(trainer: fcnn.Trainer) -> dict[str, Any]:
    arrays = trainer.model.named_arrays() | trainer.optimizer.whole_state
    return {name: np.array(array) for name, array in arrays.items()} | {"epochs": trainer.epochs_trained}


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda trainer: pickle.loads(pickle.dumps(trainer)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=list(COPIES))
@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_a_copy_goes_on_bit_for_bit(optimizer: str, epochs: int, copied: Callable[[Any], Any]) -> None:
    for case in OPTIMIZER_CASES[optimizer]:
        trainer = _trainer(case())
        if epochs:
            _go_on(trainer, epochs)
        twin = copied(trainer)
        assert twin.model is not trainer.model
        assert twin.optimizer is not trainer.optimizer
        assert twin.history == trainer.history
        before = _everything(twin)
        records = _go_on(trainer)
        np.testing.assert_equal(_everything(twin), before)
        assert _go_on(twin) == records
        np.testing.assert_equal(_everything(twin), _everything(trainer))
        assert twin.model.info == trainer.model.info


@pytest.mark.parametrize("copied", COPIES.values(), ids=list(COPIES))
@pytest.mark.parametrize("place", ["host", "disk"])
def test_weights_elsewhere(place: str, copied: Callable[[Any], Any]) -> None:
    trainer = _trainer("adam", place, dtype="float64")
    _go_on(trainer)
    if place == "disk" and copied is not copy.deepcopy:
        with pytest.raises(TypeError, match="weights on disk cannot be pickled"):
            copied(trainer)
        return
    twin = copied(trainer)
    assert _go_on(twin) == _go_on(trainer)
    np.testing.assert_equal(_everything(twin), _everything(trainer))


def test_a_schedule_that_watches_the_run_goes_on_where_it_is() -> None:
    trainer = _trainer(fcnn.SGD(fcnn.schedules.ReduceOnPlateau(0.1, patience=0, threshold=0.9, factor=0.5)))
    _go_on(trainer, 3)
    twin = copy.deepcopy(trainer)
    assert twin.optimizer.schedule(0, 1) == trainer.optimizer.schedule(0, 1) < 0.1
    assert _go_on(twin) == _go_on(trainer)


def test_a_shallow_copy_trains_the_same_network() -> None:
    trainer = _trainer()
    twin = copy.copy(trainer)
    assert twin.model is trainer.model
    assert twin.optimizer is trainer.optimizer
    _go_on(twin)
    assert twin.history.records
    assert not trainer.history.records


def test_copies_that_belong_together_stay_together() -> None:
    trainer = _trainer()
    model, twin = copy.deepcopy((trainer.model, trainer))
    assert twin.model is model


def test_attributes_of_a_subclass_are_copied() -> None:
    class Named(fcnn.Trainer):
        label: list[str]

    trainer = Named(_trainer().model, "cross_entropy")
    trainer.label = ["mine"]
    twin = copy.deepcopy(trainer)
    assert type(twin) is Named
    assert twin.label == ["mine"]
    assert twin.label is not trainer.label
