"""The parts of the GPU report that run pytest, compile the kernels, and run pytest under the sanitizer."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import (
    compilation,
    sanitizer,
    suite,
)
from benchmarks.gpu.goals import targets_table
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import (
    Fault,
    FileResults,
    PytestRun,
)
from fcnn_gpu.backend._kernel_source import all_instances
from fcnn_gpu.backend._kernels import ArchitectureError, KernelCompileError
from tests.gpu.report_cases import outcome

QUICK = Plan("cupy:0", quick=True)


# The tests' own part


def test_pytest_runs_and_its_results_are_read() -> None:
    run = suite.run_tests(["tests/bench/test_settings.py", "-k", "unusable or list"], 120.0)
    assert (run.exit_status, run.failed, run.fault) == (0, 0, ""), run.last_lines
    assert [file.file for file in run.files] == ["tests/bench/test_settings.py"]
    assert run.passed > 5
    assert run.n_collected == run.passed
    assert run.command == "python -m pytest tests/bench/test_settings.py -k unusable or list"


FAULTY = """
import os, pytest, sys, time, types
def test_first(): pass
def test_wrong(): assert 1 == 2
@pytest.mark.skip(reason="no such device")
def test_skipped(): pass
@pytest.fixture
def broken(): raise OSError("no room")
def test_setup(broken): pass
def test_dies(): os._exit(7)
def test_last(): pass
"""


def test_each_test_is_told_by_name_with_its_message_and_traceback(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(FAULTY)
    (tmp_path / "test_b.py").write_text("import nonsense_that_is_not_there\n")
    run = suite.run_tests([str(tmp_path)], 120.0)
    assert run.exit_status != 0
    assert (run.passed, run.skipped) == (2, 1), "the process that died has a successor"
    failures = {failure.test.rpartition("/")[2]: failure for failure in run.failures}
    assert set(failures) == {"test_a.py::test_wrong", "test_a.py::test_setup", "test_a.py::test_dies", "test_b.py"}
    assert failures["test_a.py::test_wrong"].message == "assert 1 == 2"
    assert "def test_wrong" in failures["test_a.py::test_wrong"].details
    assert failures["test_a.py::test_setup"].message == "setup: OSError: no room"
    assert "crashed while running" in failures["test_a.py::test_dies"].message
    assert "nonsense_that_is_not_there" in failures["test_b.py"].message
    assert run.skips == {"no such device": 1}
    assert run.fault == "4 tests failed"


LOST = """
import sys, types
import pytest
class CUDARuntimeError(Exception):
    def __init__(self, status): super().__init__(f"status {status}"); self.status = status
said = []
def synchronize():
    if said: raise CUDARuntimeError(said[0])
runtime = types.SimpleNamespace(deviceSynchronize=synchronize, CUDARuntimeError=CUDARuntimeError)
@pytest.fixture(autouse=True)
def cupy(monkeypatch):
    sys.modules["cupy"] = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
