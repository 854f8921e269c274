"""MLflow: the columns of the history as metrics of a run of MLflow's."""

from __future__ import annotations

import math
import time
from typing import Any

from .._extras import how_to_install
from ._base import Callback, History, Trainer, answering, described, of_fold

_LONGEST = 500
"""Characters of a parameter that every store takes."""
_ENDS = {"error": "FAILED", "interrupt": "KILLED"}


@answering
class MLflow(Callback):
    """Log each column of the history to MLflow, a point per epoch, and what is trained as parameters of the run.

    Where a run is active (`with mlflow.start_run():`) it is that, and stays open. Else a run is made when training
    begins, in `experiment` (None: MLflow's default), and ends with it: FINISHED, KILLED by Ctrl-C, or FAILED by an
    error. `tracking_uri` is the place of the server or the folder; None is MLflow's own (MLFLOW_TRACKING_URI). Epochs
    are counted through all calls of the trainer's `fit`. A value that is not finite is left out. Where an estimator
    trains on each of several folds (`cv=`), each has a run of its own, with the parameter `fcnn.fold`; in an active run
    its columns and parameters are called `fold_1/loss` and so on. Needs mlflow-skinny.
    """

    def __init__(
        self, experiment: str | None = None, run_name: str | None = None, tracking_uri: str | None = None
    ) -> None:
        for name, value in {"experiment": experiment, "run_name": run_name, "tracking_uri": tracking_uri}.items():
            if value is not None and not isinstance(value, str):
                raise TypeError(f"MLflow({name}) expects a string, got {value!r} ({type(value).__name__}).")
        try:
            import mlflow
        except ImportError as error:
            raise ImportError(f"MLflow needs mlflow-skinny. Run: {how_to_install('mlflow')}") from error
        self.experiment, self.run_name, self.tracking_uri = experiment, run_name, tracking_uri
        self._mlflow: Any = mlflow
        self.run_id: str | None = None
        """Of the run that is logged to, once there is one."""

    def __repr__(self) -> str:
        return f"MLflow({self.experiment!r}, {self.run_name!r}, {self.tracking_uri!r})"

    def on_train_begin(self, trainer: Trainer) -> None:
        self._done = trainer.epochs_trained
        active = self._mlflow.active_run()
        self._client = self._mlflow.MlflowClient(self.tracking_uri)
        self._is_own = active is None
        self.run_id = self._new_run(trainer) if active is None else active.info.run_id
        call = f"after epoch {self._done}." if self._done else ""  # a parameter can be written once
        for name, value in described(trainer).items():
            self._client.log_param(self.run_id, self._name(trainer, f"fcnn.{call}{name}"), str(value)[:_LONGEST])

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        step, now = self._done + int(record["epoch"]), int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        finite = {name: float(value) for name, value in record.items() if name != "epoch" and math.isfinite(value)}
        points = [metric(self._name(trainer, name), value, now, step) for name, value in finite.items()]
        self._client.log_batch(self.run_id, points)

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        self._client.set_tag(self.run_id, self._name(trainer, "fcnn.stopped_by"), history.stopped_by)
        if self._is_own:
            self._client.set_terminated(self.run_id, _ENDS.get(history.stopped_by, "FINISHED"))

    def _name(self, trainer: Trainer, name: str) -> str:
        return name if self._is_own else of_fold(trainer, name)

    def _new_run(self, trainer: Trainer) -> str:
        wanted = "Default" if self.experiment is None else self.experiment
        known = self._client.get_experiment_by_name(wanted)
        experiment = self._client.create_experiment(wanted) if known is None else known.experiment_id
        name = None if self.run_name is None else of_fold(trainer, self.run_name)
        run_id: str = self._client.create_run(experiment, run_name=name).info.run_id
        return run_id
