"""An end by the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .._checks import check_integer, check_real, check_seconds
from ._base import Callback, Trainer, answering


@dataclass(frozen=True)
class Deadline:
    """A moment until which all shall be done."""

    seconds: float
    started: float = field(default_factory=lambda: time.perf_counter())

    @property
    def left(self) -> float:
        """Seconds from now on, at least 0."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds since its beginning."""
        return time.perf_counter() - self.started


@answering
@dataclass
class TimeLimit(Callback):
    """End the run before the epoch that would end more than `seconds` after its beginning, as far as can be foreseen.

    `seconds` is a number, or text like "90s", "10min" or "1.5h". An epoch is taken to last as long as the longest so
    far. `min_epochs` are run in any case.
    """

    seconds: float | str
    min_epochs: int = 1

    def __post_init__(self) -> None:
        self._seconds()
        check_integer("TimeLimit(min_epochs)", self.min_epochs, low=1)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._deadline = Deadline(self._seconds(), time.perf_counter())
        self._before = self._longest = 0.0

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        elapsed, seconds = self._deadline.elapsed, self._deadline.seconds
        self._longest, self._before = max(self._longest, elapsed - self._before), elapsed
        may_end = self.min_epochs <= record["epoch"] < trainer.n_epochs
        if may_end and elapsed + self._longest > seconds:
            trainer.stop_reason = f"time limit of {float(f'{seconds:.3g}'):g} seconds"

    def _seconds(self) -> float:
        """In seconds; 0 as a number, which has run out already, ends the run as soon as it may end."""
        who = "TimeLimit(seconds)"
        seconds = check_seconds(who, self.seconds) if isinstance(self.seconds, str) else self.seconds
        return check_real(who, seconds, low=0.0)
