"""CSVLogger and JSONLinesLogger: what is in the file after each epoch, and how a file goes on."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import Callback, CSVLogger, JSONLinesLogger

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ [1.0, -2.0]
LOGGERS: Any = pytest.mark.parametrize("logger", [CSVLogger, JSONLinesLogger])


def trainer() -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    return fcnn.Trainer(model, "mse", fcnn.SGD(0.01), metrics=["r2"])


def fit(t: fcnn.Trainer, *callbacks: Callback, epochs: int = 3, **options: Any) -> fcnn.History:
    return t.fit(X, Y, epochs=epochs, batch_size=10, progress=False, callbacks=callbacks, **options)


def read(path: Path) -> list[dict[str, Any]]:
    """The records, whichever kind of file it is."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[0].startswith("{"):
        return [json.loads(line) for line in lines]
    return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(lines)]


@LOGGERS
def test_a_file_is_the_history(logger: Any, tmp_path: Path) -> None:
    history = fit(trainer(), logger(tmp_path / "log"), validation_split=0.25)
    assert read(tmp_path / "log") == history.records


@LOGGERS
def test_each_epoch_is_in_the_file_when_it_has_ended(logger: Any, tmp_path: Path) -> None:
    found: list[int] = []

    class Looks(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            found.append(len(read(tmp_path / "log")))

    fit(trainer(), logger(tmp_path / "log"), Looks())
    assert found == [1, 2, 3]


@LOGGERS
def test_a_killed_process_loses_no_epoch(logger: Any, tmp_path: Path) -> None:
    script = f"""
import os, numpy as np, fcnn_gpu as fcnn
from fcnn_gpu.callbacks import Callback, {logger.__name__}
class Dies(Callback):
    def on_epoch_begin(self, trainer, epoch):
        if epoch == 3:
            os._exit(9)
model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, backend="numpy")
callbacks = [{logger.__name__}({str(tmp_path / "log")!r}), Dies()]
fcnn.Trainer(model, "mse").fit(np.ones((4, 2)), np.ones(4), epochs=5, callbacks=callbacks)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert [record["epoch"] for record in read(tmp_path / "log")] == [1, 2]


@LOGGERS
def test_epochs_are_counted_on_in_a_run_that_goes_on(logger: Any, tmp_path: Path) -> None:
    t, path = trainer(), tmp_path / "log"
    fit(t, logger(path), epochs=2)
    fit(t, logger(path), epochs=1)
    fit(trainer(), logger(path), epochs=2)  # as of a network that was loaded from a file
    assert [record["epoch"] for record in read(path)] == [1, 2, 3, 4, 5]
    fit(t, replacing := logger(path, append=False), epochs=1)
    fit(t, replacing, epochs=1)
    assert [record["epoch"] for record in read(path)] == [4, 5]


@LOGGERS
def test_a_line_that_was_cut_short_is_left_behind(logger: Any, tmp_path: Path) -> None:
    path = tmp_path / "log"
    fit(trainer(), logger(path), epochs=2)
    path.write_text(path.read_text()[:-30])
    fit(trainer(), logger(path), epochs=1)
    lines = path.read_text().splitlines()
    assert len(lines) == (4 if logger is CSVLogger else 3)
    # A row of CSV that lacks its last digits still tells its epoch; half an object of JSON tells nothing.
    assert lines[-1].startswith("3," if logger is CSVLogger else '{"epoch": 2,')


def test_a_file_with_other_columns_is_refused_before_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fit(trainer(), CSVLogger(path))
    before, t = path.read_text(), trainer()
    with pytest.raises(ValueError, match=r"log has no column val_loss, val_r2, which this run.*append=False"):
        fit(t, CSVLogger(path), validation_split=0.25)
    assert (path.read_text(), t.epochs_trained) == (before, 0)
    path.write_text('{"epoch": 1}\nnot JSON\n{"epoch": 2}\n')
    with pytest.raises(ValueError, match="line 2, is no JSON"):
        fit(t, JSONLinesLogger(path))


def test_columns_of_other_callbacks_and_numbers_that_are_not_finite(tmp_path: Path) -> None:
    class Adds(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            record |= {"mine": float(record["epoch"]), "r2": math.nan}

    paths = tmp_path / "csv", tmp_path / "json"
    fit(trainer(), Adds(), CSVLogger(paths[0]), JSONLinesLogger(paths[1]))
    fit(trainer(), CSVLogger(paths[0]), epochs=1)
    rows, objects = map(read, paths)
    assert [row["mine"] for row in rows[:3]] == [record["mine"] for record in objects] == [1, 2, 3]
    assert math.isnan(rows[3]["mine"])
    assert math.isnan(rows[0]["r2"])
    assert objects[0]["r2"] is None


@LOGGERS
def test_what_is_refused(logger: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=rf"{logger.__name__}\(path\) expects a path, got 3"):
        logger(3)
    with pytest.raises(TypeError, match=rf"{logger.__name__}\(append\)"):
        logger("log", append=1)
    with pytest.raises(FileNotFoundError, match=rf"{logger.__name__}: there is no folder .*nowhere"):
        fit(trainer(), logger(tmp_path / "nowhere" / "log"))


def test_estimators_log_their_epochs(tmp_path: Path) -> None:
    fcnn.FCNNRegressor(epochs=3, callbacks=[CSVLogger(tmp_path / "log")]).fit(X, Y)
    assert [record["epoch"] for record in read(tmp_path / "log")] == [1, 2, 3]


@LOGGERS
def test_folds_have_a_column(logger: Any, tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):  # a second estimator goes on in the file
        made = fcnn.TabularRegressor(preset="fast", epochs=2, cv=3, callbacks=[logger(path)], random_state=0)
        made.fit(X, Y)
    shown = [(int(record["fold"]), int(record["epoch"])) for record in read(path)]
    assert shown == [(fold, epoch) for epochs in ((1, 2), (3, 4)) for fold in (1, 2, 3) for epoch in epochs]
    losses = [record["val_loss"] for record in read(path)[:6]]
    assert losses == pytest.approx([loss for history in made.history_ for loss in history["val_loss"]])
