"""What goes wrong during a product in chunks: files cut short, full disks, Ctrl-C. Threads end, errors say where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.files._numbers import NumberFile, StorageError
from fcnn_gpu.large_matrix import Rates
from fcnn_gpu.large_matrix._write_behind import WriteBehind
from tests.conftest import emulated_ops

RATES = Rates(arithmetic=1e10, to_device=1e9, from_device=1e9)
OPTIONS: dict[str, Any] = {"memory_limit": 20_000, "rates": RATES, "backend": "numpy"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Any, Any, Any]:
    """A and B full of ones and a result full of sevens, mapped."""
    for name, shape, value in (("A", (120, 100), 1.0), ("B", (100, 80), 1.0), ("out", (120, 80), 7.0)):
        np.save(tmp_path / f"{name}.npy", np.full(shape, value, np.float32))
    A, B = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "AB")
    return A, B, np.load(tmp_path / "out.npy", mmap_mode="r+")


def no_threads_are_left() -> bool:
    names = ("fcnn_gpu read ahead", "fcnn_gpu write behind", "fcnn_gpu copying")
    return not any(thread.name.startswith(names) for thread in threading.enumerate())


def backends() -> list[Any]:
    return [pytest.param(lambda: "numpy", id="numpy"), pytest.param(emulated_ops, id="emulated")]


def before_each(monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[int], None], file: str) -> None:
    """act(number of the call) before each call of NumberFile's read or write, of whatever form, for this file."""
    count = [0]

    def patched(real: Any) -> Any:
        def call(self: NumberFile, *arguments: Any) -> None:
            if self.path.name == file:
                count[0] += 1
                act(count[0])
            real(self, *arguments)

        return call

    for name in (method, f"{method}_lines"):
        monkeypatch.setattr(NumberFile, name, patched(getattr(NumberFile, name)))


def failing_after(monkeypatch: pytest.MonkeyPatch, method: str, file: str, n: int, error: BaseException) -> None:
    """From the n-th call on for this file, NumberFile's method raises."""

    def fail(number: int) -> None:
        if number > n:
            raise error

    before_each(monkeypatch, method, fail, file)


def test_a_file_that_is_too_short_before_it_begins(files: tuple[Any, Any, Any], tmp_path: Path) -> None:
    A, B, out = files
    os.truncate(tmp_path / "B.npy", 5000)
    with pytest.raises(StorageError, match=r"B\.npy has 5,000 bytes, but B needs those up to byte 32,128") as found:
        fcnn.chunked_matmul(A, B, out, **OPTIONS)
    assert isinstance(found.value, OSError)
    assert (out == 7.0).all()


def test_a_file_that_is_gone(files: tuple[Any, Any, Any], tmp_path: Path) -> None:
    A, B, out = files
    (tmp_path / "A.npy").unlink()
    with pytest.raises(StorageError, match=r"A\.npy cannot be opened: No such file"):
        fcnn.chunked_matmul(A, B, out, **OPTIONS)
    assert (out == 7.0).all()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_result_whose_file_has_become_read_only(files: tuple[Any, Any, Any], tmp_path: Path) -> None:
    A, B, out = files
    if os.geteuid() == 0:
        (tmp_path / "out.npy").rename(tmp_path / "other.npy")
        (tmp_path / "out.npy").mkdir()
        match = r"out\.npy cannot be opened: Is a directory"
    else:
        (tmp_path / "out.npy").chmod(0o400)
        match = r"out\.npy cannot be opened: Permission denied"
    with pytest.raises(StorageError, match=match):
        fcnn.chunked_matmul(A, B, out, **OPTIONS)


