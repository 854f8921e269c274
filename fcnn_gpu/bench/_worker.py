"""A process of its own for each library: clean environment, fixed CPUs, calls over a pipe, errors as text, no hang.

A worker is a fresh interpreter, started by its command line: unlike `multiprocessing`, this neither imports the
caller's main module again nor needs the caller's own environment changed. Calls go to its standard input and answers
come from its standard output, pickled; what its libraries print goes to a file that only an error message quotes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Any, ParamSpec, TypeVar

from .environment import Environment, worker_environment
from .settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

_BOOTSTRAP = """
import json, os, sys
start = json.loads(sys.argv[1])
if start["cpus"] is not None:
    os.sched_setaffinity(0, start["cpus"])  # before any library starts its threads: they inherit it
sys.path[:] = start["path"]
from fcnn_gpu.bench._worker import serve
serve()
"""
_LENGTH = struct.Struct("<Q")
_WAKE_SECONDS = 0.5
"""So often a waiting call wakes: on Windows, Ctrl-C reaches Python only between two waits."""
_EXIT_SECONDS = 2.0
"""A crashing process may still write its core after its pipe is closed."""
_TAIL = 2000
"""Characters of a dead worker's standard error that are quoted."""


class WorkerError(RuntimeError):
    """A worker's function raised, or the worker died or gave no answer in time.

    `summary` is one line; `details` the traceback in the worker, or the end of what it wrote to standard error.
    """

    def __init__(self, name: str, summary: str, details: str = "") -> None:
        super().__init__(f"{name}: {summary}" + (f"\n{details}" if details else ""))
        self.summary = summary
        self.details = details


