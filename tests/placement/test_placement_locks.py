"""Who may have a folder: the lock, folders that cannot be written to, and those that killed processes leave."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import StorageError
from fcnn_gpu.placement._lock import LOCK, FolderLock
from fcnn_gpu.placement._record import RECORD

from ..support.placement_cases import X, Y, assert_equal, fit, moments, outcome, stored_network

X32 = X.astype("float32")
posix = pytest.mark.skipif(os.name != "posix", reason="folders are locked, and files removed while they are open")


def opened(folder: Path) -> fcnn.Sequential:
    return fcnn.load(folder, backend="numpy")


def run(code: str, **options: Any) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, **options).stdout


# The lock


@posix
def test_a_lock_that_is_removed_locks_all_the_same(tmp_path: Path) -> None:
    model = stored_network("disk", 5, storage=tmp_path)
    code = f"""
    import fcnn_gpu as fcnn
    try:
        fcnn.load({str(tmp_path)!r}, backend="numpy")
    except fcnn.StorageError as error:
        print(error)
    """
    for spoil in ((tmp_path / LOCK).unlink, lambda: (tmp_path / LOCK).write_text("another")):
        spoil()
        assert "is in use" in run(code)
        with pytest.raises(StorageError, match="is in use"):
            opened(tmp_path)
        fit(model, fcnn.SGD(0.1), epochs=1)
    model.close()
    opened(tmp_path)


@contextlib.contextmanager
def folders_cannot_be_locked() -> Iterator[None]:
    """As on some network file systems: only files can."""
    import fcntl

    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if operation != fcntl.LOCK_UN and os.path.isdir(f"/dev/fd/{descriptor}"):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        yield


@posix
@pytest.mark.parametrize("taken", [True, False])
def test_where_folders_cannot_be_locked_a_removed_lock_ends_writing(tmp_path: Path, taken: bool) -> None:
    with folders_cannot_be_locked():
        trainer = fit(stored_network("disk", 5, storage=tmp_path), fcnn.Adam(0.01), epochs=1)
        expected = outcome(trainer)
        with pytest.raises(StorageError, match="is in use"):
            opened(tmp_path)
        (tmp_path / LOCK).unlink()
        second: Any = opened(tmp_path) if taken else None
        with pytest.raises(StorageError, match=r"lock has been removed or replaced while the network was in use"):
            trainer.fit(X32, Y, epochs=1, batch_size=16, progress=False)
        if taken:
            assert_equal(
                moments(fcnn.Trainer(second, optimizer=fcnn.Adam(0.01))), {k: expected[k] for k in moments(trainer)}
            )
            fit(second, fcnn.Adam(0.01), epochs=1)


@posix
def test_a_lock_that_is_replaced_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, n_calls = os.open, []

    def removing(path: Any, *args: Any) -> int:
        descriptor = real(path, *args)
        if Path(path).name == LOCK:
            n_calls.append(1)
            if len(n_calls) < 3:
                os.unlink(path)
        return descriptor

    monkeypatch.setattr(os, "open", removing)
    lock = FolderLock(tmp_path)
    assert len(n_calls) == 3
    with pytest.raises(StorageError, match="in use"):
        FolderLock(tmp_path)
    lock.release()


@pytest.mark.parametrize("n_failing", [1, 2])
def test_a_lock_is_let_go_of_once_whatever_closing_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_failing: int
) -> None:
    """A number that is closed twice may be that of a file which somebody has opened meanwhile."""
    lock = FolderLock(tmp_path)
    real, closed = os.close, []

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        real(descriptor)
        if len(closed) <= n_failing:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(StorageError, match=r"lock could not be closed: Input/output error"):
        lock.release()
    others = [os.open(tmp_path / LOCK, os.O_RDONLY) for _ in range(3)]
    lock.release()
    del lock
    assert len(closed) == len(set(closed))
    for other in others:
        assert os.fstat(other)
        real(other)
    FolderLock(tmp_path).release()


def test_a_full_disk_is_no_reason_not_to_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock's file says who has it, and nothing else."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stored_network("disk", 5, storage=tmp_path).close()
    monkeypatch.setattr(os, "write", full)
    model = opened(tmp_path)
    model.predict(X32)
    with pytest.raises(StorageError, match="in use"):
        opened(tmp_path)


def test_a_record_that_is_lost_does_not_cost_the_weights(tmp_path: Path) -> None:
    fit(stored_network("disk", 5, storage=tmp_path), fcnn.Adam(0.01), epochs=1).model.close()
    record = (tmp_path / RECORD).read_bytes()
    (tmp_path / RECORD).unlink()
    files = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match=r"that has been trained \(commit \d+\), whose network\.state is missing"):
        stored_network("disk", 5, storage=tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    (tmp_path / RECORD).write_bytes(record)
    opened(tmp_path)


# Nothing can be written


@pytest.fixture(params=["mount", "another user"])
def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder with a network, and the command before one for which it cannot be written to."""
    folder = tmp_path / "net"
    fit(stored_network("disk", 5, storage=folder), fcnn.Adam(0.01), epochs=2).model.close()
    if request.param == "mount":
        script = f'mount --bind "{folder}" "{folder}" && mount -o remount,ro,bind "{folder}" && exec "$@"'
        prefix = ["unshare", "-rm", "sh", "-c", script, "sh"]
    else:
        if not hasattr(os, "getuid") or os.getuid() != 0:
            pytest.skip("needs another user")
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        tops = [path for path in folder.parents if path != Path("/")][:-1]
        for path in tops:
            path.chmod(path.stat().st_mode | 0o055)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if (
        shutil.which(prefix[0]) is None
        or subprocess.run([*prefix, sys.executable, "-c", "import numpy"], capture_output=True).returncode
    ):
        pytest.skip(f"no {prefix[0]} here, or no Python for whom it makes of this one")
    return folder, prefix