@pytest.mark.parametrize("backend", backends())
def test_a_file_that_is_cut_short_meanwhile(
    files: tuple[Any, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Any
) -> None:
    A, B, out = files
    before_each(
        monkeypatch, "write", lambda number: os.truncate(tmp_path / "A.npy", 200) if number == 2 else None, "out.npy"
    )
    with pytest.raises(StorageError, match=r"A\.npy ends at byte 200.*chunked_matmul had written") as found:
        fcnn.chunked_matmul(A, B, out, **OPTIONS | {"backend": backend()})
    assert "out.npy) is partly new" in str(found.value)
    assert no_threads_are_left()
    monkeypatch.undo()
    np.save(tmp_path / "A.npy", np.ones((120, 100), np.float32))
    fcnn.chunked_matmul(np.load(tmp_path / "A.npy", mmap_mode="r"), B, out, **OPTIONS | {"backend": backend()})
    assert (out == 100.0).all()


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_disk_that_fills(files: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch, backend: Any, n: int) -> None:
    A, B, out = files
    full = StorageError(28, "/somewhere/out.npy cannot be written: No space left on device.")
    failing_after(monkeypatch, "write", "out.npy", n, full)
    with pytest.raises(StorageError, match=r"No space left on device\. chunked_matmul had written \d+ of \d+ tiles"):
        fcnn.chunked_matmul(A, B, out, **OPTIONS | {"backend": backend()})
    assert no_threads_are_left()
    with pytest.raises(StorageError, match="No space left"):  # whatever the first left behind
        fcnn.chunked_matmul(A, B, out, **OPTIONS | {"backend": backend()})


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("n", [0, 3])
def test_a_disk_that_cannot_be_read(
    files: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch, backend: Any, n: int
) -> None:
    A, B, out = files
    failing_after(monkeypatch, "read", "B.npy", n, StorageError(5, "B.npy cannot be read: Input/output error."))
    with pytest.raises(StorageError, match="Input/output error") as found:
        fcnn.chunked_matmul(A, B, out, **OPTIONS | {"backend": backend()})
    if n == 0:
        assert "had written nothing to out" in str(found.value)
        assert (out == 7.0).all()
    assert no_threads_are_left()


def test_a_new_file_is_removed_when_it_cannot_be_finished(
    files: tuple[Any, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    A, B, _ = files
    failing_after(monkeypatch, "read", "B.npy", 3, StorageError(5, "B.npy cannot be read: Input/output error."))
    with pytest.raises(StorageError, match=r"has removed its unfinished out, .*new\.npy"):
        fcnn.chunked_matmul(A, B, tmp_path / "new.npy", **OPTIONS)
    assert not (tmp_path / "new.npy").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_disk_without_room_for_a_new_file_is_found_before_anything_is_computed(
    files: tuple[Any, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    A, B, _ = files

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(NumberFile, "read_lines", full)  # would be called to compute
    with pytest.raises(StorageError, match=r"new\.npy cannot be written: No space left on device\. 38,528 bytes"):
        fcnn.chunked_matmul(A, B, tmp_path / "new.npy", **OPTIONS)
    assert not (tmp_path / "new.npy").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process")
def test_a_file_beyond_the_limit_of_the_process(tmp_path: Path) -> None:
    """A write that the system itself refuses."""
    code = """
        import resource, signal, sys
        import numpy as np
        import fcnn_gpu as fcnn
        folder = sys.argv[1]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        out = np.lib.format.open_memmap(folder + "/out.npy", "w+", np.float32, (300, 300))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        A = np.ones((300, 300), np.float32)
        try:
            fcnn.chunked_matmul(A, A, out, memory_limit=100_000, rates=fcnn.Rates(1e10), backend="numpy")
        except OSError as error:
            print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert "out.npy cannot be written: File too large. 90,000 bytes were to be written." in done.stdout, done.stderr
    assert "chunked_matmul had written" in done.stdout


class TestInterrupted:
    @pytest.mark.parametrize("backend", backends())
    @pytest.mark.parametrize("where", ["multiply", "finish", "load", "write"])
    def test_at_any_place_the_threads_end(
        self, files: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch, backend: Any, where: str
    ) -> None:
        from fcnn_gpu.large_matrix._device import DeviceEngine
        from fcnn_gpu.large_matrix._host import HostEngine

        A, B, out = files
        ops = backend()
        engine: Any = HostEngine if ops == "numpy" else DeviceEngine
        real, count = getattr(engine, where), [0]

        def interrupted(self: Any, *arguments: Any) -> Any:
            count[0] += 1
            if count[0] == 3:
                raise KeyboardInterrupt
            return real(self, *arguments)

        monkeypatch.setattr(engine, where, interrupted)
        with pytest.raises(KeyboardInterrupt) as found:
            fcnn.chunked_matmul(A, B, out, **OPTIONS | {"backend": ops})
        assert "chunked_matmul had written" in found.value.__notes__[0]
        assert no_threads_are_left()
        monkeypatch.setattr(engine, where, real)
        fcnn.chunked_matmul(A, B, out, **OPTIONS | {"backend": ops})
        assert (out == 100.0).all()

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    def test_ctrl_c_ends_a_process_at_once(self, tmp_path: Path) -> None:
        """In the middle of a product that would take a minute."""
        code = """
            import sys, threading
            import numpy as np
            import fcnn_gpu as fcnn
            folder = sys.argv[1]
            for name in "AB":
                np.save(f"{folder}/{name}.npy", np.ones((3000, 3000), np.float32))
            print("begins", flush=True)
            try:
                while True:
                    fcnn.chunked_matmul(f"{folder}/A.npy", f"{folder}/B.npy", memory_limit="1 MB",
                                        rates=fcnn.Rates(1e10), backend="numpy")
            except KeyboardInterrupt:
                print("threads", [t.name for t in threading.enumerate()], flush=True)
            """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.7)
            process.send_signal(signal.SIGINT)
            try:
                text, _ = process.communicate(timeout=30)
            finally:
                process.kill()
        assert text == "threads ['MainThread']\n"


class TestWriteBehind:
    def test_jobs_are_written_in_order_and_slots_waited_for(self) -> None:
        written: list[int] = []
        gate = threading.Event()

        def write(job: int, release: Any) -> None:
            assert gate.wait(30)
            written.append(job)
            release()

        with WriteBehind(write, 2) as writer:
            writer.put(0, 0)
            writer.put(1, 1)
            assert not written
            gate.set()
            writer.wait(1)
            assert written == [0, 1]
            writer.put(2, 0)
        assert written == [0, 1, 2]

    def test_an_error_is_raised_at_the_end_at_the_latest(self) -> None:
        def fail(job: int, release: Any) -> None:
            raise StorageError(28, "full")

        with pytest.raises(StorageError, match="full"), WriteBehind(fail, 1) as writer:
            writer.put(0, 0)
        with WriteBehind(fail, 1) as writer:
            writer.put(0, 0)
            with pytest.raises(StorageError, match="full"):
                writer.wait(0)
            writer._error = None

    def test_an_error_of_the_caller_goes_before_it(self) -> None:
        def fail(job: int, release: Any) -> None:
            raise StorageError(28, "full")

        def work() -> None:
            with WriteBehind(fail, 1) as writer:
                writer.put(0, 0)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            work()


def test_a_result_that_does_not_fit_in_memory_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    A, B = np.ones((4, 1), np.float32), np.ones((1, 4), np.float32)

    def no_memory(*_: object) -> None:
        raise MemoryError("Unable to allocate")

    monkeypatch.setattr("fcnn_gpu.large_matrix._matmul.np.empty", no_memory)
    with pytest.raises(MemoryError, match=r"Pass out: the path of a new \.npy file"):
        fcnn.chunked_matmul(A, B, **OPTIONS)


def test_ops_of_a_user_are_taken_as_they_are() -> None:
    A, B = np.ones((4, 3), np.float32), np.ones((3, 4), np.float32)
    assert (fcnn.chunked_matmul(A, B, memory_limit=4000, rates=RATES, backend=Ops()) == 3.0).all()