class Worker:
    """One process that calls functions on request, one at a time.

    A function is pickled by reference, so it stands at the top of a module; its arguments and results are pickled.
    Leaving the context, or an error of the process itself, ends it together with every process that it started.
    """

    def __init__(self, name: str, environment: Environment, timeout: float, lifetime: float | None = None) -> None:
        """`timeout`: seconds for one answer; `lifetime`: for all of them, from now on."""
        self.name = name
        self._timeout = timeout
        self._lifetime = lifetime
        self._end_of_life = float("inf") if lifetime is None else time.monotonic() + lifetime
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        start = json.dumps({"cpus": environment.cpus, "path": sys.path})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, start],
                env=environment.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,  # Ctrl-C goes to this process alone, and a whole family can be ended at once
            )
        except BaseException:
            self._stderr.close()
            raise
        self._listener = threading.Thread(target=self._listen, name=f"answers of {name}", daemon=True)
        self._listener.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """function(*args, **kwargs) in the worker. Raises WorkerError if it fails there, dies or takes too long."""
        self._send(("call", function, args, kwargs))
        return self._receive()[1]

    def stream(self, function: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        """What the generator function(*args, **kwargs) yields, item by item, while it goes on in the worker.

        Whoever stops before its end ends the worker.
        """
        self._send(("stream", function, args, kwargs))
        ended = False
        try:
            while True:
                kind, item = self._receive()
                if kind == "end":
                    ended = True
                    return
                yield item
        except WorkerError:
            ended = True
            raise
        finally:
            if not ended:
                self.close()

    def close(self) -> None:
        """End the process and those that it started. There is nothing to save in them. Harmless when repeated."""
        if self._stderr.closed:
            return
        self._end()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was not sent has nobody to read it
                pipe.close()
        self._stderr.close()

    def _end(self) -> int:
        """Kill the family of the worker, if it is still there; the exit status."""
        process = self._process
        if process.returncode is None:  # not reaped: its number cannot belong to another group yet
            if hasattr(os, "killpg"):
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    process.kill()
            else:
                process.kill()
        return process.wait()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        except (OSError, ValueError):  # a closed pipe
            raise self._died() from None

    def _receive(self) -> tuple[str, Any]:
        deadline = min(time.monotonic() + self._timeout, self._end_of_life)
        while True:
            try:
                answer = self._answers.get(timeout=_WAKE_SECONDS)
                break
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
            tail = self._tail()
            self.close()
            if deadline == self._end_of_life:
                raise WorkerError(self.name, f"not done within {self._lifetime:g} s", tail)
            raise WorkerError(
                self.name, f"no answer within {self._timeout:g} s (raise the timeout if it may need longer)", tail
            )
        if answer is None:
            raise self._died()
        kind, payload = pickle.loads(answer)
        if kind == "error":
            summary, details = payload
            raise WorkerError(self.name, summary, details)
        return kind, payload

    def _died(self) -> WorkerError:
        if self._stderr.closed:
            return WorkerError(self.name, "its process was ended before")
        self._wait_for_exit()
        status = self._end()
        tail = self._tail()
        self.close()
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return WorkerError(self.name, f"its process ended with {reason}", tail)

    def _wait_for_exit(self) -> None:
        """Let a process whose pipe is closed end by itself, so that its status says why; do not reap it yet."""
        deadline = time.monotonic() + _EXIT_SECONDS
        while time.monotonic() < deadline:
            if hasattr(os, "waitid"):
                if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return
            elif self._process.poll() is not None:
                return
            time.sleep(0.01)

    def _tail(self) -> str:
        size = self._stderr.seek(0, io.SEEK_END)
        self._stderr.seek(max(0, size - _TAIL))
        return self._stderr.read().decode(errors="replace").strip()

    def _listen(self) -> None:
        """Pass answers on, then None when there can be no more: reading a pipe itself knows no time limit."""
        assert self._process.stdout is not None
        try:
            while True:
                self._answers.put(_read(self._process.stdout))
        except (EOFError, OSError, ValueError):
            self._answers.put(None)


def call_apart(function: Callable[..., T], *args: Any, settings: Settings, backend: str = "numpy", **kwargs: Any) -> T:
    """function(*args, **kwargs) in a fresh process with the environment of the benchmark's workers."""
    with _apart(function, settings, backend) as worker:
        return worker.call(function, *args, **kwargs)


def stream_apart(
    function: Callable[..., Iterator[T]], *args: Any, settings: Settings, backend: str = "numpy", **kwargs: Any
) -> Iterator[T]:
    """What the generator function(*args, **kwargs) yields in a fresh process, as `call_apart` runs it."""
    with _apart(function, settings, backend) as worker:
        yield from worker.stream(function, *args, **kwargs)


def _apart(function: Callable[..., Any], settings: Settings, backend: str) -> Worker:
    inner = getattr(function, "func", function)  # of a functools.partial
    name = f"{inner.__module__.rpartition('.')[2]}.{inner.__qualname__}"
    return Worker(name, worker_environment(settings, backend), settings.timeout)


def serve() -> None:
    """The worker's side: answer calls until the caller is gone, then end at once, also in the middle of a call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                messages.put(_read(calls))
        except (EOFError, OSError):
            if hasattr(os, "killpg"):
                os.killpg(0, signal.SIGKILL)  # this process leads a group of its own: its children go with it
            os._exit(0)

    threading.Thread(target=listen, name="calls", daemon=True).start()
    while True:
        _answer(messages.get(), answers)


def _answer(message: bytes, answers: IO[bytes]) -> None:
    def reply(kind: str, payload: Any) -> None:
        _write(answers, pickle.dumps((kind, payload), pickle.HIGHEST_PROTOCOL))

    try:
        kind, function, args, kwargs = pickle.loads(message)
        if kind == "call":
            reply("result", function(*args, **kwargs))
        else:
            for item in function(*args, **kwargs):
                reply("item", item)
            reply("end", None)
    except Exception as error:
        line = " ".join(str(error).split())
        reply("error", (f"{type(error).__name__}: {line}" if line else type(error).__name__, traceback.format_exc()))


def _write(pipe: IO[bytes], payload: bytes) -> None:
    pipe.write(_LENGTH.pack(len(payload)))
    pipe.write(payload)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    return _read_exactly(pipe, length)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