def test_fine(): assert not said
def test_loses(): said.append(STATUS); synchronize()
def test_next(): synchronize()
"""


@pytest.mark.parametrize(("status", "blamed"), [(700, ["test_loses"]), (900, ["test_loses", "test_next"])])
def test_a_process_that_lost_its_device_ends_and_the_next_test_has_another(
    tmp_path: Path, status: int, blamed: list[str]
) -> None:
    """900 is a capture that forbids the call: it is over with the capture, so the process stays."""
    (tmp_path / "test_lost.py").write_text(LOST.replace("STATUS", str(status)))
    run = suite.run_tests([str(tmp_path)], 120.0)
    assert sorted({failure.test.rpartition("::")[2] for failure in run.failures}) == blamed
    assert f"CUDARuntimeError: status {status}" in run.failures[0].message
    assert run.passed == 3 - len(blamed)


def test_pytest_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    began = tmp_path / "began"
    (tmp_path / "test_slow.py").write_text(
        "import os, time, pathlib\ndef test_first(): pass\n"
        f"def test_slow(): pathlib.Path({str(began)!r}).write_text(str(os.getpid())); time.sleep(600)\n"
    )
    for seconds in (3.0, 12.0):  # a busy machine may not begin within the first
        run = suite.run_tests([str(tmp_path)], seconds)
        assert run.exit_status < 0
        if began.exists():
            break
    assert run.last_lines
    assert run.passed == 1
    (failure,) = run.failures
    assert failure.test.endswith("::test_slow")
    assert "had begun and not ended" in failure.message
    for _ in range(100):
        if not Path(f"/proc/{began.read_text()}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the test still runs")


@pytest.mark.parametrize(
    ("files", "status", "collected", "fault"),
    [
        ([], 0, None, "no test passed: none ran"),
        ([("a.py", 0, 0, 5)], 0, 5, "no test passed: all 5 were skipped"),
        ([("a.py", 3, 0, 0)], 0, 5, "only 3 of 5 tests ran"),
        ([("a.py", 3, 0, 0)], -9, 5, "pytest ended with exit status -9 (no driver)"),
        ([("a.py", 3, 0, 2)], 0, 5, ""),
    ],
)
def test_a_run_in_which_tests_are_missing_is_no_success(files: Any, status: int, collected: Any, fault: str) -> None:
    run = PytestRun(
        "pytest",
        status,
        1.0,
        [FileResults(name, n, m, k, 0.0) for name, n, m, k in files],
        [],
        {},
        "x\nno driver\n",
        1,
        collected,
    )
    assert run.fault == fault
    (row,) = [row for row in targets_table([outcome("tests", run)]).rows if row[0].text == "pytest"]
    assert row[-1].text == ("not met" if fault else "met")


def test_some_of_the_tests_meet_no_target() -> None:
    some = replace(PASSED, command="python -m pytest -m gpu tests -k adam")
    (row,) = [row for row in targets_table([outcome("tests", some)]).rows if "pytest" in row[0].text]
    assert row[-1].text == "not measured"


def run_of(monkeypatch: pytest.MonkeyPatch, *runs: PytestRun) -> list[list[str]]:
    """What pytest is called with, when it ends as `runs` do."""
    asked: list[list[str]] = []

    def run_tests(selection: list[str], limit: float, variables: Any) -> PytestRun:
        asked.append(selection)
        return runs[len(asked) - 1]

    monkeypatch.setattr(suite, "run_tests", run_tests)
    return asked


PASSED = PytestRun("pytest", 0, 1.0, [FileResults("a.py", 3, 0, 0, 1.0)], [], {}, "", 1, 3)
EMPTY = PytestRun("pytest", 5, 1.0, [], [], {}, "", 1, 0)


def test_areas_hold_every_test_once_the_kernels_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = run_of(monkeypatch, PASSED, PASSED, PASSED)
    assert list(suite.measure(Plan())) == [PASSED] * 3
    assert [selection[:3] for selection in asked] == [["-m", "gpu", area[0]] for area in suite.AREAS]
    others = [option.removeprefix("--ignore=") for option in asked[1] if option.startswith("--ignore=")]
    assert sorted(others) == sorted(area[0] for area in suite.AREAS if area[0] != "tests")


def test_no_test_in_any_area_is_a_failed_part(monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(monkeypatch, EMPTY, EMPTY, EMPTY)
    with pytest.raises(RuntimeError, match="no test ran"):
        list(suite.measure(replace(QUICK, select="nonsense")))
    run_of(monkeypatch, EMPTY, PASSED, EMPTY)
    assert [type(found) for found in suite.measure(replace(QUICK, select="capture"))] == [str, PytestRun, str]


def test_areas_that_no_time_is_left_for_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(monkeypatch, PASSED)
    clock = iter([0.0, 0.0, 500.0, 500.0])
    monkeypatch.setattr("benchmarks.gpu.suite.time.monotonic", lambda: next(clock))
    found = list(suite.measure(replace(QUICK, seconds=510.0)))
    assert found[0] == PASSED
    assert [fault.what.split()[3] for fault in found[1:] if isinstance(fault, Fault)] == ["tests", "tests/bench"]


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("4,7", "7")])
def test_tests_run_on_the_device_that_is_reported_on(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert suite._visible(1) == {"CUDA_VISIBLE_DEVICES": expected}
    assert suite._visible(0) == {}


# Compilation


class Asked:
    """A device that notes what it is to compile: NVRTC itself compiles every instance in tests/kernels."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def prepare(self, kernel: Any, instance: Any) -> None:
        self.asked.append((kernel.stem, instance.expression))
        if kernel.stem == "adam":
            raise KernelCompileError(f"NVRTC cannot compile {instance.expression}\nmore")
        if instance.first_architecture > 75:
            raise ArchitectureError(f"{instance.expression} needs a later GPU")


def test_kernels_are_compiled_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Asked()

    class Here:
        def __init__(self, n: int, mp_context: Any) -> None: ...

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *arguments: Any) -> None: ...

        def submit(self, function: Any, number: int, part: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(compilation.compile_with(device, part))  # type: ignore[arg-type]
            return done

    monkeypatch.setattr(compilation, "ProcessPoolExecutor", Here)
    found = compilation.compile_all(0, 3)
    later = [instance for _, instance in all_instances() if instance.first_architecture > 75]
    assert len(device.asked) == len(set(device.asked)) == len(list(all_instances())) == found.n_instances + len(later)
    assert later
    assert found.failures
    assert all(failure.startswith("NVRTC cannot compile adam") for failure in found.failures)
    assert found.fault == f"{len(found.failures)} kernel instances do not compile"


# The sanitizer


def test_the_sanitizer_is_run_over_the_kernel_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def run(selection: Any, limit: float, prefix: Any, variables: Any) -> PytestRun:
        assert limit == 90.0
        asked.append((list(selection), prefix[:3], variables))
        return PytestRun("pytest", 0, 1.0, [], [], {}, "ERROR SUMMARY: 0 errors")

    monkeypatch.setattr(sanitizer, "run_tests", run)
    monkeypatch.setattr(sanitizer, "find", lambda: "/opt/compute-sanitizer")
    assert len(list(sanitizer.measure(replace(QUICK, select="adam", seconds=200.0)))) == 2
    exact = {"FCNN_TEST_EXACT_ALLOCATIONS": "1"}
    tests = ["-m", "gpu", "tests/kernels", "-k", "adam"]
    assert asked == [(tests, ["/opt/compute-sanitizer", "--tool", tool], exact) for tool in ("memcheck", "racecheck")]


def test_without_the_sanitizer_a_fault_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sanitizer, "_PLACES", ())
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert list(sanitizer.measure(QUICK)) == [Fault("compute-sanitizer", sanitizer.HOW_TO_INSTALL)]
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert sanitizer.find() == str(tool)
