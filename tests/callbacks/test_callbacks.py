"""Callbacks: the order of events, early stopping, checkpoints, and the progress bar."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import fcnn_gpu as fcnn
from fcnn_gpu import callbacks
from fcnn_gpu.callbacks import Callback, ProgressBar, TimeLimit, WatchedTrainer
from fcnn_gpu.training import _run


def trainer(metrics: Any = (), loss: str = "mse") -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    return fcnn.Trainer(model, loss, fcnn.SGD(0.01), metrics=metrics)


X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ [1.0, -2.0]


class Script(Callback):
    """Puts given numbers into a column of the record, as if they had been measured; and notes what it is told."""

    def __init__(self, column: str = "", values: Any = ()) -> None:
        self.column, self.values = column, values
        self.events: list[str] = []
        self.weights: list[Any] = []

    def on_train_begin(self, trainer: fcnn.Trainer) -> None:
        self.events.append("begin")

    def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
        self.events.append(f"epoch {epoch}")

    def on_tick(self, trainer: fcnn.Trainer, step: int, n_steps: int, loss: float) -> None:
        self.events.append(f"step {step}/{n_steps}")
        assert math.isfinite(loss)

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        self.events.append(f"end {record['epoch']}")
        self.weights.append(trainer.model.flat.values.copy())
        if self.column:
            record[self.column] = self.values[int(record["epoch"]) - 1]

    def on_train_end(self, trainer: fcnn.Trainer, history: fcnn.History) -> None:
        self.events.append(f"done {history.stopped_by}")


def fit(t: fcnn.Trainer, *callbacks: Callback, epochs: int = 6, **options: Any) -> fcnn.History:
    options = {"batch_size": 10, "progress": False} | options
    return t.fit(X, Y, epochs=epochs, callbacks=callbacks, **options)


# Events


def test_the_order_of_events() -> None:
    script = Script()
    fit(trainer(), script, epochs=2)
    assert script.events == ["begin", "epoch 1", "end 1", "epoch 2", "end 2", "done epochs"]


def test_ticks_come_with_the_mean_loss_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)
    losses: list[tuple[int, float]] = []

    class Ticks(Callback):
        def on_tick(self, trainer: fcnn.Trainer, step: int, n_steps: int, loss: float) -> None:
            losses.append((step, loss))

    history = fit(trainer(), Ticks(), epochs=1, batch_size=8)  # 8, 8 and 4 samples
    assert [step for step, _ in losses] == [1, 2, 3]
    assert losses[-1][1] == pytest.approx(history["loss"][0])


def test_a_callback_may_end_the_run() -> None:
    class Stop(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            if record["epoch"] == 3:
                trainer.stop_reason = "enough"

    t = trainer()
    history = fit(t, Stop())
    assert (len(history), history.stopped_by) == (3, "enough")
    assert fit(t, epochs=2).stopped_by == "epochs"  # the reason does not outlive its run


def test_every_callback_is_told_of_the_end_even_after_an_error() -> None:
    class Fails(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            raise LookupError("of mine")

    class FailsAtTheEnd(Callback):
        def on_train_end(self, trainer: fcnn.Trainer, history: fcnn.History) -> None:
            raise ArithmeticError("of mine too")

    first, last = Script(), Script()
    t = trainer()
    with pytest.raises(ArithmeticError) as caught:
        fit(t, first, Fails(), FailsAtTheEnd(), last)
    assert isinstance(caught.value.__context__, LookupError)
    assert first.events[-1] == last.events[-1] == "done error"
    assert len(t.history) == 1


def test_a_callback_that_refuses_to_begin_changes_nothing() -> None:
    t = trainer()
    history = fit(t, epochs=1)
    before = dict(vars(t))
    script = Script()
    with pytest.raises(ValueError, match="monitors 'val_loss', which this run does not record"):
        fit(t, script, fcnn.EarlyStopping(), epochs=3)
    assert vars(t) == before
    assert t.history is history
    assert script.events == ["begin", "done epochs"]


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([fcnn.EarlyStopping], "expects instances of fcnn_gpu.callbacks.Callback"),
        (["early stopping"], "got 'early stopping'"),
        (fcnn.EarlyStopping(), r"callbacks expects a list, got EarlyStopping.*Write callbacks=\[...\]"),
        ([print], "expects instances"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trainer().fit(X, Y, callbacks=callbacks)


# Early stopping


@pytest.mark.parametrize(
    ("options", "values", "n_epochs", "best"),
    [
        ({"patience": 2}, [3, 2, 2.5, 2.1, 1, 1], 4, 2),
        ({"patience": 1}, [3, 2, 1, 1, 0, 0], 4, 3),
        ({"patience": 3}, [6, 5, 4, 3, 2, 1], 6, 6),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.4, 2.3, 2.2, 2.1], 5, 3),
        ({"patience": 2, "greater_is_better": True}, [1, 2, 1, 1, 9, 9], 4, 2),
        ({"patience": 2}, [math.nan, 2, math.nan, 1, math.nan, math.nan], 6, 4),
        ({"patience": 2}, [math.nan, math.nan, 1, 1, 1, 1], 2, None),
        ({"patience": 2}, [math.inf, 2, 3, 3, 3, 3], 4, 2),
    ],
)
def test_early_stopping(options: Any, values: list[float], n_epochs: int, best: int | None) -> None:
    t, script, stopping = trainer(), Script("loss", values), fcnn.EarlyStopping("loss", **options)
    history = fit(t, script, stopping)
    assert len(history) == n_epochs
    assert (stopping.best_epoch, history.best_epoch) == (best, best)
    kept = best if best is not None else n_epochs
    np.testing.assert_array_equal(t.model.flat.values, script.weights[kept - 1])
    if n_epochs < 6:
        expected = "always NaN" if best is None else f"best in epoch {best}"
        assert history.stopped_by == f"early stopping: loss was {expected}"


def test_without_restoring_the_last_weights_stay() -> None:
    t, script = trainer(), Script("loss", [1, 2, 3])
    history = fit(t, script, fcnn.EarlyStopping("loss", patience=2, restore_best=False))
    assert (len(history), history.best_epoch) == (3, None)
    np.testing.assert_array_equal(t.model.flat.values, script.weights[-1])


def test_the_metric_says_which_direction_is_better() -> None:
    for metric, values, best in (("r2", [0.1, 0.5, 0.3], 2), ("mae", [0.5, 0.1, 0.3], 2)):
        t = trainer([metric])
        stopping = fcnn.EarlyStopping(f"val_{metric}", patience=3)
        fit(t, Script(f"val_{metric}", values), stopping, epochs=3, validation_split=0.25)
        assert stopping.best_epoch == best


def test_early_stopping_starts_anew_with_each_run() -> None:
    t, stopping = trainer(), fcnn.EarlyStopping("loss", patience=2)
    fit(t, Script("loss", [1, 2, 3]), stopping)
    history = fit(t, Script("loss", [9, 8, 7, 6]), stopping, epochs=4)
    assert (len(history), stopping.best_epoch) == (4, 4)


def test_running_statistics_are_restored_too() -> None:
    norm = fcnn.BatchNorm()
    model = fcnn.Sequential([norm, fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    statistics: list[Any] = []

    class Spy(Script):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            super().on_epoch_end(trainer, record)
            statistics.append(norm.running_var.copy())

    fit(fcnn.Trainer(model, "mse"), Spy("loss", [3, 1, 2, 2]), fcnn.EarlyStopping("loss", patience=2))
    assert (statistics[3] != statistics[1]).any()
    np.testing.assert_array_equal(norm.running_var, statistics[1])


@pytest.mark.parametrize(
    ("seconds", "ends", "n_epochs"),
    [
        (0.0, [1.0], 1),
        (3.0, [1.0, 2.0, 3.0], 3),
        (3.5, [1.0, 3.0], 2),
        (2.0, [1.9], 1),
        (9.0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 6),
        ("0.05 min", [1.0, 2.0, 3.0], 3),
    ],
)
def test_a_time_limit_foresees_the_next_epoch(
    monkeypatch: pytest.MonkeyPatch, seconds: Any, ends: list[float], n_epochs: int
) -> None:
    clock = iter([0.0, *ends])
    monkeypatch.setattr("fcnn_gpu.callbacks.time_limit.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    history = fit(trainer(), TimeLimit(seconds))
    assert len(history) == n_epochs
    limit = 3.0 if seconds == "0.05 min" else seconds
    assert history.stopped_by == (f"time limit of {limit:g} seconds" if n_epochs < 6 else "epochs")


STOPPING: Any = fcnn.EarlyStopping
CHECKPOINT: Any = fcnn.ModelCheckpoint


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: STOPPING(patience=0),
            ValueError,
            r"EarlyStopping\(patience\) expects an integer of at least 1, got 0",
        ),
        (lambda: STOPPING(patience=1.5), TypeError, r"EarlyStopping\(patience\)"),
        (lambda: STOPPING(min_delta=-1), ValueError, r"EarlyStopping\(min_delta\)"),
        (lambda: STOPPING(restore_best=1), TypeError, r"EarlyStopping\(restore_best\)"),
        (lambda: STOPPING(greater_is_better="yes"), TypeError, r"EarlyStopping\(greater_is_better\)"),
        (
            lambda: TimeLimit("1 day"),
            ValueError,
            r"TimeLimit\(seconds\) expects seconds, or a time like",
        ),
        (lambda: TimeLimit([1]), TypeError, r"TimeLimit\(seconds\)"),  # type: ignore[arg-type]
        (lambda: TimeLimit(1, min_epochs=0), ValueError, r"TimeLimit\(min_epochs\)"),
        (lambda: TimeLimit(-1), ValueError, r"TimeLimit\(seconds\)"),
        (lambda: CHECKPOINT(3), TypeError, r"ModelCheckpoint\(path\) expects a path, got 3"),
        (lambda: CHECKPOINT("m", greater_is_better=1), TypeError, r"ModelCheckpoint\(greater_is_better\)"),
        (
            lambda: STOPPING(monitor=3),
            TypeError,
            r"EarlyStopping\(monitor\) expects the name of a column .*, got 3 \(int\)",
        ),
        (lambda: CHECKPOINT("m", monitor=True), TypeError, r"ModelCheckpoint\(monitor\) expects the name of a column"),
        (lambda: callbacks.KeepBest(monitor=["loss"]), TypeError, r"KeepBest\(monitor\)"),  # type: ignore[arg-type]
        (lambda: callbacks.MLflow(experiment=3), TypeError, r"MLflow\(experiment\) expects a string, got 3"),  # type: ignore[arg-type]
        (lambda: callbacks.WandB(7), TypeError, r"WandB\(project\) expects a string, got 7"),  # type: ignore[arg-type]
        (lambda: callbacks.EpochLines("log.txt"), TypeError, r"EpochLines\(stream\) expects an open text file"),
        (lambda: ProgressBar("bar"), TypeError, r"ProgressBar\(console\) expects a rich.console.Console"),
    ],
)
def test_fields_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "argument", "answer"),
    [
        ("EarlyStopping", "patiance", "Did you mean 'patience'"),
        ("EarlyStopping", "restore_best_weights", "Here it is called restore_best"),
        ("EarlyStopping", "mode", "Here it is called greater_is_better"),
        ("ModelCheckpoint", "filepath", "Here it is called path"),
        ("ModelCheckpoint", "save_best_only", "Here it is called monitor"),
        ("KeepBest", "tie", "Did you mean 'ties'"),
        ("TimeLimit", "second", "Did you mean 'seconds'"),
        ("EMA", "ema_decay", "Here it is called decay"),
        ("SWA", "swa_epoch_start", "Here it is called start"),
        ("CSVLogger", "filename", "Here it is called path"),
        ("JSONLinesLogger", "appends", "Did you mean 'append'"),
        ("GradientFlow", "step", "Did you mean 'steps'"),
        ("TensorBoard", "log_dir", "Here it is called folder"),
        ("MLflow", "experiment_name", "Here it is called experiment"),
        ("OptunaPruning", "monitor", "Here it is called column"),
        ("EpochLines", "streem", "Did you mean 'stream'"),
        ("ProgressBar", "consol", "Did you mean 'console'"),
    ],
)
def test_an_argument_that_a_callback_does_not_have_is_answered(name: str, argument: str, answer: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} has no argument '{argument}'. {answer}"):
        getattr(callbacks, name)(**{argument: 1})


def test_a_column_that_is_not_recorded_is_answered_by_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"monitors 'los'.*Did you mean 'loss'"):
        fit(trainer(), fcnn.EarlyStopping("los"))
    with pytest.raises(ValueError, match="val_ columns need validation_data or validation_split"):
        fit(trainer(), fcnn.ModelCheckpoint("m", monitor="val_loss"))
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, backend="numpy")
    plateau = fcnn.Trainer(model, "mse", fcnn.SGD(fcnn.schedules.ReduceOnPlateau(0.1)))
    with pytest.raises(ValueError, match="The learning rate's schedule monitors 'val_loss'"):
        fit(plateau)


# Checkpoints


def test_a_checkpoint_per_epoch(tmp_path: Path) -> None:
    t, script = trainer(), Script()
    fit(t, script, fcnn.ModelCheckpoint(tmp_path / "model {x} {epoch:03d}.safetensors"), epochs=3)
    names = [f"model {{x}} {i:03d}.safetensors" for i in (1, 2, 3)]
    assert sorted(os.listdir(tmp_path)) == names
    for name, weights in zip(names, script.weights, strict=True):
        np.testing.assert_array_equal(fcnn.load(tmp_path / name).flat.values, weights)
    fit(t, fcnn.ModelCheckpoint(str(tmp_path / "{epoch}")), epochs=1)
    assert (tmp_path / "1").is_file()


@pytest.mark.parametrize(
    ("values", "greater", "best"),
    [
        ([3, 1, 2], None, 2),
        ([1, 3, 2], True, 2),
        ([math.nan, 2, math.nan], None, 2),
        ([2, math.nan, 3], None, 1),
        ([1, 1, 1], None, 1),
    ],
)
def test_a_checkpoint_of_the_best_epoch(tmp_path: Path, values: Any, greater: bool | None, best: int) -> None:
    script = Script("loss", values)
    checkpoint = fcnn.ModelCheckpoint(tmp_path / "best", monitor="loss", greater_is_better=greater)
    fit(trainer(), script, checkpoint, epochs=3)
    np.testing.assert_array_equal(fcnn.load(tmp_path / "best").flat.values, script.weights[best - 1])


def test_a_folder_that_does_not_exist_is_found_before_the_first_epoch(tmp_path: Path) -> None:
    t, script = trainer(), Script()
    with pytest.raises(FileNotFoundError, match=r"ModelCheckpoint: there is no folder .*nowhere"):
        fit(t, script, fcnn.ModelCheckpoint(tmp_path / "nowhere" / "{epoch}"))
    assert t.epochs_trained == 0


# What callbacks ask of a trainer


NAMED = {*WatchedTrainer.__annotations__, *(name for name in vars(WatchedTrainer) if not name.startswith("_"))}


class Watched:
    """Of a trainer what `WatchedTrainer` names, and nothing else."""

    def __init__(self, trainer: WatchedTrainer) -> None:
        vars(self)["whole"] = trainer

    def __getattr__(self, name: str) -> Any:
        if name not in NAMED:
            raise AttributeError(f"WatchedTrainer does not name {name}.")
        return getattr(vars(self)["whole"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in WatchedTrainer.__annotations__, name  # properties are for reading
        setattr(vars(self)["whole"], name, value)


class Narrowing(Callback):
    """Tells another callback of a run with a `Watched` trainer in the place of the whole one."""

    def __init__(self, told: Callback) -> None:
        self.told = told

    def on_train_begin(self, trainer: fcnn.Trainer) -> None:
        self.told.on_train_begin(Watched(trainer))

    def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
        self.told.on_epoch_begin(Watched(trainer), epoch)

    def on_tick(self, trainer: fcnn.Trainer, step: int, n_steps: int, loss: float) -> None:
        self.told.on_tick(Watched(trainer), step, n_steps, loss)

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        self.told.on_epoch_end(Watched(trainer), record)

    def on_train_end(self, trainer: fcnn.Trainer, history: fcnn.History) -> None:
        self.told.on_train_end(Watched(trainer), history)


def test_the_protocol_names_all_that_callbacks_ask_of_a_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)
    loud, text = console(terminal=True)
    stopping = fcnn.EarlyStopping("val_r2", patience=1)
    checkpoint = fcnn.ModelCheckpoint(tmp_path / "best", monitor="val_r2")
    told = [Narrowing(callback) for callback in (stopping, checkpoint, ProgressBar(loud))]
    t, script = trainer(["r2"]), Script("val_r2", [0.2, 0.5, 0.4])
    history = fit(t, script, *told, validation_split=0.25)
    assert (len(history), history.best_epoch, stopping.best_epoch) == (3, 2, 2)
    for model in (t.model, fcnn.load(tmp_path / "best")):
        np.testing.assert_array_equal(model.flat.values, script.weights[1])
    assert "epoch 3/6" in text.getvalue()


def test_a_callback_of_ours_may_be_extended_with_the_whole_trainer_at_hand() -> None:
    class Later(fcnn.EarlyStopping):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            if trainer.epochs_trained > 3:
                super().on_epoch_end(trainer, record)

    history = fit(trainer(), Script("loss", [1, 9, 9, 5, 6, 7]), Later("loss", patience=1))
    assert (len(history), history.best_epoch) == (5, 4)


# The progress bar


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=160, color_system=None), text


def test_no_bar_is_shown_where_there_is_no_terminal() -> None:
    quiet, text = console(terminal=False)
    fit(trainer(), ProgressBar(quiet), epochs=2)
    assert text.getvalue() == ""


def test_a_terminal_shows_epochs_losses_metrics_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)
    loud, text = console(terminal=True)
    history = fit(trainer(["r2"]), ProgressBar(loud), epochs=3, validation_split=0.25)
    shown = text.getvalue()
    assert "epoch 3/3" in shown
    assert "100%" in shown
    last = history.records[-1]
    for column in ("loss", "r2", "val_loss", "val_r2"):
        assert f"{column} {last[column]:.4f}" in shown
    assert "samples/s" in shown
    assert "learning_rate" not in shown
    assert shown.endswith("\n") or "\x1b[?25h" in shown  # the cursor is back


def test_the_terminal_is_given_back_after_an_error() -> None:
    class Fails(Callback):
        def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
            raise LookupError

    loud, text = console(terminal=True)
    with pytest.raises(LookupError):
        fit(trainer(), ProgressBar(loud), Fails())
    assert "\x1b[?25h" in text.getvalue()


def test_one_bar_serves_several_runs() -> None:
    loud, text = console(terminal=True)
    bar = ProgressBar(loud)
    t = trainer()
    for epochs in (1, 2):
        fit(t, bar, epochs=epochs)
    assert "epoch 2/2" in text.getvalue()
