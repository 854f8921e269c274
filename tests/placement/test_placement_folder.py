"""A network in a folder: always one whole network of one step, whatever happens to the process or the disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import StorageError
from fcnn_gpu.files._numbers import NumberFile
from fcnn_gpu.placement._record import RECORD, Record, write_record

from ..support import placement_cases as cases
from ..support.placement_cases import X, Y, assert_equal, fit, outcome, stored_network

ROWS = 5
X32 = X.astype("float32")


def in_folder(folder: Path, **options: Any) -> fcnn.Sequential:
    return stored_network("disk", ROWS, storage=folder, **options)


def opened(folder: Path) -> fcnn.Sequential:
    return fcnn.load(folder, backend="numpy")


def arrays(model: fcnn.Sequential) -> dict[str, Any]:
    return {name: np.array(array) for name, array in model.named_arrays().items()}


def let_go(model: fcnn.Sequential) -> None:
    """Close the folder, as the end of the process does."""
    model.close()


def test_a_folder_holds_the_network_after_every_step(tmp_path: Path) -> None:
    model = in_folder(tmp_path / "net")
    fit(model, fcnn.Adam(0.01))
    model.info = {"note": "kept with the next step"}
    fit(model, fcnn.Adam(0.01), epochs=1)
    expected, predictions = arrays(model), model.predict(X32)
    let_go(model)
    again = opened(tmp_path / "net")
    assert_equal(arrays(again), expected)
    np.testing.assert_array_equal(again.predict(X32), predictions)
    assert again.info == {"note": "kept with the next step"}
    assert int(again.random_step[0]) == 16


def test_the_weights_are_npy_files(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    layer: Any = model.layers[0]
    found = [np.load(path) for path in tmp_path.glob("0.W.generation*.npy")]
    assert [x.shape for x in found] == [(33, 20)] * 2
    assert any((x == np.asarray(layer.W)).all() for x in found)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "rmsprop momentum", "adagrad"])
def test_training_goes_on_where_it_ended(tmp_path: Path, optimizer: str) -> None:
    whole = fit(stored_network("disk", ROWS), cases.OPTIMIZERS[optimizer](), epochs=4)
    model = in_folder(tmp_path)
    fit(model, cases.OPTIMIZERS[optimizer](), epochs=2)
    let_go(model)
    trainer = fcnn.Trainer(opened(tmp_path), optimizer=cases.OPTIMIZERS[optimizer](), metrics=["accuracy"])
    assert trainer.optimizer.control.step[0] == 8
    trainer.epochs_trained = 2
    trainer.fit(X32, Y, epochs=2, batch_size=16, progress=False)
    drop = "history "
    a, b = ({n: x for n, x in outcome(t).items() if not n.startswith(drop)} for t in (whole, trainer))
    assert_equal(a, b)


def test_another_kind_of_optimizer_begins_anew(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    fit(model, fcnn.Adam(0.01), epochs=2)
    let_go(model)
    again = opened(tmp_path)
    adam = fcnn.Adam(0.01, beta1=0.8).bind(again)
    assert adam.control.step[0] == 0
    assert b"fcnn_gpu.optimizers.Adam {" in (tmp_path / RECORD).read_bytes(), "the kind as it has always been"
    assert not any(np.asarray(m).any() for m in adam.whole_state.values())
    let_go(again)
    again = opened(tmp_path)
    assert fcnn.Adam(0.01).bind(again).control.step[0] == 8  # nobody has trained with beta1=0.8
    let_go(again)
    fit(again := opened(tmp_path), fcnn.Adam(0.01, beta1=0.8), epochs=1)
    let_go(again)
    assert fcnn.Adam(0.01).bind(opened(tmp_path)).control.step[0] == 0  # the moments of beta1=0.9 are gone


def test_a_learning_rate_may_change_and_moments_stay(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    fit(model, fcnn.Adam(0.01), epochs=2)
    let_go(model)
    again = opened(tmp_path)
    adam = fcnn.Adam(0.001, clip_norm=1.0).bind(again)
    assert adam.control.step[0] == 8
    assert all(np.asarray(m).any() for m in adam.whole_state.values())
    second = fcnn.Trainer(again, optimizer=fcnn.Adam(0.001))
    assert second.optimizer.control.step[0] == 0  # a second one has nothing to go on with
    assert all(np.asarray(m).any() for m in adam.whole_state.values())
    one_step(second)
    with pytest.raises(RuntimeError, match="Another optimizer has trained this network since this Adam did"):
        adam.whole_state  # noqa: B018
    assert all(np.asarray(m).any() for m in second.optimizer.whole_state.values())


def test_a_network_that_nobody_trains_keeps_its_moments(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    fit(model, fcnn.Adam(0.01), epochs=2)
    let_go(model)
    between = opened(tmp_path)
    layer: Any = between.layers[0]
    layer.W[...] = 0.5  # commits
    let_go(between)
    again = opened(tmp_path)
    layer = again.layers[0]
    assert (np.asarray(layer.W) == 0.5).all()
    assert fcnn.Adam(0.01).bind(again).control.step[0] == 8


def test_a_closed_network_says_so(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    model.close()
    model.close()
    with pytest.raises(StorageError, match=r"has been closed\. Open it with fcnn_gpu\.load\("):
        model.predict(X32)
    fcnn.Sequential([fcnn.Dense(3)], 4, backend="numpy").close()  # nothing to close


def test_a_folder_with_a_network_is_not_overwritten(tmp_path: Path) -> None:
    let_go(in_folder(tmp_path))
    with pytest.raises(FileExistsError, match=r"fcnn_gpu\.load\("):
        in_folder(tmp_path)
    opened(tmp_path)


def test_two_cannot_have_one_folder(tmp_path: Path) -> None:
    model = in_folder(tmp_path)
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
        fcnn.load(tmp_path)
    code = f"""
    import fcnn_gpu as fcnn
    try:
        fcnn.load({str(tmp_path)!r})
    except fcnn.StorageError as error:
        print(error)
    """
    assert f"in use by process {os.getpid()}" in run(code)
    let_go(model)
    fcnn.load(tmp_path)


def test_a_folder_without_a_whole_network(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nor network.state, which a network with its weights on disk has.$"):
        fcnn.load(tmp_path)
    (tmp_path / "0.W.generation0.npy").write_bytes(b"left over from a process that was killed while it drew weights")
    with pytest.raises(FileNotFoundError, match="was being built there, and that was cut short"):
        fcnn.load(tmp_path)
    model = in_folder(tmp_path)
    fit(model, fcnn.SGD(0.1), epochs=1)


def test_a_temporary_folder_goes_with_the_network() -> None:
    model: Any = stored_network("disk", ROWS)
    folder = model.stored.store.folder
    assert any(folder.iterdir())
    del model
    import gc

    gc.collect()
    assert not folder.exists()


def test_a_network_that_cannot_be_built_leaves_no_files(tmp_path: Path) -> None:
    class Fails(fcnn.initializers.Initializer):
        def __call__(self, rng: Any, n_out: int, n_in: int) -> Any:
            raise RuntimeError("no weights today")

    layers = [fcnn.Dense(4, placement="disk"), fcnn.Dense(3, placement="disk", init=Fails())]
    with pytest.raises(RuntimeError, match="no weights"):
        fcnn.Sequential(layers, 5, backend="numpy", storage=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    fcnn.Sequential([layers[0], fcnn.Dense(3)], 5, backend="numpy", storage=tmp_path)


# Faults while training


def counts(folder: Path) -> dict[str, int]:
    """Which generation of each file counts."""
    head = json.loads((folder / "network.state").read_bytes().partition(b"\n")[0][9:])
    found: dict[str, int] = head["data"]["generations"]
    return found


@contextlib.contextmanager
def failing_write(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[int]]:
    """The n-th write of a process fails as on a full disk, and all later ones."""
    calls: list[int] = []
    real = NumberFile._write_some

    def write(self: NumberFile, position: int, view: memoryview) -> int:
        calls.append(1)
        if len(calls) > at:
            raise OSError(28, "No space left on device")
        return real(self, position, view)

    with monkeypatch.context() as patch:
        patch.setattr(NumberFile, "_write_some", write)
        yield calls


def training_state(trainer: fcnn.Trainer) -> dict[str, Any]:
    return {name: x for name, x in outcome(trainer).items() if not name.startswith("history")}


def one_step(trainer: fcnn.Trainer) -> None:
    trainer.fit(X32[:16], Y[:16], epochs=1, batch_size=16, progress=False)


def test_a_full_disk_leaves_the_network_at_the_old_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    with failing_write(monkeypatch, 10**9) as calls:
        one_step(trainer)
    n_writes = len(calls)
    assert n_writes > 30
    for at in (0, 1, n_writes // 2, n_writes - 2, n_writes - 1):
        before = training_state(trainer)
        with failing_write(monkeypatch, at), pytest.raises(StorageError, match=r"No space left.*Free room"):
            one_step(trainer)
        assert_equal(training_state(trainer), before)
        assert not list(tmp_path.glob(".*.part"))
    one_step(trainer)  # and when there is room again
    after = training_state(trainer)
    let_go(trainer.model)
    assert_equal(arrays(opened(tmp_path)), {n: after[n] for n in trainer.model.named_arrays()})


def test_a_disk_that_cannot_be_read_leaves_the_network_at_the_old_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the step it happens: forward, backward, in the passes for the norm, in the update."""
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01, clip_norm=0.1), epochs=1)
    real = NumberFile._read_some
    calls: list[int] = []
    fails_at = 10**9

    def read(self: NumberFile, position: int, view: memoryview) -> int:
        calls.append(1)
        if len(calls) > fails_at:
            raise OSError(5, "Input/output error")
        return real(self, position, view)

    monkeypatch.setattr(NumberFile, "_read_some", read)
    one_step(trainer)
    n_reads = len(calls)
    assert n_reads > 50
    for share in (0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.95):
        before = training_state(trainer)
        calls.clear()
        fails_at = int(share * (n_reads - 11))  # the penalty is computed after the step, for the history
        with pytest.raises(StorageError, match=r"generation\d\.npy cannot be read.*still there and sound"):
            one_step(trainer)
        fails_at = 10**9
        assert_equal(training_state(trainer), before)
    one_step(trainer)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_a_disk_too_small_is_found_before_training(tmp_path: Path) -> None:
    code = f"""
    import resource, signal
    import fcnn_gpu as fcnn
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    try:
        fcnn.Sequential([fcnn.Dense(100, placement="disk")], 200, backend="numpy", storage={str(tmp_path)!r})
    except fcnn.StorageError as error:
        print(error)
    """
    said = run(code)
    assert "0.W.generation0.npy cannot be written" in said
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("name", ["0.W", "2.W.m"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str, generation: int) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    path = tmp_path / f"{name}.generation{generation}.npy"
    content = path.read_bytes()
    before = training_state(trainer)
    os.truncate(path, len(content) // 2)
    with pytest.raises(StorageError, match=rf"{path.name}.*(cut|ends)"):
        one_step(trainer)
    path.write_bytes(content)
    assert_equal(training_state(trainer), before)
    one_step(trainer)
    after = training_state(trainer)
    let_go(trainer.model)
    os.truncate(path, 10)
    if counts(tmp_path)[name] == generation:
        with pytest.raises(StorageError, match=f"{path.name}.*cut it short"):
            fcnn.load(tmp_path)
    else:  # what the next step would have overwritten
        again = fcnn.Trainer(opened(tmp_path), optimizer=fcnn.Adam(0.01))
        assert_equal(training_state(again), after)
        one_step(again)


def test_a_file_that_goes_or_is_replaced_is_named(tmp_path: Path) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    path = tmp_path / "0.W.generation1.npy"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(StorageError, match=f"{path.name} has gone"):
        one_step(trainer)
    path.write_bytes(content)
    with pytest.raises(StorageError, match=f"{path.name} has been replaced"):
        one_step(trainer)


def test_a_damaged_record(tmp_path: Path) -> None:
    let_go(in_folder(tmp_path))
    path = tmp_path / "network.state"
    content = bytearray(path.read_bytes())
    for at in (3, 40, len(content) - 1):
        damaged = bytearray(content)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match="damaged"):
            fcnn.load(tmp_path)
    path.write_bytes(content)
    fcnn.load(tmp_path)


def test_files_of_another_network_are_refused(tmp_path: Path) -> None:
    let_go(in_folder(tmp_path / "a"))
    let_go(in_folder(tmp_path / "b", dtype="float64"))
    for name in ("0.W.generation0.npy", "0.W.generation1.npy"):
        (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(StorageError, match=r"0\.W\.generation0\.npy"):
        fcnn.load(tmp_path / "a")


# Ctrl-C and kills

_TRAINS = """
import sys
sys.path.insert(0, {root!r})
import numpy as np, fcnn_gpu as fcnn
from tests.support.placement_cases import X, Y
model = fcnn.load({folder!r}, backend="numpy")
trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(0.01))


class Says(fcnn.Callback):
    def on_epoch_end(self, trainer, record):
        if record["epoch"] == 1:
            print("trains", flush=True)


trainer.fit(
    X.astype("float32"), Y, epochs=10**6, batch_size=25, shuffle=False, progress=False, callbacks=[Says()]
)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    return done.stdout


def reference(steps: int) -> list[dict[str, Any]]:
    """The network after 0, 1, 2, ... steps of an uninterrupted run."""
    model = stored_network("disk", 1)
    trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(0.01))
    found = [training_state(trainer)]
    for _ in range(steps // 2):
        for half in (slice(0, 25), slice(25, 50)):
            trainer.fit(X32[half], Y[half], epochs=1, batch_size=25, shuffle=False, progress=False)
            found.append(training_state(trainer))
    return found


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills so")
def test_a_kill_at_any_moment_leaves_one_whole_step(tmp_path: Path) -> None:
    """Every kill is followed by a run that goes on; the sum of all is the run that nobody interrupted."""
    model = stored_network("disk", 1, storage=tmp_path)
    fcnn.Adam(0.01).bind(model)  # commits the height of the tiles, too
    let_go(model)
    code = _TRAINS.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    draw = random.Random(0)
    seen: list[tuple[int, dict[str, Any]]] = []
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "trains\n"
        time.sleep(draw.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
        again = opened(tmp_path)
        trainer = fcnn.Trainer(again, optimizer=fcnn.Adam(0.01))
        seen.append((int(trainer.optimizer.control.step[0]), training_state(trainer)))
        let_go(again)
        # Each run begins with the first half of the samples, so it must have ended behind a second one.
        if seen[-1][0] % 2:
            again = opened(tmp_path)
            trainer = fcnn.Trainer(again, optimizer=fcnn.Adam(0.01))
            trainer.fit(X32[25:], Y[25:], epochs=1, batch_size=25, shuffle=False, progress=False)
            let_go(again)
    steps = [step for step, _ in seen]
    assert steps == sorted(steps)
    assert steps[-1] > 0
    expected = reference(steps[-1] + 2)
    for step, state in seen:
        assert_equal(state, expected[step])


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals")
def test_ctrl_c_twice_leaves_the_network_at_a_whole_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at whichever write: in memory and on disk alike is the step before or, at the end, the next."""
    twin = fit(in_folder(tmp_path / "twin"), fcnn.Adam(0.01), epochs=1)
    before = training_state(twin)
    real = NumberFile._write_some
    calls: list[int] = []
    interrupts_at = 0

    def write(self: NumberFile, position: int, view: memoryview) -> int:
        calls.append(1)
        if len(calls) == interrupts_at:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.005)  # two at a time are one
            signal.raise_signal(signal.SIGINT)
        return real(self, position, view)

    monkeypatch.setattr(NumberFile, "_write_some", write)
    one_step(twin)
    n_writes, after = len(calls), training_state(twin)
    ends, n_raised = [], 0
    for interrupted in (1, 2, n_writes // 3, n_writes // 2, n_writes - 8, n_writes - 1, n_writes):
        interrupts_at = 0
        folder = tmp_path / str(interrupted)
        trainer = fit(in_folder(folder), fcnn.Adam(0.01), epochs=1)
        assert_equal(training_state(trainer), before)
        calls.clear()
        interrupts_at = interrupted
        try:
            one_step(trainer)
        except KeyboardInterrupt:
            n_raised += 1
        found = training_state(trainer)
        ends.append(int(found["step"][0] - before["step"][0]))
        assert_equal(found, after if ends[-1] else before)
        let_go(trainer.model)
        again = opened(folder)
        assert_equal(arrays(again), {name: found[name] for name in again.named_arrays()})
        let_go(again)
    assert set(ends) <= {0, 1}
    assert n_raised


def test_an_interrupt_right_after_the_commit_counts_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    step = int(trainer.optimizer.control.step[0])
    real = os.replace

    def replace(*args: Any) -> None:
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            one_step(trainer)
    assert int(trainer.optimizer.control.step[0]) == step + 1
    expected = training_state(trainer)
    let_go(trainer.model)
    assert_equal(arrays(opened(tmp_path)), {n: expected[n] for n in trainer.model.named_arrays()})


def test_a_record_that_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORD).mkdir()
    with pytest.raises(StorageError, match=r"network\.state cannot be replaced by that of a new step: \w+"):
        write_record(tmp_path, Record(), durable=False)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_a_restored_snapshot_counts_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fit(in_folder(tmp_path), fcnn.Adam(0.01), epochs=1)
    model, snapshot = trainer.model, trainer.model.snapshot()
    one_step(trainer)
    expected = arrays(model)
    with failing_write(monkeypatch, 10**9) as calls:
        model.restore(snapshot)
    assert (arrays(model)["0.W"] != expected["0.W"]).any()
    one_step(trainer)
    expected = arrays(model)
    for at in (0, 1, len(calls) - 1):
        with failing_write(monkeypatch, at), pytest.raises(StorageError):
            model.restore(snapshot)
        assert_equal(arrays(model), expected)
    let_go(model)
    assert_equal(arrays(opened(tmp_path)), expected)


def test_durable_steps_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    files: list[tuple[int, int]] = []
    real, fsync = NumberFile.sync, os.fsync

    def spy_fsync(number: int) -> None:
        status = os.fstat(number)
        files.append((status.st_dev, status.st_ino))
        fsync(number)

    monkeypatch.setattr(NumberFile, "sync", lambda self: synced.append(self.path.name) or real(self))  # type: ignore[func-returns-value]
    monkeypatch.setattr(os, "fsync", spy_fsync)
    model = stored_network("disk", ROWS, storage=fcnn.Storage(tmp_path, durable=True))
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.1))
    synced.clear()
    files.clear()
    one_step(trainer)
    assert len([name for name in synced if ".W.generation" in name]) == 2
    for path in (tmp_path / "network.state", tmp_path)[: 2 if os.name == "posix" else 1]:
        assert files.count((path.stat().st_dev, path.stat().st_ino)) == 1
    assert set(counts(tmp_path).values()) == {1}
