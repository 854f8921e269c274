"""The tests that need a GPU, by pytest, in several processes; what they said is kept test by test."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcnn_gpu.bench._worker import Worker, WorkerError
from fcnn_gpu.bench.environment import Environment

from . import pytest_log
from .compilation import n_cpus
from .plan import Plan
from .results import Fault, FileResults, PytestRun, TestFailure
from .setting import ROOT

AREAS = (
    ("tests/kernels",),
    ("tests", "--ignore=tests/kernels", "--ignore=tests/bench"),
    ("tests/bench",),
)
"""One run of pytest each, the most important first: a fault of one, or its length, leaves the others' results alone."""
_MARGIN = 10.0
"""Pytest is ended so many seconds before the part is, so that what it said is read."""
_LEAST = 10.0
_MOST_PROCESSES = 8
"""They share one GPU, whose kernels run one after the other; what they do not share is the interpreter."""
_LINES_KEPT = 25
_HANGS = 120
"""A test that takes so many seconds has its threads' tracebacks printed."""
_ENDED = -9


def measure(plan: Plan) -> Iterator[PytestRun | Fault | str]:
    """pytest -m gpu, area by area, within the part's time. Raises if no test ran in any of them."""
    end = time.monotonic() + plan.seconds - _MARGIN
    n_run = 0
    for area in AREAS:
        left = end - time.monotonic()
        if left < _LEAST:
            yield Fault(f"pytest -m gpu {' '.join(area)}", "not begun: the areas before it left no time")
            continue
        options = ["--software-cuda"] if plan.small else []
        run = run_tests(["-m", "gpu", *area, *options, *plan.selection], left, variables=_visible(plan.device))
        if plan.select and run.n_collected == 0 and not run.failures:
            yield f"-k '{plan.select}' selects no test of {area[0]}."
            continue
        n_run += run.passed + run.failed
        yield run
    if not n_run:
        raise RuntimeError("no test ran on the GPU")


def _visible(device: int) -> dict[str, str]:
    """What makes CUDA device number `device` the one that tests use, which is number 0."""
    if device == 0:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[device] if visible else str(device)}


def run_tests(
    selection: Sequence[str],
    limit: float,
    prefix: Sequence[str] = (),
    variables: dict[str, str] | None = None,
) -> PytestRun:
    """pytest with `selection` in the repository, ended after `limit` seconds together with all that it started.

    Results are what its plugin pytest_log wrote until then. Warnings of the libraries are not errors here: a newer
    version's must not hide what the kernels do. `prefix` is a program that runs pytest, such as compute-sanitizer;
    then there is one process of pytest alone.
    """
    n = 1 if prefix or importlib.util.find_spec("xdist") is None else max(1, min(_MOST_PROCESSES, n_cpus() // 2))
    options = ["-v", "-W", "default", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    options += [f"--rootdir={ROOT}", "-p", pytest_log.__name__, "-o", f"faulthandler_timeout={_HANGS}"]
    if not prefix and importlib.util.find_spec("xdist"):  # also for one: it starts another where that has ended
        options += ["-n", str(n), f"--max-worker-restart={20 * n}"]
    said = " ".join([*(Path(part).name for part in prefix[:1]), *prefix[1:], "python -m pytest", *selection])
    with tempfile.TemporaryDirectory() as folder:
        log, output = Path(folder) / "log", Path(folder) / "output"
        command = [*prefix, sys.executable, "-m", "pytest", *selection, *options]
        # Beside others, a test's products gain nothing from threads, which would wait for each other by spinning.
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = os.environ | one_thread | {pytest_log.LOG: str(log)} | (variables or {})
        start = time.perf_counter()
        status = _run_to_the_end(command, dict(environment), output, limit)
        seconds = time.perf_counter() - start
        text = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
        found = read_log(log.read_text(encoding="utf-8") if log.is_file() else "")
    failures = found.failures + [
        TestFailure(test, "it had begun and not ended when pytest ended") for test in sorted(found.running)
    ]
    last = "" if status in (0, 1, 5) and not prefix else "\n".join(text.splitlines()[-_LINES_KEPT:])
    return PytestRun(said, status, seconds, found.files, failures, found.skips, last, n, found.n_collected)


def _run_to_the_end(command: list[str], variables: dict[str, str], output: Path, limit: float) -> int:
    """The exit status of a command, −n for a signal. It and all that it starts end with this process, or by the limit.

    A process between does that: it leads a group of its own, and ends it when its pipe closes or its time is over.
    """
    between = Environment(variables, {}, {}, threads=1, cpus=None, notes=[])
    with Worker("pytest", between, limit, limit) as worker:
        try:
            return worker.call(run_command, command, str(ROOT), str(output))
        except WorkerError:
            return _ENDED


def run_command(command: list[str], folder: str, output: str) -> int:
    """The exit status of a command whose output goes to a file."""
    with open(output, "wb") as sink:
        return subprocess.run(command, cwd=folder, stdout=sink, stderr=subprocess.STDOUT, check=False).returncode


@dataclass
class Log:
    """What the tests said."""

    files: list[FileResults] = field(default_factory=list)
    failures: list[TestFailure] = field(default_factory=list)
    skips: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    """Tests that had begun and not ended."""
    n_collected: int | None = None


def read_log(text: str) -> Log:
    """What pytest_log's lines say; a last line that was not written to its end is left out.

    >>> log = read_log('{"begun": "a.py::x"}\\n{"begun": "a.py::y"}\\n{"ended": "a.py::y"}\\n{"beg')
    >>> log.running
    ['a.py::x']
    """
    log = Log()
    outcomes: dict[str, str] = {}
    seconds: Counter[str] = Counter()
    skips: Counter[str] = Counter()
    running: dict[str, None] = {}
    for line in text.splitlines():
        try:
            record: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "collected" in record:
            log.n_collected = record["collected"]
        elif "begun" in record:
            running[record["begun"]] = None
        elif "ended" in record:
            running.pop(record["ended"], None)
        else:
            test, outcome = record["test"], record["outcome"]
            file = test.partition("::")[0]
            seconds[file] += record["seconds"]
            message = " ".join(record.get("message", "").split())
            if outcome == "failed":
                running.pop(test, None)
                when = "" if record["when"] in ("call", "???") else f"{record['when']}: "
                log.failures.append(TestFailure(test, when + (message or "no message"), record.get("details", "")))
            elif outcome == "skipped":
                skips[message or "no reason"] += 1
            if outcome != "passed" or record["when"] == "call":
                outcomes[test] = "failed" if "failed" in (outcome, outcomes.get(test)) else outcome
    counts: dict[str, Counter[str]] = {}
    for test, outcome in outcomes.items():
        counts.setdefault(test.partition("::")[0], Counter())[outcome] += 1
    log.files = [
        FileResults(file, n["passed"], n["failed"], n["skipped"], float(seconds[file]))
        for file, n in sorted(counts.items())
    ]
    log.skips, log.running = dict(skips), list(running)
    return log
