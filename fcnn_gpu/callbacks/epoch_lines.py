"""A line per epoch, for logs."""

from __future__ import annotations

import sys
import time
from typing import Any

from .._console import every_character, readable
from ._base import Callback, History, Trainer, answering

_MOST_LINES = 25
"""Of a run whose epochs are short."""
_LONGEST_SILENCE = 10.0
"""Seconds, as far as epochs end."""


@answering
class EpochLines(Callback):
    """Write epochs to standard error as they end: all of a short run; of a long one every n-th, the first and the last.

    A run of more than 25 epochs writes some 25 lines, and besides one whenever ten seconds have passed without. Each is
    written at once, so that the log of a job shows how far it is. `stream` is another place than standard error.
    """

    def __init__(self, stream: Any = None) -> None:
        if stream is not None and not hasattr(stream, "write"):
            raise TypeError(f"EpochLines(stream) expects an open text file, got {stream!r} ({type(stream).__name__}).")
        self._stream = stream

    def on_train_begin(self, trainer: Trainer) -> None:
        self._every = -(-trainer.n_epochs // _MOST_LINES)
        self._has_penalty = trainer.model.penalty() > 0
        self._last_written = time.perf_counter()
        self._unwritten: dict[str, float] | None = None

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        epoch = int(record["epoch"])
        is_due = epoch % self._every == 0 or epoch == 1
        if is_due or time.perf_counter() - self._last_written >= _LONGEST_SILENCE:
            self._write(trainer, record)
        else:
            self._unwritten = record

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self._unwritten is not None:
            self._write(trainer, self._unwritten)

    def _write(self, trainer: Trainer, record: dict[str, float]) -> None:
        stream = sys.stderr if self._stream is None else self._stream
        with every_character(stream):
            print(self._line(int(record["epoch"]), trainer.n_epochs, record), file=stream, flush=True)
        self._last_written, self._unwritten = time.perf_counter(), None

    def _line(self, epoch: int, n_epochs: int, record: dict[str, float]) -> str:
        hidden = {"epoch", "learning_rate", "seconds", "samples_per_second"}
        if not self._has_penalty:
            hidden.add("penalty")
        numbers = "  ".join(f"{name} {readable(value)}" for name, value in record.items() if name not in hidden)
        width = len(str(n_epochs))
        rate, speed = record["learning_rate"], record["samples_per_second"]
        return f"epoch {epoch:>{width}}/{n_epochs}  {numbers}  learning_rate {rate:.2g}  {speed:,.0f} samples/s"
