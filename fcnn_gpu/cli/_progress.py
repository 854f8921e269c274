"""A line per epoch, or per network of several, for terminals and log files alike."""

from __future__ import annotations

import time

from ..callbacks import Callback
from ..training import History, Trainer

_MOST_LINES = 25
_LONG = 60.0
"""Seconds from which on it is said how long a run takes."""


class Summary(Callback):
    """Print the network's layers before the run, for batches of this size."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def on_train_begin(self, trainer: Trainer) -> None:
        trainer.model.summary(self._batch_size)


class EpochLog(Callback):
    """Print epochs as they end: all of a short run; of a long one every n-th, and the last.

    With `shorter`, what would make the run shorter, the second epoch's time says how long a long one takes; the first
    epoch prepares the others.
    """

    def __init__(self, shorter: str = "") -> None:
        self._shorter = shorter

    def on_train_begin(self, trainer: Trainer) -> None:
        self._every = -(-trainer.n_epochs // _MOST_LINES)
        self._has_penalty = trainer.model.penalty() > 0

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        epoch = int(record["epoch"])
        if epoch % self._every == 0 or epoch in (1, trainer.n_epochs) or trainer.stop_reason is not None:
            print(self._line(epoch, trainer.n_epochs, record), flush=True)
        if self._shorter and epoch == 2:
            expected = (time.perf_counter() - self._began) * trainer.n_epochs
            _say_long(expected, f"{trainer.n_epochs:,} epochs", self._shorter)

    def _line(self, epoch: int, n_epochs: int, record: dict[str, float]) -> str:
        hidden = {"epoch", "learning_rate", "seconds", "samples_per_second"}
        if not self._has_penalty:
            hidden.add("penalty")
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in record.items() if name not in hidden)
        width = len(str(n_epochs))
        rate, speed = record["learning_rate"], record["samples_per_second"]
        return f"epoch {epoch:>{width}}/{n_epochs}  {numbers}  learning_rate {rate:.2g}  {speed:,.0f} samples/s"


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
        measured = "  ".join(f"{name} {value:.4f}" for name, value in record.items() if name.startswith("val_"))
        elapsed, width = time.perf_counter() - self._began, len(str(n_networks))
        of_epochs = f"epoch {kept:>{len(str(len(history)))}} of {len(history)}"
        print(f"network {number + 1:>{width}}/{n_networks}  {of_epochs}  {measured}  {elapsed:.1f} s", flush=True)
        if number == 0:
            _say_long(elapsed * n_networks, f"{n_networks} networks", self._shorter)


def _say_long(expected: float, what: str, shorter: str) -> None:
    """How long a long run takes, in seconds, and what would make it shorter."""
    if expected >= _LONG:
        print(f"{what} take about {expected / 60:,.0f} min; shorter: {shorter}", flush=True)
