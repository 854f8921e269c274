"""A network in a folder in several hands: forked processes, closed networks, and one optimizer after another."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import StorageError
from fcnn_gpu.files._numbers import NumberFile
from fcnn_gpu.placement import _folder
from fcnn_gpu.placement._record import RECORD, Record

from ..support.placement_cases import PLACES, X, Y, assert_equal, fit, moments, outcome, stored_network

ROWS = 5
X32 = X.astype("float32")


def forks(test: Any) -> Any:
    """For tests that fork; newer Pythons and JAX warn of threads, and the child here uses none of the parent's."""
    test = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:os.fork:RuntimeWarning")(test)
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")(test)


def in_folder(folder: Path | None) -> fcnn.Sequential:
    return stored_network("disk", ROWS, storage=folder)


def opened(folder: Path) -> fcnn.Sequential:
    return fcnn.load(folder, backend="numpy")


def in_child(do: Callable[[], Any]) -> str:
    """What `do` returns, or the text of its error, in a process forked from this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(do())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@forks
def test_a_forked_process_reads_and_does_not_train(tmp_path: Path) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    model: Any = trainer.model
    before, expected = (tmp_path / "network.state").read_bytes(), model.predict(X32)
    assert in_child(lambda: np.array_equal(model.predict(X32), expected)) == "True"
    refused = f"belongs to process {os.getpid()}, from which this one was forked"
    assert refused in in_child(lambda: fit(model, fcnn.Adam(0.01)))
    assert refused in in_child(lambda: trainer.fit(X32, np.zeros(len(X32), int), epochs=1, progress=False))
    assert refused in in_child(lambda: model.layers[0].W.__setitem__(..., 0.0))
    assert refused in in_child(lambda: model.layers[0].W.__setitem__(0, 0.0))
    assert (tmp_path / "network.state").read_bytes() == before
    np.testing.assert_array_equal(model.predict(X32), expected)


@forks
def test_the_folder_outlives_what_a_forked_process_closes() -> None:
    model: Any = in_folder(None)
    snapshot = model.snapshot()
    files = sorted(model.stored.store.folder.iterdir())
    expected = model.predict(X32)

    def close() -> None:
        snapshot.clear()
        model.close()

    assert in_child(close) == "None"
    assert sorted(model.stored.store.folder.iterdir()) == files
    np.testing.assert_array_equal(model.predict(X32), expected)


@forks
def test_a_forked_process_does_not_hold_the_folder(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0)
    try:
        with pytest.raises(StorageError, match="in use by process"):
            opened(tmp_path)
        model.close()
        opened(tmp_path).close()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_closed_network_neither_reads_nor_writes(tmp_path: Path) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    model: Any = trainer.model
    snapshot = model.snapshot()
    model.close()
    state = (tmp_path / "network.state").read_bytes()
    attempts: list[Callable[[], Any]] = [
        lambda: model.predict(X32),
        lambda: fit(model, fcnn.Adam(0.01)),
        lambda: model.layers[0].W[0],
        lambda: model.layers[0].W.__setitem__(..., 0.0),
        lambda: model.save(tmp_path / "file"),
        model.snapshot,
    ]
    for attempt in attempts:
        with pytest.raises(StorageError, match=r"has been closed\. Open it with fcnn_gpu\.load\("):
            attempt()
    assert (tmp_path / "network.state").read_bytes() == state
    again = opened(tmp_path)
    again.restore(snapshot)  # which has files of its own
    temporary = in_folder(None)
    temporary.close()
    with pytest.raises(StorageError, match="its temporary folder is gone"):
        temporary.predict(X32)


def full_disk(*_: Any) -> None:
    raise StorageError(28, "No space left on device")


def test_moments_of_another_optimizer_that_find_no_room_leave_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1).model.close()
    model = opened(tmp_path)
    expected = model.predict(X32)
    files = sorted(tmp_path.iterdir())
    other = fcnn.Trainer(model, optimizer=fcnn.RMSprop(0.01, momentum=0.8))
    with monkeypatch.context() as patch:
        patch.setattr(NumberFile, "reserve", full_disk)
        with pytest.raises(StorageError, match="No space"):
            other.fit(X32, Y, epochs=1, progress=False)
    assert sorted(tmp_path.iterdir()) == files
    np.testing.assert_array_equal(model.predict(X32), expected)
    model.close()
    again = opened(tmp_path)
    np.testing.assert_array_equal(again.predict(X32), expected)
    assert fcnn.Adam(0.01).bind(again).control.step[0] == 4


def test_moments_that_nobody_goes_on_with_are_removed(tmp_path: Path) -> None:
    fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1).model.close()
    model = opened(tmp_path)
    assert list(tmp_path.glob("*.W.m.*"))
    sgd = fcnn.Trainer(model, optimizer=fcnn.SGD(0.1))
    assert list(tmp_path.glob("*.W.m.*"))
    sgd.fit(X32, Y, epochs=1, progress=False)
    assert not list(tmp_path.glob("*.W.[mv].*"))


@pytest.mark.parametrize("same", [True, False])
def test_an_optimizer_that_could_not_be_bound_leaves_the_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    expected, step = moments(trainer), int(trainer.optimizer.control.step[0])
    trainer.model.close()
    model = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_folder, "write_record", full_disk)
        with pytest.raises(StorageError, match="No space"):
            fcnn.Trainer(model, optimizer=fcnn.Adam(0.01, beta1=0.9 if same else 0.8)).fit(X32, Y, progress=False)
    again = fcnn.Trainer(model, optimizer=fcnn.Adam(0.01))
    assert int(again.optimizer.control.step[0]) == step
    assert_equal(moments(again), expected)


def test_an_empty_path_is_no_folder() -> None:
    with pytest.raises(ValueError, match=r'Storage\(folder\) expects a folder, got ""'):
        in_folder("")  # type: ignore[arg-type]


def test_the_program_may_go_to_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    model = in_folder(Path("net"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    fit(model, fcnn.Adam(0.01), epochs=1).model.close()
    monkeypatch.chdir(tmp_path)
    model = opened(Path("net"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    fit(model, fcnn.SGD(0.1), epochs=1)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("limited", [True, False])
def test_a_copy_of_an_opened_network_lies_where_it_lies(tmp_path: Path, limited: bool) -> None:
    layers = [fcnn.Dense(40, activation="relu"), fcnn.Dense(3)]
    model: Any = fcnn.Sequential(layers, 60, seed=0, backend="numpy", memory_limit="9 KB", storage=tmp_path)
    if not limited:
        model.close()
        model = opened(tmp_path)  # nothing is scarce now
    twin: Any = copy.deepcopy(model)
    assert twin.stored is not None
    assert twin.stored.store.place == "disk"
    assert twin.stored.store.folder != model.stored.store.folder
    assert [w.tile_rows for w in twin.stored.weights] == [w.tile_rows for w in model.stored.weights]
    np.testing.assert_array_equal(np.asarray(twin.layers[0].W), np.asarray(model.layers[0].W))


# Whoever does not train changes nothing


def contents(folder: Path) -> dict[str, bytes]:
    """All that is in the files which count."""
    record = Record.unpack(folder / RECORD)
    paths = [folder / f"{name}.generation{i}.npy" for name, i in record.data["generations"].items()]
    optimizer = {name: array.tobytes() for name, array in record.arrays.items()}
    kind = repr((record.data["optimizer"], record.data.get("step"))).encode()
    return {path.name: path.read_bytes() for path in paths} | optimizer | {"kind": kind}


HARMLESS: dict[str, Callable[[fcnn.Sequential], Any]] = {
    "trainer": lambda model: fcnn.Trainer(model, optimizer="sgd"),
    "evaluate": lambda model: fcnn.Trainer(model, optimizer=fcnn.SGD(0.1, momentum=0.9)).evaluate(X32, Y),
    "evaluate with other settings": lambda model: fcnn.Trainer(model, optimizer=fcnn.Adam(beta1=0.5)).evaluate(X32, Y),
    "evaluate with its own": lambda model: fcnn.Trainer(model, optimizer=fcnn.Adam(0.5)).evaluate(X32, Y),
    "predict": lambda model: fcnn.Trainer(model, optimizer="rmsprop").predict(X32),
    "memory report": lambda model: model.memory_report(16, "adagrad"),
    "rate": lambda model: fcnn.Trainer(model, optimizer="sgd").optimizer.set_learning_rate(0.5),
    "copy": lambda model: fit(copy.deepcopy(model), fcnn.SGD(0.1)),
    "state": lambda model: [np.asarray(x) for x in fcnn.RMSprop().bind(model).whole_state.values()],
    "save": lambda model: model.save(Path(model.stored.store.folder).parent / "model.safetensors"),  # type: ignore[union-attr]
    "snapshot": lambda model: model.snapshot(),
}


@pytest.mark.parametrize("action", HARMLESS)
def test_only_training_takes_the_moments_of_another_optimizer(tmp_path: Path, action: str) -> None:
    folder = tmp_path / "net"
    trainer = fit(in_folder(folder), fcnn.Adam(0.01), epochs=1)
    expected, on_disk = outcome(trainer), contents(folder)
    trainer.model.close()
    model = opened(folder)
    HARMLESS[action](model)
    assert contents(folder) == on_disk
    model.layers[-1].b[...] += 0  # type: ignore[attr-defined]
    model.layers[0].W[...] = np.asarray(model.layers[0].W)  # type: ignore[attr-defined]  # a commit
    model.close()
    assert list(contents(folder).values())[-1] == on_disk["kind"]
    again = fcnn.Trainer(opened(folder), optimizer=fcnn.Adam(0.01))
    found = outcome(again)
    for name in found:
        if not name.startswith("history"):
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("place", PLACES)
def test_a_trainer_that_only_evaluates_leaves_another_training(place: str) -> None:
    alone = fit(stored_network(place, ROWS), fcnn.Adam(0.01), epochs=2)
    model = stored_network(place, ROWS)
    trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(0.01), metrics=["accuracy"])
    for _ in range(2):
        trainer.fit(X32, Y, epochs=1, batch_size=16, progress=False)
        fcnn.Trainer(model, optimizer=fcnn.SGD(0.1, momentum=0.9)).evaluate(X32, Y)
    assert_equal(moments(trainer), moments(alone))


def test_zero_moments_that_are_to_come_cannot_be_written(tmp_path: Path) -> None:
    fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1).model.close()
    state = fcnn.RMSprop().bind(opened(tmp_path)).whole_state
    for write in (lambda: state["0.W.v"].__setitem__(..., 1.0), lambda: state["0.W.v"].__setitem__(0, 1.0)):
        with pytest.raises(StorageError, match="made when their optimizer trains for the first time"):
            write()
    assert not np.asarray(state["0.W.v"].copy()).any()
