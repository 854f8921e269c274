"""Workers: calls, streams, and every way in which a process can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.bench._worker import Worker, WorkerError, call_apart, stream_apart
from fcnn_gpu.bench.environment import Environment, worker_environment
from fcnn_gpu.bench.settings import Settings

QUICK = Settings(threads=1, timeout=60)
ROOT = Path(__file__).parents[2]

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups")


@pytest.fixture
def environment() -> Environment:
    return worker_environment(QUICK)


def double(x: HostArray) -> HostArray:
    return 2 * x


def variable(name: str) -> str | None:
    return os.environ.get(name)


def affinity() -> set[int]:
    return os.sched_getaffinity(0)


def chatter() -> int:
    print("on standard output")
    os.system("echo from a child")
    return 7


def refuse(what: str) -> None:
    raise KeyError(f"no {what}")


def leave(status: int) -> None:
    print("the last words", file=sys.stderr, flush=True)
    os._exit(status)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def unpicklable() -> object:
    return lambda: None


def count(n: int, fail: bool = False) -> Iterator[int]:
    yield from range(n)
    if fail:
        raise ArithmeticError("no more numbers")


def start_child() -> tuple[int, int]:
    return os.getpid(), subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that init has yet to reap has)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_calls_go_there_and_back(environment: Environment) -> None:
    x = np.arange(300_000, dtype=np.float64)  # more than a pipe holds
    with Worker("doubler", environment, 60) as worker:
        np.testing.assert_array_equal(worker.call(double, x), 2 * x)
        np.testing.assert_array_equal(worker.call(double, x=x[:3]), [0, 2, 4])


def test_a_worker_has_its_environment_and_cpus(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker:
        assert worker.call(variable, "OMP_NUM_THREADS") == "1"
        if environment.cpus is not None:
            assert worker.call(affinity) == set(environment.cpus)


def test_the_callers_environment_stays(environment: Environment) -> None:
    before = dict(os.environ)
    with Worker("w", environment, 60) as worker:
        worker.call(variable, "HOME")
    assert dict(os.environ) == before


def test_what_libraries_print_does_not_disturb(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker:
        assert worker.call(chatter) == 7
        assert worker.call(chatter) == 7


def test_an_error_comes_back_as_text_and_the_worker_goes_on(environment: Environment) -> None:
    with Worker("the refuser", environment, 60) as worker:
        with pytest.raises(WorkerError, match=r"the refuser: KeyError: 'no luck'") as caught:
            worker.call(refuse, "luck")
        assert "in refuse" in caught.value.details
        np.testing.assert_array_equal(worker.call(double, np.ones(1)), [2])


def test_a_result_that_cannot_be_sent_is_an_error(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker, pytest.raises(WorkerError, match="pickle"):
        worker.call(unpicklable)


@posix
def test_a_death_is_reported_with_its_last_words(environment: Environment) -> None:
    with Worker("the leaver", environment, 60) as worker:
        with pytest.raises(WorkerError, match="the leaver: its process ended with exit status 3") as caught:
            worker.call(leave, 3)
        assert "the last words" in caught.value.details
        with pytest.raises(WorkerError, match="was ended before"):
            worker.call(double, np.ones(1))


@posix
def test_a_crash_is_reported_by_its_signal(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker, pytest.raises(WorkerError, match="signal SIGSEGV"):
        worker.call(segfault)


def test_a_hang_ends_after_the_timeout(environment: Environment) -> None:
    with Worker("the sleeper", environment, 1.0) as worker:
        with pytest.raises(WorkerError, match="the sleeper: no answer within 1 s"):
            worker.call(sleep, 600)
        assert worker._process.poll() is not None


def test_a_stream_yields_item_by_item(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker:
        assert list(worker.stream(count, 4)) == [0, 1, 2, 3]
        assert list(worker.stream(count, 0)) == []
        numbers = worker.stream(count, 2, fail=True)
        assert [next(numbers), next(numbers)] == [0, 1]
        with pytest.raises(WorkerError, match="ArithmeticError: no more numbers"):
            next(numbers)
        assert worker.call(double, np.ones(1))[0] == 2  # the worker outlives its function's error


def test_a_stream_that_is_left_ends_its_worker(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker:
        numbers = worker.stream(count, 10**9)
        next(numbers)
        numbers.close()  # type: ignore[attr-defined]
        assert worker._process.poll() is not None


def test_shortcuts_run_apart() -> None:
    assert call_apart(os.getpid, settings=QUICK) != os.getpid()
    assert list(stream_apart(partial(count, fail=False), 3, settings=QUICK)) == [0, 1, 2]


@posix
def test_closing_ends_what_the_worker_started(environment: Environment) -> None:
    with Worker("w", environment, 60) as worker:
        pids = worker.call(start_child)
    assert all(map(gone, pids))
    worker.close()  # again: harmless


SCRIPT = """
    import os, sys
    from fcnn_gpu.bench._worker import Worker
    from fcnn_gpu.bench.environment import worker_environment
    from fcnn_gpu.bench.settings import Settings
    from tests.bench.test_worker import sleep, start_child

    print("imported as", __name__, flush=True)  # once: a worker does not import the main module again
    with Worker("w", worker_environment(Settings(threads=1)), 60) as worker:
        print(*worker.call(start_child), flush=True)
        if sys.argv[1] == "wait":
            worker.call(sleep, 600)
"""


def start_script(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """A program without a guard around its main part, as a console script is one."""
    script = tmp_path / "program"
    script.write_text(textwrap.dedent(SCRIPT))
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


@posix
def test_workers_start_from_any_program(tmp_path: Path) -> None:
    output, errors = start_script(tmp_path, "go").communicate(timeout=60)
    assert errors == ""
    first, pids = output.splitlines()
    assert first == "imported as __main__"
    assert all(gone(int(pid)) for pid in pids.split())


@posix
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_program(tmp_path: Path, end: signal.Signals) -> None:
    program = start_script(tmp_path, "wait")
    assert program.stdout is not None
    program.stdout.readline()
    worker, child = map(int, program.stdout.readline().split())
    time.sleep(0.1)  # into the call
    os.killpg(program.pid, end)  # to the whole group, as a terminal does
    _, errors = program.communicate(timeout=30)
    assert program.returncode != 0
    assert ("KeyboardInterrupt" in errors) == (end is signal.SIGINT)
    assert gone(child)
    assert gone(worker)
