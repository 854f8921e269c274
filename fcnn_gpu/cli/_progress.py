"""A line per epoch, or per network of several, for terminals and log files alike."""

from __future__ import annotations

import sys
import time

from .._console import readable
from ..callbacks import Callback, EpochLines
from ..training import History, Trainer
from ._options import TrainOptions

_LONG = 60.0
"""Seconds from which on it is said how long a run takes."""


class Summary(Callback):
    """Print the network's layers before the run, for batches of this size."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def on_train_begin(self, trainer: Trainer) -> None:
        trainer.model.summary(self._batch_size)


class EpochLog(EpochLines):
    """The lines of a log on standard output.

    With `shorter`, what would make the run shorter, the second epoch's time says how long a long one takes; the first
    epoch prepares the others.
    """

    def __init__(self, shorter: str = "") -> None:
        super().__init__(sys.stdout)
        self._shorter = shorter

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        expected = None
        if self._shorter and record["epoch"] == 2:
            expected = (time.perf_counter() - self._began) * trainer.n_epochs
        super().on_epoch_end(trainer, record)
        if expected is not None:
            _say_long(expected, f"{trainer.n_epochs:,} epochs", self._shorter)


class NetworkLog:
    """Print the networks of folds as they are there: the epoch that was kept, what was measured after it, the time.

    With `shorter`, what would make the run shorter, the first says how long a long one takes.
    """

    def __init__(self, shorter: str = "") -> None:
        self._shorter = shorter
        self._began = time.perf_counter()

    def __call__(self, number: int, n_networks: int, history: History) -> None:
        """`number` from 0; its history."""
        kept = history.best_epoch or len(history)
        record = history.records[kept - 1]
        measured = "  ".join(f"{name} {readable(value)}" for name, value in record.items() if name.startswith("val_"))
        elapsed, width = time.perf_counter() - self._began, len(str(n_networks))
        of_epochs = f"epoch {kept:>{len(str(len(history)))}} of {len(history)}"
        print(f"network {number + 1:>{width}}/{n_networks}  {of_epochs}  {measured}  {elapsed:.1f} s", flush=True)
        if number == 0:
            _say_long(elapsed * n_networks, f"{n_networks} networks", self._shorter)


def watching(options: TrainOptions) -> list[Callback]:
    """What --watch asks for."""
    if not options.watch:
        return []
    from ..report import Watch  # with scikit-learn, which takes a while to import

    return [Watch(options.watch_port, f"fcnn-gpu train: {options.data}")]


def _say_long(expected: float, what: str, shorter: str) -> None:
    """How long a long run takes, in seconds, and what would make it shorter."""
    if expected >= _LONG:
        print(f"{what} take about {expected / 60:,.0f} min; shorter: {shorter}", flush=True)
