"""A bar on a terminal."""

from __future__ import annotations

from typing import Any

from .._console import readable
from ._base import Callback, History, Trainer, WatchedTrainer, answering

_REFRESHES = 4
"""A second: drawing the bar takes half a millisecond, which training waits for."""
_NARROW = 100
"""Columns of a terminal below which the bar is shorter and what is least asked for is left out."""


@answering
class ProgressBar(Callback):
    """A bar per run on the terminal: epochs, samples per second, losses and metrics. Silent where there is no terminal.

    On 80 columns it has the epoch, the bar, the remaining time and the loss, and what else there is room for.

    `console` is a rich console; None takes one on standard error, so that what a program prints stays clean.
    """

    def __init__(self, console: Any = None) -> None:
        if console is not None and not hasattr(console, "is_terminal"):
            what = f"got {console!r} ({type(console).__name__})"
            raise TypeError(f"ProgressBar(console) expects a rich.console.Console, {what}.")
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
        self._update(trainer, step, f"loss {readable(loss)}")

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        shown = [c for c in record if c not in ("epoch", "learning_rate", "seconds", "samples_per_second", "penalty")]
        self._report = "  ".join(f"{c} {readable(record[c])}" for c in shown)
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
