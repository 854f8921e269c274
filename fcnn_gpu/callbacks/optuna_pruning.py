"""OptunaPruning: an end to the runs of a study that are worse than the others."""

from __future__ import annotations

from typing import Any

from .._extras import how_to_install
from ._base import Callback, Trainer, answering
from ._monitor import check_column, check_monitor


@answering
class OptunaPruning(Callback):
    """Report `column` of the history to an Optuna trial after each epoch, and raise `TrialPruned` when it is hopeless.

    The study's direction says what is better; `study.optimize` takes the error for what it is. Needs the extra optuna.
    ValueError where the run does not record the column.
    """

    def __init__(self, trial: Any, column: str = "val_loss") -> None:
        try:
            from optuna import TrialPruned
        except ImportError as error:
            raise ImportError(f"OptunaPruning needs optuna. Run: {how_to_install('optuna')}") from error
        if not (hasattr(trial, "report") and hasattr(trial, "should_prune")):
            raise TypeError(f"OptunaPruning(trial) expects an Optuna trial, got {trial!r}.")
        check_column("OptunaPruning(column)", column)
        self.trial, self.column = trial, column
        self._pruned = TrialPruned

    def __repr__(self) -> str:
        return f"OptunaPruning({self.trial!r}, {self.column!r})"

    def on_train_begin(self, trainer: Trainer) -> None:
        check_monitor("OptunaPruning", self.column, trainer)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        epoch = int(record["epoch"])
        self.trial.report(float(record[self.column]), epoch)
        if self.trial.should_prune():
            raise self._pruned(f"{self.column} was {record[self.column]:.4g} after epoch {epoch}.")
