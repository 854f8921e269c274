"""The best epoch's weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool, check_choice
from ._base import Callback, History, Trainer, answering
from ._monitor import check_column, check_monitor, direction


@answering
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
        check_column("KeepBest(monitor)", self.monitor)
        check_choice("KeepBest(ties)", self.ties, ("first", "last"))
        if self.greater_is_better is not None:
            check_bool("KeepBest(greater_is_better)", self.greater_is_better)

    def on_train_begin(self, trainer: Trainer) -> None:
        check_monitor("KeepBest", self.monitor, trainer)
        self._sign = direction(self.monitor, self.greater_is_better, trainer)
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
