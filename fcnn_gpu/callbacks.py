"""What people hang on a training run.

A callback is told of the run's events in this order: `on_train_begin`, then per epoch `on_epoch_begin`, `on_tick`
(several times a second, with the device's losses fetched), `on_epoch_end` (with the epoch's record of the history),
and at last `on_train_end`, which also comes after an interrupt or an error. Setting `trainer.stop_reason` ends the run
after the epoch.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ._checks import check_bool, check_choice, check_integer, check_real, suggest
from .metrics import Metric
from .model import Sequential


class WatchedTrainer(Protocol):
    """What the callbacks of this file ask of a trainer, and `stop_reason`, which they set."""

    columns: list[str]
    n_epochs: int
    steps_per_epoch: int
    stop_reason: str | None
    held_out_by: str

    @property
    def model(self) -> Sequential: ...

    @property
    def metrics(self) -> Sequence[Metric]: ...


Trainer: TypeAlias = Any
"""In an event's signature: `fcnn_gpu.Trainer`, whose file imports this one.

It is Any because a callback of one's own may ask more of its trainer than those here do (`WatchedTrainer`), and a type
checker lets an override narrow no other type.
"""
History: TypeAlias = Any
"""`fcnn_gpu.History`, likewise."""

_EPOCH = re.compile(r"\{epoch(?::(0?\d*d?))?\}")
"""{epoch} or {epoch:03d}: the one field in a checkpoint's path. Other braces are part of the name."""


class Callback:
    """Base of all callbacks: every event does nothing."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch; `trainer.columns` holds the names that the records will have."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before epoch `epoch` (from 1)."""

    def on_tick(self, trainer: Trainer, step: int, n_steps: int, loss: float) -> None:
        """A few times a second: `step` of the epoch's `n_steps` are done, with this mean data loss so far."""

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        """After each epoch, with its line of the history."""

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        """After the last epoch, an interrupt or an error."""


def better_is_greater(column: str, trainer: WatchedTrainer) -> bool:
    """Whether more of a column is better: its metric knows; losses, penalties and errors are better when small."""
    for metric in trainer.metrics:
        if column in (metric.label, f"val_{metric.label}"):
            return metric.greater_is_better
    return False


def _direction(column: str, greater_is_better: bool | None, trainer: WatchedTrainer) -> float:
    """+1 where more of the column is better, −1 where less is."""
    greater = better_is_greater(column, trainer) if greater_is_better is None else greater_is_better
    return 1.0 if greater else -1.0


def check_monitor(who: str, column: str, trainer: WatchedTrainer) -> None:
    """A ValueError if the run will not record `column`."""
    if column not in trainer.columns:
        hint = f" val_ columns need {trainer.held_out_by}." if column.startswith("val_") else ""
        raise ValueError(
            f"{who} monitors {column!r}, which this run does not record.{hint} {suggest(column, trainer.columns)}"
        )


@dataclass
class EarlyStopping(Callback):
    """End the run when `monitor` has not improved by more than `min_delta` for `patience` epochs in a row.

    With `restore_best` the model gets the weights of its best epoch, however the run ends. Which direction is better
    follows from the metric, or from `greater_is_better` if that is given. NaN is never an improvement.
    """

    monitor: str = "val_loss"
    patience: int = 5
    min_delta: float = 0.0
    restore_best: bool = True
    greater_is_better: bool | None = None
    best_epoch: int | None = field(init=False, default=None)
    best_value: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        check_integer("EarlyStopping(patience)", self.patience, low=1)
        check_real("EarlyStopping(min_delta)", self.min_delta, low=0.0)
        check_bool("EarlyStopping(restore_best)", self.restore_best)
        if self.greater_is_better is not None:
            check_bool("EarlyStopping(greater_is_better)", self.greater_is_better)

    def on_train_begin(self, trainer: Trainer) -> None:
        check_monitor("EarlyStopping", self.monitor, trainer)
        self._sign = _direction(self.monitor, self.greater_is_better, trainer)
        self.best_epoch, self.best_value, self._waited = None, None, 0
        self._best: dict[str, Any] | None = None

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        value = record[self.monitor]
        first = self.best_value is None and not math.isnan(value)
        if first or (self.best_value is not None and self._sign * (value - self.best_value) > self.min_delta):
            self.best_epoch, self.best_value, self._waited = int(record["epoch"]), value, 0
            if self.restore_best:
                self._best = trainer.model.snapshot()
            return
        self._waited += 1
        if self._waited >= self.patience:
            best = "always NaN" if self.best_epoch is None else f"best in epoch {self.best_epoch}"
            trainer.stop_reason = f"early stopping: {self.monitor} was {best}"

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self._best is not None:
            trainer.model.restore(self._best)
            history.best_epoch = self.best_epoch
            self._best = None


@dataclass
class KeepBest(Callback):
    """Give the model, at the end of the run, the weights of its best epoch by `monitor`. The run is not ended for it.

    Of epochs that are equally good, `ties` says whether the "first" or the "last" counts: where `monitor` is a share of
    a few samples, many are, and the last has seen the most steps. Which direction is better follows from the metric, or
    from `greater_is_better` if that is given. NaN is never best.
    """

    monitor: str = "val_loss"
    ties: str = "first"
    greater_is_better: bool | None = None
    best_epoch: int | None = field(init=False, default=None)
    best_value: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        check_choice("KeepBest(ties)", self.ties, ("first", "last"))
        if self.greater_is_better is not None:
            check_bool("KeepBest(greater_is_better)", self.greater_is_better)

    def on_train_begin(self, trainer: Trainer) -> None:
        check_monitor("KeepBest", self.monitor, trainer)
        self._sign = _direction(self.monitor, self.greater_is_better, trainer)
        self.best_epoch, self.best_value = None, None
        self._best: dict[str, Any] | None = None

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        value = record[self.monitor]
        gain = math.nan if self.best_value is None else self._sign * (value - self.best_value)
        first = self.best_value is None and not math.isnan(value)
        if first or gain > 0 or (gain == 0 and self.ties == "last"):
            self.best_epoch, self.best_value = int(record["epoch"]), value
            self._best = trainer.model.snapshot()

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self._best is not None:
            trainer.model.restore(self._best)
            history.best_epoch = self.best_epoch
            self._best = None


