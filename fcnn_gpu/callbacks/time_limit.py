"""An end by the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .._checks import check_integer, check_real
from ._base import Callback, Trainer


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
