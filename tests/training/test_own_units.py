"""Runs on standardized targets, told in the targets' own units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import Callback, has_step_hook
from fcnn_gpu.losses import Loss
from fcnn_gpu.model import Standardization
from fcnn_gpu.training import OwnUnits, _programs, _run, degrees_of, units_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
Y = 30_000 * X[:, 0] - 5_000 * X[:, 1] + 200_000 + 1_000 * RNG.normal(size=60)
SCALING = Standardization.of(Y)
SIGMA = float(SCALING.scale[0])
LOSSES: list[Loss] = [fcnn.MSE(), fcnn.MAE(), fcnn.Huber(0.5), fcnn.Quantile([0.9])]


def test_one_target_of_several_quantiles_has_its_own_units() -> None:
    estimator = fcnn.TabularRegressor("fast", quantiles=[0.1, 0.9], epochs=2, random_state=0, backend="numpy")
    histories = [estimator.fit(X, y).history_ for y in (Y, 10 * Y)]
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(histories[1][column], 10 * np.array(histories[0][column]), rtol=1e-5)


class Seen(Callback):
    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []
        self.ticks: list[float] = []
        self.events: list[str] = []

    def on_train_begin(self, trainer: Any) -> None:
        self.events.append("begin")

    def on_tick(self, trainer: Any, step: int, n_steps: int, loss: float) -> None:
        self.ticks.append(loss)

    def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
        self.records.append(dict(record))

    def on_train_end(self, trainer: Any, history: Any) -> None:
        self.events.append("end")


def trained(loss: Loss, y: Any, callbacks: Any) -> tuple[fcnn.Trainer, fcnn.History]:
    n_out = 1 if y.ndim == 1 else y.shape[1]
    model = fcnn.Sequential([fcnn.Dense(8, activation="tanh", l2=0.01), fcnn.Dense(n_out)], 3, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, loss, metrics=["mae", "mse", "rmse", "r2"])
    return trainer, trainer.fit(
        X[:40], y[:40], epochs=3, batch_size=8, validation_data=(X[40:], y[40:]), progress=False, callbacks=callbacks
    )


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_history_has_what_the_same_predictions_measure_in_own_units(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)
    monkeypatch.setattr(_programs, "_MOMENT", 0.0)  # each step by itself: as many ticks in both runs
    seen, plain = Seen(), Seen()
    trainer, history = trained(loss, SCALING.apply(Y), [OwnUnits(SCALING, loss, [seen])])
    truth, predicted = Y[40:], trainer.model.predict(X[40:]).astype(np.float64) * SIGMA + SCALING.mean
    own = dataclasses.replace(loss, delta=0.5 * SIGMA) if isinstance(loss, fcnn.Huber) else loss
    record = history.records[-1]
    assert record["val_loss"] == pytest.approx(own.forward(predicted, truth), rel=1e-5)
    for metric in trainer.metrics:
        assert record[f"val_{metric.label}"] == pytest.approx(metric(truth, predicted), rel=1e-5)
    assert seen.records == history.records
    assert seen.events == ["begin", "end"]
    raw = trained(loss, SCALING.apply(Y), [plain])[1].records[-1]
    power = degrees_of(loss, 1)
    assert power is not None
    assert record["loss"] == pytest.approx(raw["loss"] * SIGMA ** power["loss"])
    assert record["penalty"] == pytest.approx(raw["penalty"] * SIGMA ** power["loss"])
    assert record["epoch"] == raw["epoch"]
    assert record["learning_rate"] == raw["learning_rate"]
    assert len(seen.ticks) == 3 * 5
    np.testing.assert_allclose(seen.ticks, np.array(plain.ticks) * SIGMA ** power["loss"])


def test_without_units_of_its_own_nothing_is_converted() -> None:
    """Several targets have each its own, and log cosh has no degree."""
    two = np.column_stack([Y, X[:, 2]])
    scaling = Standardization.of(two)
    for loss, y, of in ((fcnn.MSE(), scaling.apply(two), scaling), (fcnn.LogCosh(), SCALING.apply(Y), SCALING)):
        told, plain = (trained(loss, y, callbacks)[1].records for callbacks in ([OwnUnits(of, loss, [])], []))
        for record in (*told, *plain):
            del record["seconds"], record["samples_per_second"]
        assert told == plain
        assert units_of("price", loss, len(of.scale)) == {}


def test_names_of_units() -> None:
    units = units_of("price", fcnn.MSE())
    assert (units["loss"], units["val_mae"], units["val_mse"]) == ("price²", "price", "price²")
    assert "r2" not in units


def test_steps_and_validation_are_told_as_to_each_by_itself() -> None:
    class Steps(Callback):
        def __init__(self, every_steps: int) -> None:
            self.every_steps = every_steps
            self.seen: list[tuple[int, float]] = []
            self.open, self.measured = 0, 0

        def on_step(self, trainer: Any, step: int, read_loss: Callable[[], float]) -> None:
            self.seen.append((step, read_loss()))

        @contextmanager
        def validating(self, trainer: Any) -> Iterator[None]:
            self.open += 1
            yield
            self.open -= 1

        def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
            self.measured += self.open

    targets = SCALING.apply(Y)
    alone, within = [Steps(2), Steps(3)], [Steps(2), Steps(3)]
    trained(fcnn.MSE(), targets, alone)
    trained(fcnn.MSE(), targets, [OwnUnits(SCALING, fcnn.MSE(), within)])
    for one, other in zip(alone, within, strict=True):
        assert [step for step, _ in one.seen] == [step for step, _ in other.seen]
        np.testing.assert_allclose([SIGMA**2 * loss for _, loss in one.seen], [loss for _, loss in other.seen])
        assert (one.measured, one.open) == (other.measured, other.open) == (3, 0)


def test_a_run_does_not_come_back_between_steps_for_nobody() -> None:
    assert not has_step_hook(OwnUnits(SCALING, fcnn.MSE(), [Seen()]))


def test_a_run_told_in_other_units_did_not_diverge() -> None:
    """The losses of 40,000² are large numbers, and those that were trained on are not."""
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=3, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, "mse", fcnn.Adam(0.01))
    history = trainer.fit(X, SCALING.apply(Y), epochs=12, progress=False, callbacks=[OwnUnits(SCALING, fcnn.MSE(), [])])
    assert history["loss"][-1] > 1e6