@posix
def test_a_folder_that_cannot_be_written_to_predicts(read_only: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, prefix = read_only
    model = opened(folder)
    expected = model.predict(X32)
    model.close()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    code = f"""
    import copy, os, sys
    sys.path.insert(0, {str(Path(__file__).parents[2])!r})
    import numpy as np, fcnn_gpu as fcnn
    from tests.support.placement_cases import X, Y
    X = X.astype("float32")
    assert not os.access({str(folder)!r}, os.W_OK)
    model = fcnn.load({str(folder)!r}, backend="numpy", verify=True)
    second = fcnn.load({str(folder)!r}, backend="numpy")
    print(model.predict(X).tobytes().hex())
    for optimizer in (fcnn.Adam(0.01), fcnn.SGD(0.1)):
        trainer = fcnn.Trainer(model, optimizer=optimizer)
        assert trainer.evaluate(X, Y) == fcnn.Trainer(second, optimizer="sgd").evaluate(X, Y)
        state = {{name: np.array(x) for name, x in model.named_arrays().items()}}
        history, calls = trainer.history, []
        class Says(fcnn.Callback):
            def on_train_begin(self, trainer):
                calls.append(1)
        def explicit():
            model.forward(X, training=True)
        attempts = [
            lambda: trainer.fit(X, Y, epochs=1, progress=False, callbacks=[Says()]),
            explicit,
            lambda: model.layers[0].W.__setitem__(..., 0.0),
            lambda: model.layers[0].W.__setitem__(0, 0.0),
            lambda: model.restore({{name: x * 0 for name, x in state.items()}}),
        ]
        for attempt in attempts:
            try:
                attempt()
            except fcnn.StorageError as error:
                assert "is open for prediction alone" in str(error), error
            else:
                raise AssertionError("was done")
        assert not calls and trainer.history is history
        for name, x in model.named_arrays().items():
            np.testing.assert_array_equal(np.asarray(x), state[name])
    assert fcnn.Adam(0.01)._state_names()
    twin = copy.deepcopy(model)
    fcnn.Trainer(twin, optimizer="adam").fit(X, Y, epochs=1, progress=False)
    try:
        fcnn.Sequential([fcnn.Dense(3, placement="disk")], 4, backend="numpy", storage={str(folder)!r})
    except (fcnn.StorageError, FileExistsError):
        pass
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    environment = os.environ | {"TMPDIR": str(scratch), "HOME": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*prefix, sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected.tobytes().hex()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    fit(opened(folder), fcnn.Adam(0.01), epochs=1)


@posix
@pytest.mark.parametrize("lock_there", [True, False])
def test_a_reader_of_what_somebody_trains_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock_there: bool
) -> None:
    model = stored_network("disk", 5, storage=tmp_path)
    if not lock_there:
        (tmp_path / LOCK).unlink()
    real = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
        with pytest.raises(StorageError, match="is in use"):
            opened(tmp_path)
        model.close()
        reader = opened(tmp_path)
        opened(tmp_path).close()
    with pytest.raises(StorageError, match="is in use"):
        opened(tmp_path)
    reader.close()
    opened(tmp_path)


# Temporary folders

_HOLDS = """
import sys, fcnn_gpu as fcnn
model = fcnn.Sequential([fcnn.Dense(30, placement="disk"), fcnn.Dense(3)], 20, backend="numpy")
snapshot = model.snapshot()
print(model.stored.store.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills so")
def test_what_a_killed_process_has_left_is_removed_by_the_next(temporary: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", _HOLDS], **pipes) for _ in range(3)]
    folders = [Path(process.stdout.readline().strip()) for process in processes]  # type: ignore[union-attr]
    own, foreign = temporary / "fcnn_gpu-mine", temporary / "fcnn_gpu-other"
    stored_network("disk", 5, storage=own).close()
    foreign.mkdir()
    (foreign / LOCK).write_text("process 1\n")
    (temporary / "fcnn_gpu-link").symlink_to(folders[0])
    for process in processes[:2]:
        process.kill()
        process.wait()
    (folders[1] / "notes.txt").write_text("somebody's")
    assert all(any(folder.glob("*.npy")) for folder in folders)
    model: Any = stored_network("disk", 5)
    mine = model.stored.store.folder
    found = {path.name for path in temporary.iterdir()}
    assert found == {folder.name for folder in (mine, folders[1], folders[2], own, foreign)} | {"fcnn_gpu-link"}
    assert [path.name for path in folders[1].iterdir()] == ["notes.txt"]
    assert any(folders[2].glob("*.npy"))  # which lives
    opened(own)
    processes[2].communicate("")
    assert not folders[2].exists()
    model.close()
    assert not mine.exists()
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            pipe.close()  # type: ignore[union-attr]


def test_a_temporary_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="A temporary folder cannot be made: No such file"):
        stored_network("disk", 5)


def test_two_temporary_folders_live_side_by_side(temporary: Path) -> None:
    models: list[Any] = [stored_network("disk", 5) for _ in range(3)]
    assert len({model.stored.store.folder for model in models}) == 3
    for model in models:
        model.predict(X32)
        np.testing.assert_array_equal(np.asarray(model.layers[0].W), np.asarray(models[0].layers[0].W))
