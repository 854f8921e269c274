"""The end of a run that no longer gets better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool, check_integer, check_real
from ._base import Callback, History, Trainer, answering
from ._monitor import check_column, check_monitor, direction


@answering
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
        check_column("EarlyStopping(monitor)", self.monitor)
        check_integer("EarlyStopping(patience)", self.patience, low=1)
        check_real("EarlyStopping(min_delta)", self.min_delta, low=0.0)
        check_bool("EarlyStopping(restore_best)", self.restore_best)
        if self.greater_is_better is not None:
            check_bool("EarlyStopping(greater_is_better)", self.greater_is_better)

    def on_train_begin(self, trainer: Trainer) -> None:
        check_monitor("EarlyStopping", self.monitor, trainer)
        self._sign = direction(self.monitor, self.greater_is_better, trainer)
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