@dataclass
class TimeLimit(Callback):
    """End the run before the epoch that would end more than `seconds` after its beginning, as far as can be foreseen.

    An epoch is taken to last as long as the longest so far. `min_epochs` are run in any case.
    """

    seconds: float
    min_epochs: int = 1

    def __post_init__(self) -> None:
        check_real("TimeLimit(seconds)", self.seconds, low=0.0)
        check_integer("TimeLimit(min_epochs)", self.min_epochs, low=1)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._started = self._before = time.perf_counter()
        self._longest = 0.0

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        now = time.perf_counter()
        self._longest, self._before = max(self._longest, now - self._before), now
        may_end = self.min_epochs <= record["epoch"] < trainer.n_epochs
        if may_end and now + self._longest - self._started > self.seconds:
            trainer.stop_reason = f"time limit of {float(f'{self.seconds:.3g}'):g} seconds"


@dataclass
class ModelCheckpoint(Callback):
    """Save the model to `path` after each epoch, or with `monitor` after each epoch that is the best so far.

    `path` may hold {epoch}, or {epoch:03d} for 001, 002, ... Files are replaced whole or not at all. An epoch whose
    `monitor` is NaN is never the best.
    """

    path: Any
    monitor: str | None = None
    greater_is_better: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"ModelCheckpoint(path) expects a path, got {self.path!r}.")
        if self.greater_is_better is not None:
            check_bool("ModelCheckpoint(greater_is_better)", self.greater_is_better)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._best: float | None = None
        if self.monitor is not None:
            check_monitor("ModelCheckpoint", self.monitor, trainer)
            self._sign = _direction(self.monitor, self.greater_is_better, trainer)
        folder = self._file(1).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"ModelCheckpoint: there is no folder {folder} to save into. Create it first.")

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        if self.monitor is not None:
            value = self._sign * record[self.monitor]
            if math.isnan(value) or (self._best is not None and value <= self._best):
                return
            self._best = value
        trainer.model.save(self._file(int(record["epoch"])))

    def _file(self, epoch: int) -> Path:
        return Path(_EPOCH.sub(lambda match: format(epoch, match[1] or ""), os.fspath(self.path)))


_REFRESHES = 4
"""A second: drawing the bar takes half a millisecond, which training waits for."""


_NARROW = 100
"""Columns of a terminal below which the bar is shorter and what is least asked for is left out."""


class ProgressBar(Callback):
    """A bar per run on the terminal: epochs, samples per second, losses and metrics. Silent where there is no terminal.

    On 80 columns it has the epoch, the bar, the remaining time and the loss, and what else there is room for.

    `console` is a rich console; None takes one on standard error, so that what a program prints stays clean.
    """

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._progress: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.table import Column

        console = self._console if self._console is not None else Console(stderr=True)
        if not console.is_terminal:
            return
        whole, cut = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
        epoch = TextColumn("epoch {task.fields[epoch]}/{task.fields[n_epochs]}", table_column=whole)
        report = TextColumn("{task.fields[report]}", markup=False, table_column=cut)
        if console.width < _NARROW:
            columns = [epoch, BarColumn(bar_width=16), TimeRemainingColumn(table_column=whole), report]
        else:
            share = TextColumn("{task.percentage:>3.0f}%", table_column=whole)
            times = TimeElapsedColumn(table_column=whole), TimeRemainingColumn(table_column=whole)
            columns = [epoch, BarColumn(bar_width=24), share, *times, report]
        self._progress = Progress(*columns, console=console, refresh_per_second=_REFRESHES, expand=True)
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=trainer.n_epochs * trainer.steps_per_epoch, epoch=0, n_epochs=trainer.n_epochs, report=""
        )
        self._report = ""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._epoch = epoch
        self._update(trainer, 0, self._report if self._progress else "")

    def on_tick(self, trainer: Trainer, step: int, n_steps: int, loss: float) -> None:
        self._update(trainer, step, f"loss {loss:.4f}")

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        shown = [c for c in record if c not in ("epoch", "learning_rate", "seconds", "samples_per_second", "penalty")]
        self._report = "  ".join(f"{c} {record[c]:.4f}" for c in shown)
        self._report += f"  {record['samples_per_second']:,.0f} samples/s"
        self._update(trainer, trainer.steps_per_epoch, self._report)

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _update(self, trainer: WatchedTrainer, step: int, report: str) -> None:
        if self._progress is not None:
            done = (self._epoch - 1) * trainer.steps_per_epoch + step
            self._progress.update(self._task, completed=done, epoch=self._epoch, report=report)


def check_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks as a list; a TypeError names what is none."""
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks expects a list, got {callbacks!r}. Write callbacks=[...] around it.")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks expects instances of fcnn_gpu.callbacks.Callback, got {callback!r}.")
    return found
