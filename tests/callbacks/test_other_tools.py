"""TensorBoard, MLflow, WandB and OptunaPruning with the real libraries, and what is said where they are missing."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import EarlyStopping, MLflow, OptunaPruning, TensorBoard, WandB

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ [1.0, -2.0]


def trainer(rate: float = 0.01) -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    return fcnn.Trainer(model, "mse", fcnn.SGD(rate))


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """What event files hold, by column and step."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, place = file.read_bytes(), 0
        while place < len(data):  # length (8 bytes), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[place : place + 8], "little")
            event = Event.FromString(data[place + 12 : place + 12 + size])
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            place += size + 16
    return found


def test_tensorboard_gets_every_column_of_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    t = trainer()
    callbacks = [TensorBoard(tmp_path), EarlyStopping("val_loss", patience=2)]
    history = t.fit(X, Y, epochs=3, validation_split=0.25, progress=False, callbacks=callbacks)
    shown = curves(tmp_path)
    assert set(shown) == set(history.columns) - {"epoch"}
    for column, points in shown.items():
        np.testing.assert_allclose(list(points.values()), history[column], rtol=1e-6)

    t.fit(X, Y, epochs=5, progress=False, callbacks=[TensorBoard(tmp_path), Interrupts()])
    assert sorted(curves(tmp_path)["loss"]) == [1, 2, 3, 4]


def train_three_folds(callbacks: list[Any]) -> None:
    fcnn.TabularRegressor(preset="fast", epochs=2, cv=3, random_state=0, callbacks=callbacks).fit(X, Y)


def test_each_fold_is_a_run_of_tensorboards(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    train_three_folds([TensorBoard(tmp_path)])
    assert not curves(tmp_path)
    for fold in (1, 2, 3):
        assert sorted(curves(tmp_path / f"fold_{fold}")["loss"]) == [1, 2]


def test_optuna_prunes_what_is_worse_than_the_others() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1))

    def objective(trial: Any) -> float:
        t = trainer([0.1, 1e-9][trial.number])
        options: dict[str, Any] = {"validation_split": 0.25, "progress": False}
        return t.fit(X, Y, epochs=6, callbacks=[OptunaPruning(trial)], **options)["val_loss"][-1]

    study.optimize(objective, n_trials=2)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED"]
    assert list(study.trials[0].intermediate_values) == [1, 2, 3, 4, 5, 6]
    assert len(study.trials[1].intermediate_values) < 6
    with pytest.raises(ValueError, match="OptunaPruning monitors 'val_loss', which this run does not record"):
        trainer().fit(X, Y, callbacks=[OptunaPruning(study.ask())])
    with pytest.raises(TypeError, match=r"OptunaPruning\(trial\) expects an Optuna trial, got 3"):
        OptunaPruning(3)


class Interrupts(fcnn.Callback):
    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)


class Fails(fcnn.Callback):
    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        raise LookupError


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder: a data base would need SQLAlchemy
    found.set_tracking_uri(tmp_path.as_uri())
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow")
def test_mlflow_gets_every_column_of_every_epoch(mlflow: Any) -> None:
    t, logger = trainer(), MLflow("nets", "first")
    history = t.fit(X, Y, epochs=3, validation_split=0.25, progress=False, callbacks=[logger])
    client = mlflow.MlflowClient()
    run = client.get_run(logger.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert client.get_experiment(run.info.experiment_id).name == "nets"
    for column in set(history.columns) - {"epoch"}:
        points = client.get_metric_history(logger.run_id, column)
        assert [point.step for point in points] == [1, 2, 3]
        np.testing.assert_allclose([point.value for point in points], history[column])
    assert run.data.params["fcnn.optimizer"].startswith("SGD(learning_rate=0.01")
    assert run.data.params["fcnn.parameters"] == "3"

    t.fit(X, Y, epochs=5, progress=False, callbacks=[again := MLflow("nets"), Interrupts()])
    assert client.get_run(again.run_id).info.status == "KILLED"
    assert [point.step for point in client.get_metric_history(again.run_id, "loss")] == [4]
    with pytest.raises(LookupError):
        t.fit(X, Y, epochs=5, progress=False, callbacks=[failing := MLflow("nets"), Fails()])
    assert client.get_run(failing.run_id).info.status == "FAILED"


@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow")
def test_an_active_run_of_mlflow_is_taken_and_stays_open(mlflow: Any) -> None:
    t = trainer()
    mlflow.set_experiment("nets")
    with mlflow.start_run() as active:
        for _ in range(2):
            t.fit(X, Y, epochs=2, progress=False, callbacks=[MLflow()])
            assert mlflow.active_run().info.run_id == active.info.run_id
    points = mlflow.MlflowClient().get_metric_history(active.info.run_id, "loss")
    assert [point.step for point in points] == [1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow")
def test_each_fold_is_a_run_of_mlflows_or_named_in_the_one_that_is_active(mlflow: Any) -> None:
    train_three_folds([MLflow("folds", "net")])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("folds").experiment_id
    runs = client.search_runs([experiment])
    assert sorted((run.info.run_name, run.data.params["fcnn.fold"]) for run in runs) == [
        (f"fold_{fold}/net", str(fold)) for fold in (1, 2, 3)
    ]
    assert [point.step for point in client.get_metric_history(runs[0].info.run_id, "loss")] == [1, 2]
    mlflow.set_experiment("folds")
    with mlflow.start_run() as active:
        train_three_folds([MLflow()])
    run = client.get_run(active.info.run_id)
    assert {name for name in run.data.metrics if name.endswith("/loss")} == {f"fold_{n}/loss" for n in (1, 2, 3)}
    assert run.data.params["fold_2/fcnn.fold"] == "2"


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"), ("WANDB_DIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::wandb", "ignore:::pydantic")
def test_wandb_gets_every_column_of_every_epoch(wandb: Any, tmp_path: Path) -> None:
    class Reads(fcnn.Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            logged.append(dict(wandb.run.summary))

    logged: list[dict[str, float]] = []
    t = trainer()
    history = t.fit(X, Y, epochs=2, progress=False, callbacks=[WandB("nets"), Reads()])
    assert not wandb.run  # it is finished
    assert [one["epoch"] for one in logged] == [1, 2]
    np.testing.assert_allclose([one["loss"] for one in logged], history["loss"])
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))

    run: Any = wandb.init(project="nets")
    t.fit(X, Y, epochs=1, progress=False, callbacks=[WandB(), Reads()])
    assert wandb.run is run
    assert run.config["fcnn.parameters"] == 3
    assert run.summary["fcnn.stopped_by"] == "epochs"
    run.finish()
    assert logged[-1]["epoch"] == 3


@pytest.mark.parametrize(
    ("module", "make", "message"),
    [
        ("tensorboardX", lambda: TensorBoard("runs"), "TensorBoard needs tensorboardX. Run: pip install 'tensorboardX"),
        ("optuna", lambda: OptunaPruning(None), "OptunaPruning needs optuna. Run: pip install 'optuna"),
        ("mlflow", MLflow, "MLflow needs mlflow-skinny. Run: pip install 'mlflow-skinny"),
        ("wandb", WandB, "WandB needs wandb. Run: pip install 'wandb"),
    ],
)
def test_the_package_that_is_missing_is_named(
    module: str, make: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=re.escape(message)):
        make()


def test_a_folder_that_is_none() -> None:
    with pytest.raises(TypeError, match=r"TensorBoard\(folder\) expects a path, got 3"):
        TensorBoard(3)
