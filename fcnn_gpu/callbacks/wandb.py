"""WandB: the columns of the history in a run of Weights & Biases."""

from __future__ import annotations

from typing import Any

from .._extras import how_to_install
from ._base import Callback, History, Trainer, described, of_fold


class WandB(Callback):
    """Log each column of the history to Weights & Biases, a point per epoch, and what is trained as the run's config.

    Where a run is there (`wandb.init(...)`) it is that, and stays open. Else one is made when training begins, with
    `project` and the other arguments of `wandb.init`, and finished with it. `mode="offline"` writes to a folder,
    without a network. Epochs are counted through all calls of the trainer's `fit`. Where an estimator trains on each of
    several folds (`cv=`), each has a run of its own, whose config has `fcnn.fold`; in a run that is there its columns
    and its config are called `fold_1/loss` and so on. Needs wandb.
    """

    def __init__(self, project: str | None = None, **init: Any) -> None:
        if project is not None and not isinstance(project, str):
            raise TypeError(f"WandB(project) expects a string, got {project!r} ({type(project).__name__}).")
        try:
            import wandb
        except ImportError as error:
            raise ImportError(f"WandB needs wandb. Run: {how_to_install('wandb')}") from error
        self.project, self._init = project, init
        self._wandb: Any = wandb

    def __repr__(self) -> str:
        return f"WandB({self.project!r})"

    def on_train_begin(self, trainer: Trainer) -> None:
        self._done = trainer.epochs_trained
        self._is_own = self._wandb.run is None
        self._run = self._wandb.init(project=self.project, **self._init) if self._is_own else self._wandb.run
        config = {self._name(trainer, f"fcnn.{name}"): value for name, value in described(trainer).items()}
        self._run.config.update(config, allow_val_change=True)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        columns = {**record, "epoch": self._done + int(record["epoch"])}
        self._run.log({self._name(trainer, name): value for name, value in columns.items()})

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        self._run.summary[self._name(trainer, "fcnn.stopped_by")] = history.stopped_by
        if self._is_own:
            self._run.finish(exit_code=int(history.stopped_by == "error"))

    def _name(self, trainer: Trainer, name: str) -> str:
        return name if self._is_own else of_fold(trainer, name)
