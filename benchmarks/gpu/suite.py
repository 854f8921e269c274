"""The tests that need a GPU, and before them every kernel compiled, by several processes at once."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from fcnn_gpu.backend._kernel_source import all_instances, kernels
from fcnn_gpu.backend._kernels import ArchitectureError, CudaDevice, KernelCompileError

from .environment import ROOT
from .plan import Plan
from .results import Compilation, FileResults, PytestRun

SECONDS = 150.0
"""For all of it; pytest is ended a little before, so that the results until then are kept."""
_MARGIN = 10.0
_MOST_PROCESSES = 8
_TEST_PROCESSES = 4
"""They share one GPU, whose kernels run one after the other; what they do not share is the interpreter."""
_LINES_KEPT = 25


def measure(plan: Plan) -> Iterator[Compilation | PytestRun]:
    """Compile everything into CuPy's cache on the disk, then run pytest."""
    start = time.perf_counter()
    yield compile_all()
    spent = time.perf_counter() - start
    yield run_tests(["-m", "gpu", *plan.selection], max(10.0, SECONDS - spent - _MARGIN))


def compile_all(n_processes: int | None = None) -> Compilation:
    """Every instance that this device may have through `CudaDevice.prepare`, as its first launch would."""
    instances = [(stem, instance.kernel, instance.arguments) for stem, instance in all_instances()]
    n = n_processes or max(1, min(_MOST_PROCESSES, os.cpu_count() or 1))
    start = time.perf_counter()
    # Spawned: a process that has touched CUDA must not be forked.
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_compile, [instances[i::n] for i in range(n)]))
    failures = [failure for _, some in found for failure in some]
    return Compilation(sum(count for count, _ in found), n, time.perf_counter() - start, failures)


def _compile(instances: Sequence[tuple[str, str, tuple[str, ...]]]) -> tuple[int, list[str]]:
    """How many of them are for this device, and the first lines of the errors."""
    device = CudaDevice()
    n_compiled, failures = len(instances), []
    for stem, name, arguments in instances:
        kernel = kernels(stem)[name]
        try:
            device.prepare(kernel, kernel.instance(arguments))
        except ArchitectureError:
            n_compiled -= 1
        except KernelCompileError as error:
            failures.append(str(error).splitlines()[0])
        except Exception as error:  # CuPy's own: a line of the report, and the other kernels are compiled all the same
            failures.append(f"{name}<{', '.join(arguments)}>: {type(error).__name__}: {' '.join(str(error).split())}")
    return n_compiled, failures


def run_tests(
    selection: Sequence[str],
    limit: float,
    prefix: Sequence[str] = (),
    variables: dict[str, str] | None = None,
) -> PytestRun:
    """pytest with `selection` in the repository, ended after `limit` seconds.

    Results are read from pytest's own list (JUnit's XML), or, where it was ended before it wrote one, from its lines.
    Warnings of the libraries are not errors here: a newer version's must not hide what the kernels do. `prefix` is a
    program that runs pytest, such as compute-sanitizer; then there is one process of pytest alone.
    """
    options = ["-v", "-W", "default", "--continue-on-collection-errors", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    if not prefix and importlib.util.find_spec("xdist") and (os.cpu_count() or 1) > _TEST_PROCESSES:
        options += ["-n", str(_TEST_PROCESSES)]
    said = " ".join([*(Path(part).name for part in prefix[:1]), *prefix[1:], "python -m pytest", *selection])
    with tempfile.TemporaryDirectory() as folder:
        listing, output = Path(folder) / "results.xml", Path(folder) / "output"
        command = [*prefix, sys.executable, "-m", "pytest", *selection, *options, f"--junit-xml={listing}"]
        start = time.perf_counter()
        with output.open("wb") as sink:
            # A session of its own: processes that pytest starts can be ended with it.
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | (variables or {}),
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
        seconds = time.perf_counter() - start
        text = output.read_text(encoding="utf-8", errors="replace")
        files, failures, skips = (
            read_results(listing.read_text(encoding="utf-8")) if listing.is_file() else read_lines(text)
        )
    last = "" if listing_is_enough(status, prefix) else "\n".join(text.splitlines()[-_LINES_KEPT:])
    return PytestRun(said, status, seconds, files, failures, skips, last)


def listing_is_enough(status: int, prefix: Sequence[str]) -> bool:
    """Whether the list of results says all that there is to say: pytest ended by itself, and nothing watched it."""
    return status in (0, 1, 5) and not prefix


def read_results(xml: str) -> tuple[list[FileResults], list[str], dict[str, int]]:
    """(results by file, failures, how many were skipped for each reason) of JUnit's XML."""
    if not xml:
        return [], [], {}
    counts: dict[str, Counter[str]] = {}
    seconds: dict[str, float] = {}
    failures: list[str] = []
    skips: Counter[str] = Counter()
    for case in ET.fromstring(xml).iter("testcase"):
        module = case.get("classname") or case.get("name") or "?"
        file = re.sub(r"\.Test\w+$", "", module).replace(".", "/") + ".py"
        fault = next((found for found in case if found.tag in ("failure", "error")), None)
        skipped = case.find("skipped")
        outcome = "failed" if fault is not None else "skipped" if skipped is not None else "passed"
        counts.setdefault(file, Counter())[outcome] += 1
        seconds[file] = seconds.get(file, 0.0) + float(case.get("time") or 0.0)
        if fault is not None:
            lines = (fault.get("message") or fault.text or "no message").strip().splitlines()
            failures.append(f"{file}::{case.get('name')}: {lines[0][:300]}")
        elif skipped is not None:
            skips[(skipped.get("message") or "no reason").splitlines()[0][:200]] += 1
    files = [
        FileResults(file, found["passed"], found["failed"], found["skipped"], seconds[file])
        for file, found in sorted(counts.items())
    ]
    return files, failures, dict(skips)


_LINE = re.compile(r"(?:^|\s)(tests/\S+?\.py|fcnn_gpu/\S+?\.py)(::\S+)?")
_OUTCOMES = {"PASSED": "passed", "FAILED": "failed", "ERROR": "failed", "SKIPPED": "skipped"}


def read_lines(output: str) -> tuple[list[FileResults], list[str], dict[str, int]]:
    """The same of what `pytest -v` printed: no times, no reasons.

    >>> files, failures, _ = read_lines("tests/test_a.py::test_x PASSED [ 9%]\\n[gw0] FAILED tests/test_a.py::test_y")
    >>> (files[0].passed, files[0].failed), failures
    ((1, 1), ['tests/test_a.py::test_y: pytest was ended before it said why'])
    """
    outcomes: dict[str, str] = {}
    for line in output.splitlines():
        words = set(line.split())
        outcome = next((word for word in _OUTCOMES if word in words), None)
        match = _LINE.search(line)
        if outcome and match:
            outcomes.setdefault(match[1] + (match[2] or ""), outcome)
    counts: dict[str, Counter[str]] = {}
    for test, outcome in outcomes.items():
        counts.setdefault(test.partition("::")[0], Counter())[_OUTCOMES[outcome]] += 1
    files = [FileResults(f, n["passed"], n["failed"], n["skipped"], 0.0) for f, n in sorted(counts.items())]
    failed = [test for test, outcome in outcomes.items() if _OUTCOMES[outcome] == "failed"]
    return files, [f"{test}: pytest was ended before it said why" for test in failed], {}
