"""The hooks of a callback: those that do not exist are refused, and that between steps is called where one has it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend import Ops
from fcnn_gpu.callbacks import EMA, Callback
from fcnn_gpu.training import TrainingStep

X = np.random.default_rng(0).normal(size=(50, 3))
Y = X @ [1.0, -2.0, 0.5]


def trainer(backend: Any = "numpy", optimizer: Any = None) -> fcnn.Trainer:
    layers: list[Any] = [fcnn.Dense(4, activation="tanh"), fcnn.BatchNorm(), fcnn.Dropout(0.2), fcnn.Dense(1)]
    model = fcnn.Sequential(layers, n_in=3, seed=0, backend=backend)
    return fcnn.Trainer(model, "mse", optimizer or fcnn.Adam(0.01))


def fit(t: fcnn.Trainer, *callbacks: Callback, **options: Any) -> fcnn.History:
    options = {"epochs": 3, "batch_size": 8, "progress": False} | options
    return t.fit(X, Y, callbacks=callbacks, **options)


class Steps(Callback):
    """Notes the steps that it is told of, their losses and the weights."""

    def __init__(self, every_steps: int = 1) -> None:
        self.every_steps = every_steps
        self.losses: dict[int, float] = {}
        self.weights: list[Any] = []

    def on_step(self, trainer: fcnn.Trainer, step: int, read_loss: Callable[[], float]) -> None:
        self.losses[step] = read_loss()
        self.weights.append(trainer.model.ops.to_numpy(trainer.model.flat.values).copy())


# Hooks that do not exist


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_batch_end", "on_step(trainer, step, read_loss)"),
        ("on_train_batch_end", "on_step(trainer, step, read_loss)"),
        ("on_train_start", "on_train_begin(trainer)"),
        ("on_fit_end", "on_train_end(trainer, history)"),
        ("on_validation_epoch_end", "on_epoch_end(trainer, record)"),
        ("on_epoc_end", "on_epoch_end(trainer, record)"),
    ],
)
def test_a_hook_that_does_not_exist_is_answered_by_the_one_that_is_meant(name: str, meant: str) -> None:
    spy: Any = type("Spy", (Callback,), {name: lambda *_: None})()
    t = trainer()
    before = t.model.flat.values.copy()
    message = f"Spy defines {name}, which no run calls. Did you mean {meant}? The hooks are on_train_begin(trainer), "
    with pytest.raises(TypeError, match=re.escape(message)):
        fit(t, spy)
    np.testing.assert_array_equal(t.model.flat.values, before)


def test_a_hook_that_is_set_on_an_instance_or_that_nothing_resembles_is_found_too() -> None:
    callback: Any = Callback()
    callback.on_zzz = print
    with pytest.raises(TypeError, match=r"Callback defines on_zzz, which no run calls\. The hooks are"):
        fit(trainer(), callback)
    callback = Callback()
    callback.on_disk = True  # no method
    fit(trainer(), callback)


def test_a_hook_that_does_not_take_what_it_is_called_with_is_refused() -> None:
    class Keras(Callback):
        def on_epoch_end(self, record: Any) -> None:  # type: ignore[override]
            raise AssertionError

    message = r"Keras\.on_epoch_end is called as on_epoch_end\(trainer, record\), which it does not take: too many"
    with pytest.raises(TypeError, match=message):
        fit(trainer(), Keras())


def test_estimators_refuse_them_as_well() -> None:
    spy: Any = type("Spy", (Callback,), {"on_batch_end": lambda *_: None})()
    with pytest.raises(TypeError, match="Spy defines on_batch_end"):
        fcnn.FCNNRegressor(callbacks=[spy]).fit(X, Y)
    with pytest.raises(TypeError, match="Spy defines on_batch_end"):
        fcnn.TabularRegressor(callbacks=[spy]).fit(X, Y)


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (2.0, TypeError), (None, TypeError)])
def test_every_steps_is_a_count(every: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Steps\.every_steps expects an integer"):
        fit(trainer(), Steps(every))


# Between steps


@pytest.mark.parametrize("options", [{}, {"memory_limit": "small"}, {"capture": False}], ids=str)
def test_steps_are_told_with_their_losses_and_change_nothing(ops: Ops, options: Any) -> None:
    plain, watched = trainer(ops), trainer(ops)
    if "memory_limit" in options:
        options = {"memory_limit": plain.model.memory_report(8).total + 3000}
    history, of_watched = fit(plain, **options), fit(watched, steps := Steps(), **options)
    assert list(steps.losses) == list(range(1, 22))  # 7 steps an epoch, the last over 2 samples
    sizes = np.tile([8, 8, 8, 8, 8, 8, 2], 3)
    means = (np.array(list(steps.losses.values())) * sizes).reshape(3, 7).sum(axis=1) / 50
    np.testing.assert_allclose(means, of_watched["loss"], rtol=1e-6)
    assert history["loss"] == of_watched["loss"]
    weights = ops.to_numpy(watched.model.flat.values)
    np.testing.assert_array_equal(ops.to_numpy(plain.model.flat.values), weights)
    np.testing.assert_array_equal(steps.weights[-1], weights)
    assert all((a != b).any() for a, b in zip(steps.weights, steps.weights[1:], strict=False))


def test_each_callback_is_told_at_its_own_steps_through_all_epochs() -> None:
    callbacks = [Steps(4), Steps(10), Steps(22)]
    fit(trainer(), *callbacks)
    assert [list(steps.losses) for steps in callbacks] == [[4, 8, 12, 16, 20], [10, 20], []]


def test_a_run_comes_back_between_steps_only_where_a_callback_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    program = TrainingStep.program

    def counted(self: TrainingStep, *args: Any) -> Any:
        run = program(self, *args)

        def call(n_times: int = 1) -> None:
            calls.append(n_times)
            run(n_times)

        return call

    monkeypatch.setattr(TrainingStep, "program", counted)
    monkeypatch.setattr("fcnn_gpu.training._programs._MOMENT", 1e9)

    def longest(*callbacks: Callback) -> int:
        calls.clear()
        model = fcnn.Sequential([fcnn.Dense(1)], n_in=3, seed=0, backend="numpy")
        monkeypatch.setattr(model.ops, "steps_per_call", 1024)
        fcnn.Trainer(model, "mse").fit(X, Y, epochs=2, batch_size=1, progress=False, callbacks=callbacks)
        assert sum(calls) == 100
        return max(calls)

    assert longest(Callback()) == longest() == 50
    assert longest(Steps(5), Callback()) == 5
    assert longest(Steps()) == 1


def test_a_learning_rate_that_is_set_between_steps_holds_from_the_next_step_on() -> None:
    class Stops(Steps):
        def on_step(self, trainer: fcnn.Trainer, step: int, read_loss: Callable[[], float]) -> None:
            super().on_step(trainer, step, read_loss)
            if step == 3:
                trainer.optimizer.set_learning_rate(0.0)

    fit(trainer(optimizer=fcnn.SGD(0.01)), steps := Stops(), epochs=1)
    assert (steps.weights[1] != steps.weights[2]).any()
    for weights in steps.weights[3:]:
        np.testing.assert_array_equal(weights, steps.weights[2])


def test_a_step_that_diverges_is_said_where_its_loss_is_read() -> None:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=3, seed=0, backend="numpy")
    with pytest.raises(fcnn.DivergenceError, match="epoch 1, step"):
        fit(fcnn.Trainer(model, "mse", fcnn.SGD(1e30)), steps := Steps())
    assert list(steps.losses) == [1]
    assert np.isfinite(steps.losses[1])


def test_of_lbfgs_an_iteration_is_a_step() -> None:
    model = fcnn.Sequential([fcnn.Dense(4, activation="tanh"), fcnn.Dense(1)], n_in=3, seed=0, backend="numpy")
    t, steps = fcnn.Trainer(model, "mse", fcnn.LBFGS()), Steps(2)
    history = fit(t, steps, epochs=5, batch_size=50)
    assert list(steps.losses) == [2, 4]
    assert list(steps.losses.values()) == [history["loss"][1], history["loss"][3]]
    fit(t, EMA(0.5), every := Steps(), epochs=3, batch_size=50)
    first, second, third = every.weights
    np.testing.assert_allclose(t.model.flat.values, 0.25 * first + 0.25 * second + 0.5 * third, rtol=1e-5, atol=1e-6)


def test_the_run_that_is_interrupted_tells_of_the_step_under_way() -> None:
    class Interrupts(Steps):
        def on_step(self, trainer: fcnn.Trainer, step: int, read_loss: Callable[[], float]) -> None:
            super().on_step(trainer, step, read_loss)
            if step == 9:
                signal.raise_signal(signal.SIGINT)

    history = fit(trainer(), steps := Interrupts())
    assert (history.stopped_by, len(history), max(steps.losses)) == ("interrupt", 1, 9)
