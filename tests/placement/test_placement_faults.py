"""A folder is opened, gone on with and trained in while system calls fail and Ctrl-C is pressed: nothing is lost."""

from __future__ import annotations

import errno
import gc
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import StorageError

from ..support.failing_calls import Fault, InterruptAtLine
from ..support.placement_cases import assert_equal, moments

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.arange(8) % 3
KINDS: dict[str, Callable[[int], Fault]] = {
    "no descriptor": lambda k: Fault(k, OSError(errno.EMFILE, "Too many open files")),
    "no room": lambda k: Fault(k, OSError(errno.ENOSPC, "No space left on device")),
    "no disk": lambda k: Fault(k, OSError(errno.EIO, "Input/output error")),
    "interrupt": lambda k: Fault(k, KeyboardInterrupt()),
    "interrupt after": lambda k: Fault(k, KeyboardInterrupt(), after=True),
}


def train(model: fcnn.Sequential, optimizer: Any, epochs: int = 1) -> fcnn.Trainer:
    trainer = fcnn.Trainer(model, optimizer=optimizer)
    trainer.fit(X, Y, epochs=epochs, batch_size=8, progress=False)
    return trainer


def adam() -> fcnn.Adam:
    return fcnn.Adam(0.01)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "net"
    layers = [fcnn.Dense(5, activation="tanh", placement="disk"), fcnn.Dense(3)]
    train(fcnn.Sequential(layers, 6, seed=0, backend="numpy", storage=folder), adam(), epochs=3).model.close()
    return folder


def state(folder: Path) -> dict[str, Any]:
    """All of it, every number compared with its sum."""
    model = fcnn.load(folder, backend="numpy", verify=True)
    trainer = fcnn.Trainer(model, optimizer=adam())
    found = {name: np.array(array) for name, array in model.named_arrays().items()} | moments(trainer)
    found["step"] = np.array(trainer.optimizer.control.step)
    model.close()
    return found


def go_on(folder: Path) -> None:
    model = fcnn.load(folder, backend="numpy")
    fcnn.Trainer(model, optimizer=adam())
    model.close()


def evaluate_with_another(folder: Path) -> None:
    model = fcnn.load(folder, backend="numpy")
    fcnn.Trainer(model, optimizer="sgd").evaluate(X, Y)
    model.close()


def step(folder: Path) -> None:
    model = fcnn.load(folder, backend="numpy")
    train(model, adam())
    model.close()


def step_of_another(folder: Path) -> None:
    """Its moments take the place of those that lie there, of which some have the same names."""
    model = fcnn.load(folder, backend="numpy")
    train(model, fcnn.RMSprop(0.01, momentum=0.5))
    model.close()


def outcome(action: Callable[[Path], None], folder: Path) -> str:
    try:
        action(folder)
    except (StorageError, KeyboardInterrupt) as error:
        return type(error).__name__
    finally:
        gc.collect()
    return "done"


@pytest.mark.parametrize("action", [go_on, evaluate_with_another, step])
@pytest.mark.parametrize("kind", KINDS)
def test_whichever_system_call_fails_the_folder_holds_a_whole_step(
    trained: Path, tmp_path: Path, kind: str, action: Callable[[Path], None], every: int
) -> None:
    before = state(trained)
    shutil.copytree(trained, tmp_path / "after")
    step(tmp_path / "after")
    after = state(tmp_path / "after")
    counting = Fault(-1, OSError())
    shutil.copytree(trained, tmp_path / "counted")
    with counting():
        action(tmp_path / "counted")
    seen = set()
    for k in range(random.Random(kind).randrange(every), counting.n_calls, every):
        folder = shutil.copytree(trained, tmp_path / str(k))
        fault = KINDS[kind](k)
        with fault():
            seen.add(outcome(action, folder))
        found = state(folder)
        expected = after if found["step"] != before["step"] else before
        assert_equal(found, expected)
        assert expected is before or action is step
        step(folder)  # nobody holds the lock, and nothing stands in the way
        shutil.rmtree(folder)
    assert seen & {"StorageError", "KeyboardInterrupt"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_takes_the_place_of_another_wholly_or_not_at_all(
    trained: Path, tmp_path: Path, kind: str, every: int
) -> None:
    before = state(trained)
    counting = Fault(-1, OSError())
    shutil.copytree(trained, tmp_path / "after")
    with counting():
        step_of_another(tmp_path / "after")
    after = state(tmp_path / "after")
    for k in range(random.Random(kind).randrange(every), counting.n_calls, every):
        folder = shutil.copytree(trained, tmp_path / str(k))
        with KINDS[kind](k)():
            outcome(step_of_another, folder)
        found = state(folder)
        if found["step"] == before["step"]:
            assert_equal(found, before)
        else:  # in its place, at its first step or behind it
            assert (found["0.W"] == before["0.W"]).all() or (found["0.W"] == after["0.W"]).all()
        step(folder)
        assert not list(folder.glob("*velocity*"))
        shutil.rmtree(folder)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python lets none out of __del__
@pytest.mark.parametrize("action", [go_on, step, step_of_another])
def test_ctrl_c_before_any_line_leaves_a_whole_step(
    trained: Path, tmp_path: Path, action: Callable[[Path], None], every: int
) -> None:
    before = state(trained)
    counting = InterruptAtLine(-1)
    shutil.copytree(trained, tmp_path / "after")
    with counting():
        action(tmp_path / "after")
    after = state(tmp_path / "after")
    draw = random.Random(0)
    for k in range(draw.randrange(20 * every), counting.n_lines, 20 * every + draw.randrange(9)):
        folder = shutil.copytree(trained, tmp_path / str(k))
        with InterruptAtLine(k)():
            outcome(action, folder)
        found = state(folder)
        if action is step_of_another and found["step"] != before["step"]:
            assert (found["0.W"] == before["0.W"]).all() or (found["0.W"] == after["0.W"]).all()
        else:
            assert_equal(found, after if found["step"] != before["step"] else before)
        shutil.rmtree(folder)


@pytest.fixture
def every() -> int:
    """Every so many calls fail, and every 20 times so many lines; FCNN_EVERY_FAULT=1 makes every call fail."""
    return int(os.environ.get("FCNN_EVERY_FAULT", "23"))
