"""TensorBoard and OptunaPruning with the real libraries, and what is said where they are missing."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import EarlyStopping, OptunaPruning, TensorBoard

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

    class Interrupts(fcnn.Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            signal.raise_signal(signal.SIGINT)

    t.fit(X, Y, epochs=5, progress=False, callbacks=[TensorBoard(tmp_path), Interrupts()])
    assert sorted(curves(tmp_path)["loss"]) == [1, 2, 3, 4]


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


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorboardX", "optuna"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboardX\. Run: pip install '\.\[tensorboard\]'"):
        TensorBoard("runs")
    with pytest.raises(ImportError, match=r"OptunaPruning needs optuna\. Run: pip install '\.\[optuna\]'"):
        OptunaPruning(None)
    with pytest.raises(TypeError, match=r"TensorBoard\(folder\) expects a path, got 3"):
        TensorBoard(3)
