"""Every part of the GPU report, measured on the CPU emulation at tiny sizes: its code has run before it meets a GPU."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from benchmarks.gpu import (
    compilation,
    contest,
    environment,
    fits,
    fused,
    graphs,
    kernels,
    large,
    products,
    sanitizer,
    setting,
    suite,
    turning_points,
)
from benchmarks.gpu.catalogue import ALL, PARTS, SANITIZER
from benchmarks.gpu.clocks import Load, Range
from benchmarks.gpu.file import from_json, to_json
from benchmarks.gpu.goals import targets_table
from benchmarks.gpu.outcome import Outcome, Report, Run
from benchmarks.gpu.page import to_markdown
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import (
    Choice,
    Compilation,
    Fact,
    Fault,
    FileResults,
    Fit,
    FusedTiming,
    Goal,
    KernelTiming,
    LargeProduct,
    ProductTiming,
    PytestRun,
    StepTiming,
    TestFailure,
)
from benchmarks.gpu.setting import Setting
from fcnn_gpu.backend._kernel_source import all_instances
from fcnn_gpu.backend._kernels import ArchitectureError, KernelCompileError
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench._json import ReportFileError
from fcnn_gpu.bench._worker import WorkerError
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.operations import OPERATIONS
from fcnn_gpu.bench.results import CaseResult, Ceilings, Crossover, CrossoverPoint, Timing
from fcnn_gpu.bench.settings import Settings
from tests.conftest import emulated_ops

QUICK = Plan("cupy:0", quick=True)
NET = Net((6, 5, 3))
CEILINGS = Ceilings("CUDA kernels executed on the CPU", "float32", 1e9, "8 × 8 × 8", 1e9, 2**20, 1e-6)


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> Ops:
    """The emulation in place of the device that a plan, or a model of the benchmark, asks for."""
    ops = emulated_ops()

    def resolve(name: Any = None) -> Ops:
        return name if isinstance(name, Ops) else ops if str(name).startswith("cupy") else Ops()

    for module in ("benchmarks.gpu.plan", "fcnn_gpu._network", "fcnn_gpu.model", "fcnn_gpu.bench.crossover"):
        monkeypatch.setattr(f"{module}.resolve_backend", resolve)
    monkeypatch.setattr("benchmarks.gpu.timing._GRAPH_SECONDS", 1e-4)
    monkeypatch.setattr("fcnn_gpu.bench.ceilings._COPIES", {True: (2**14, 2**16), False: (2**14,)})
    monkeypatch.setattr("fcnn_gpu.bench.ceilings._CALLS", 10)
    monkeypatch.setattr(graphs, "_TRIAL_CALLS", 2)
    for part in (kernels, products, fits, fused, graphs, large):
        monkeypatch.setattr(part, "warm_up", lambda ops, plan, seconds: None)
    return ops


def test_the_environment() -> None:
    facts = {fact.name: fact.value for fact in environment.measure(QUICK)}
    assert facts["numpy"] == np.__version__
    assert "nvidia-smi" in facts or "driver" in facts
    assert setting.code_digest() in facts["fcnn_gpu"]
    assert facts["needed for tests"]
    assert facts["needed for mnist"]
    assert facts["needed for --sanitizer"]
    assert {name for name in facts if "peers" in name} == {"needed for peers, torch", "needed for peers, jax"}
    assert not any("clock" in name and "idle" not in name and "most" not in name for name in facts)
    assert not any(Path(value).is_absolute() for value in facts.values())


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        ("1410 MHz, 700.00 W\n", 0, {"clock": "1410 MHz", "limit": "700.00 W"}),
        ("1410 MHz, [N/A]\n", 0, {"clock": "1410 MHz"}),
        ("No devices were found\n", 6, {"nvidia-smi": "failed: No devices were found"}),
    ],
)
def test_nvidia_smi(monkeypatch: pytest.MonkeyPatch, output: str, status: int, expected: dict[str, str]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    def run(command: list[str], **options: Any) -> Any:
        assert command[1] == "--query-gpu=clocks.sm,power.limit"
        assert command[-1] == "--id=0000:01:00.0"
        return subprocess.CompletedProcess(command, status, output, "")

    monkeypatch.setattr(subprocess, "run", run)
    facts = environment.nvidia_smi("0000:01:00.0", {"clocks.sm": "clock", "power.limit": "limit"})
    assert {fact.name: fact.value for fact in facts} == expected


def test_without_nvidia_smi_a_fact_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    (fact,) = environment.nvidia_smi("0")
    assert "not found" in fact.value
    assert setting.commit() == ""


@pytest.mark.parametrize(
    ("use", "name"), [("0 %", "power, idle"), ("37 %", "power, 37 % busy"), ("", "power, idle or not")]
)
def test_a_clock_at_rest_is_called_idle_and_one_under_load_is_not(use: str, name: str) -> None:
    facts = [Fact(environment._USE, use)] if use else []
    *_, power, limit = environment.at_rest(iter([*facts, Fact("power", "75 W"), Fact("power limit", "700 W")]))
    assert (power, limit) == (Fact(name, "75 W"), Fact("power limit", "700 W"))


def test_kernels_small_and_large() -> None:
    plan = replace(QUICK, quick=False)
    found = list(kernels.measure(plan, ["float32"], ["adam", "gather", "dropout_forward"], large_elements=3000))
    timings = [result for result in found if isinstance(result, KernelTiming)]
    assert [(t.operation, t.size) for t in timings] == [
        (name, size) for name in ("gather", "dropout_forward", "adam") for size in ("small", "large")
    ]
    for timing in timings:
        assert min(timing.seconds) > 0
        assert timing.timed_as == "graph"
        assert timing.share > 0
        assert timing.bytes > 0
        assert {use.expression.partition("<")[0] for use in timing.kernels} & {
            "adam", "gather_rows", "dropout_forward", "gather_rows_scaled"
        }  # fmt: skip
    assert isinstance(found[0], Ceilings)


def test_every_operation_has_large_sizes() -> None:
    for operation in OPERATIONS.values():
        if operation.family == "gemm":
            continue
        sizes = kernels.large_sizes(operation, 4096)
        assert sizes.keys() == operation.sizes[-1].keys()
        given = operation.draw(kernels.Repeating(0), **sizes)
        assert max(array.size for array in given.values()) in range(2048, 8192 + 1), operation.name


def test_repeated_numbers_are_as_many_as_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_BLOCK", 8)
    drawn = kernels.Repeating(0).normal(size=(3, 8))
    assert drawn.shape == (3, 8)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert len(set(drawn[0])) == 8
    assert sorted(kernels.Repeating(0).permutation(9)) == list(range(9))


def test_an_operation_that_fails_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "prepare", lambda *arguments: 1 / 0)
    faults = [r for r in kernels.measure(QUICK, ["float32"], ["adam"]) if isinstance(r, Fault)]
    assert faults == [Fault("adam in float32, small", "ZeroDivisionError: division by zero")]


def test_noted_launches_leave_the_launcher_as_it_was(emulated: Any) -> None:
    counter = emulated.zeros(1, np.int64)
    device = emulated._launcher.device
    with kernels.noted_launches(emulated) as found:
        emulated.advance(counter, 1)
        emulated.advance(counter, 1)
    assert emulated._launcher.device is device
    assert [(use.expression, use.grid, use.registers) for use in found] == [("advance", 1, None)] * 2


def test_products_of_a_net() -> None:
    found = list(products.measure(QUICK, ["float32", "float64"], [(NET, 7)], products=(8,), copies=(256,)))
    assert [c.dtype for c in found if isinstance(c, Ceilings)] == ["float32", "float64"]
    timings = [result for result in found if isinstance(result, ProductTiming)]
    expected = NET.products(7, "train")
    for precision in ("float32", "float64"):
        mine = [t for t in timings if t.precision == precision]
        assert sorted((t.m, t.n, t.k) for t in mine) == sorted(expected)
        assert all(min(t.seconds) > 0 for t in mine)
    chosen = [result for result in found if isinstance(result, Choice)]
    assert {choice.layer.split()[0] for choice in chosen} >= {"dense_forward", "dense_backward"}
    assert len({choice.layer for choice in chosen}) == len(chosen)


@pytest.mark.parametrize("what", ["forward", "weight gradient", "input gradient"])
def test_a_product_is_the_one_it_says(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    multiplied: list[tuple[int, int, int]] = []
    monkeypatch.setattr(Ops, "gemm", lambda self, A, B, out: multiplied.append((A.shape[0], B.shape[1], A.shape[1])))
    product = products.Product(what, 5, 3, 7)
    product.call(Ops(), "float32")()
    assert multiplied == [product.mnk]


def test_products_of_a_precision_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "ops", lambda self: Ops())
    note = next(products.measure(QUICK, ["bfloat16"], [(NET, 7)]))
    assert "Products in bfloat16: not measured. ValueError" in str(note)


def test_graphs_of_several_steps() -> None:
    found = list(graphs.measure(QUICK, [(Net((3, 2)), 1024)], [0, 1, 4, 16]))
    assert [t.steps_per_graph for t in found] == [0, 1, 4]  # the data has 8 batches
    for timing in found:
        assert len(timing.seconds) == len(timing.host_seconds) == len(timing.device_seconds) == 3
        assert min(timing.seconds) > 0


def test_products_larger_than_the_device() -> None:
    cases = [("float32", (320, 240, 400), 800_000), ("bfloat16", (160, 80, 160), 400_000)]
    found = list(large.measure(QUICK, cases, ceiling_side=16))
    assert [(x.precision, x.m, x.n, x.k, x.memory_limit) for x in found if isinstance(x, LargeProduct)] == [
        ("float32", 40, 30, 50, 100_000),
        ("bfloat16", 20, 10, 20, 50_000),
    ]
    for product in found:
        assert isinstance(product, LargeProduct)
        assert product.bytes_in >= (product.m + product.n) * product.k * (2 if product.precision == "bfloat16" else 4)
        assert product.bytes_out == product.m * product.n * 4
        assert product.share > 0


def test_a_wrong_product_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcnn, "chunked_matmul", lambda A, B, out, **options: out)
    found = list(large.measure(QUICK, [("float32", (80, 80, 80), 800_000)], ceiling_side=16))
    (fault,) = found
    assert isinstance(fault, Fault)
    assert fault.what == "float32, 10 × 10 × 10"
    assert "wrong: element" in fault.message


def test_small_networks_in_one_kernel() -> None:
    found = list(fused.measure(QUICK, ["float32", "float16"], [(6, 5, 3), (6, 200, 3)], [9, 20]))
    timings = [t for t in found if isinstance(t, FusedTiming)]
    assert [(t.net, t.batch, t.precision) for t in timings] == [("6-5-3", 9, "float32"), ("6-5-3", 9, "float16")]
    for timing in timings:
        assert len(timing.fused_seconds) == len(timing.separate_seconds) == 3
        assert min(timing.fused_seconds + timing.separate_seconds) > 0
    notes = [note for note in found if isinstance(note, str)]
    assert [note.partition(":")[0] for note in notes] == ["6-200-3 in float32", "6-200-3 in float16"]
    assert "200 units is too wide" in notes[0]


def samples(name: str) -> fits.Samples:
    rng = np.random.default_rng(0)
    X = rng.random((130, 784), np.float32)
    return fits.Samples(name, X, rng.integers(0, 10, 130), X[:20], rng.integers(0, 10, 20))


def test_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "NET", Net((784, 3, 10)))
    (fit,) = fits.measure(QUICK, epochs=2, samples=samples("MNIST"))
    assert isinstance(fit, Fit)
    assert (fit.epochs, fit.n_samples, len(fit.seconds), len(fit.epoch_seconds)) == (2, 130, 2, 2)
    assert fit.accuracy is not None
    assert 0 <= fit.accuracy <= 1


def test_without_mnist_random_numbers_are_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, download: bool) -> Any:
        assert not download
        raise FileNotFoundError("There is no MNIST here.")

    monkeypatch.setattr(fits, "load", missing)
    monkeypatch.setattr(fits, "NET", Net((784, 3, 10)))
    monkeypatch.setattr(fits, "random_samples", lambda seed: samples("random numbers of MNIST's shape"))
    note, fit = fits.measure(QUICK, epochs=1)
    assert str(note).startswith("MNIST is absent (There is no MNIST here.)")
    assert isinstance(fit, Fit)
    (row,) = [r for r in targets_table([outcome("mnist", fit)]).rows if "MNIST" in r[0].text]
    assert row[-1].text == "not measured"


def test_random_samples_have_mnists_shape() -> None:
    made = fits.random_samples(0, 12)
    assert (made.X.shape, made.X.dtype, made.y.shape) == ((12, 784), np.float32, (12,))


def test_the_crossover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning_points, "BATCHES", (1, 2))
    monkeypatch.setattr(turning_points, "WIDTHS", (2, 4))
    monkeypatch.setattr("fcnn_gpu.bench.crossover.StepTimer.__call__", lambda self, net, batch: 1.0 / batch)
    found = list(turning_points.measure(QUICK))
    assert [type(result) for result in found] == [Crossover, Crossover]


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
    run = suite.run_tests([str(tmp_path)], 10.0)
    assert run.exit_status < 0
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


# The contest, on the CPU: what is emulated cannot be reached from another process


def contested() -> list[Any]:
    settings = Settings(
        threads=1, rounds=2, round_seconds=1e-3, libraries=("sklearn",), start_together=True, timeout=120
    )
    cpu = replace(CEILINGS, device=Ops().describe())
    contests = [contest.Contest(Net((20, 16, 5)), 32, best_wanted=1e-9, product_share_wanted=2.0)]
    return list(contest.measure(replace(QUICK, backend="numpy"), contests, settings, ceiling=cpu))


def test_the_contest_gives_goals_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    found = contested()
    assert [type(result) for result in found] == [Ceilings, Goal, CaseResult]
    goal = found[1]
    assert (goal.best_wanted, goal.product_ceiling) == (1e-9, 1e9)
    assert goal.case.job == "train"
    assert found[2].job == "infer"


def test_a_case_that_fails_is_a_fault_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = case("float32", "6-5-3", 8)

    def time_case(net: Net, batch: int, jobs: Any, backend: str, settings: Settings, *, ceilings: Any) -> Any:
        if settings.precision == "bfloat16":
            raise WorkerError("fcnn_gpu", "out of memory", "traceback")
        return [measured]

    monkeypatch.setattr("fcnn_gpu.bench.rounds.time_case", time_case)
    contests = [contest.Contest(NET, 8, "bfloat16"), contest.Contest(NET, 8)]
    found = list(contest.measure(QUICK, contests, ceiling=CEILINGS))
    assert found[1:] == [
        Fault("6-5-3, batch 8, bfloat16", "fcnn_gpu: out of memory"), CEILINGS, Goal(measured, product_ceiling=1e9)
    ]  # fmt: skip


# The page


def outcome(name: str, *results: Any, failure: str = "") -> Outcome:
    return Outcome(PARTS.get(name, SANITIZER), 1.5, list(results), failure)


def case(precision: str, net: str, batch: int, *peers: Timing) -> CaseResult:
    timings = [Timing("fcnn_gpu", "", [1e-3, 1e-3], 1.0), *peers]
    device = CEILINGS.device
    return CaseResult(
        net, batch, "train", device, precision, 100, 1e6, 1e4, timings, [], [], "launches", "because", 5e-4, 2e-4
    )


CHOICE = Choice("dense_forward relu 5x3", "tiled", "tiled 2.0 µs, cuBLASLt 3.0 µs; separate: no")
H100 = Setting("NVIDIA H100 80GB HBM3", "GPU-1", "0000:01:00.0", "9.0", "0123456789ab", "abc", {"numpy": "2.5.2"})
LOAD = Load(
    60, 37, Range(1755.0, 1965.0, 1980.0), Range(320.0, 500.0, 690.0), Range(41.0, 50.0, 58.0), {"power cap": 3}, 345.0
)


def whole_report() -> Report:
    graph, eager = Timing("PyTorch", "CUDA graph", [1.5e-3] * 2, 1.0), Timing("PyTorch", "fused", [9e-3] * 2, 1.0)
    jit = Timing("JAX", "jit", [4e-3] * 2, 1.0)
    small, large = (
        KernelTiming("adam", "float32", size, "n 5", [1e-6], "graph", 1000.0, 1.3e9, 5e-7, [])
        for size in ("small", "large")
    )
    goal = Goal(case("float32", "784-128-10", 128, graph, eager, jit), 2.0, 6.0)
    wide = Goal(case("tf32", "784-4096-4096-10", 8192), 1.0, None, 0.75, 1e9)
    fit = Fit("MNIST", "784-128-10", 128, "float32", 10, 60000, 2.0, [0.5], [0.05], 0.98)
    outcomes = [
        outcome("environment", Fact("driver", "580")),
        outcome("compilation", Compilation(300, 8, 9.0, [])),
        outcome("tests", PytestRun("pytest -m gpu", 0, 9.0, [], [], {"x|y": 2}, "", 8, 2)),
        outcome("products", CEILINGS, ProductTiming("tf32", "forward", 2, 3, 4, [1e-6], "graph", 1e9), CHOICE),
        outcome("mnist", fit),
        outcome("graphs", *(StepTiming("6-5-3", 8, "float32", n, [1e-5], [9e-6], [1e-5]) for n in (0, 8))),
        outcome("fused", FusedTiming("6-5-3", 8, "float16", [2e-6], [6e-6])),
        outcome("large", LargeProduct("float32", 5, 4, 3, 10**9, [5, 4, 3], 9, 8, 0.1, [0.2], 1e3, 100.0, 200.0)),
        outcome("peers", CEILINGS, goal, wide, failure="not done within 9 s"),
        outcome("kernels", CEILINGS, small, large, "a note", Fault("adam in float32", "wrong")),
        outcome("crossover"),
    ]
    outcomes[4].load = LOAD
    planned = [*(found.part.name for found in outcomes), "sanitizer"]
    command = "python benchmarks/gpu_report.py"
    return Report([Run("2026-11-23 12:00", command, H100, Plan(), planned, outcomes, 77.0, "Ctrl-C ended it")])


def test_targets() -> None:
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in targets_table(whole_report().runs[0].outcomes).rows}
    assert rows["pytest -m gpu"][-1] == "not met"  # nothing passed
    best = rows["784-128-10, 128, float32: training against the best peer"]
    assert best[0] == "≥ 2×"
    assert best[1].startswith("1.50× (1.50–1.50; PyTorch CUDA graph); without steps captured by hand 4.00× (JAX jit)")
    assert best[2] == "not met"
    assert rows["784-128-10, 128, float32: training against PyTorch's eager mode"][2] == "met"
    assert rows["784-4096-4096-10, 8192, tf32: training against the best peer"] == ["≥ 1×", "—", "not measured"]
    assert rows["784-4096-4096-10, 8192, tf32: share of a large product's FLOP/s"][1:] == ["100%", "met"]
    assert rows["full MNIST, 784-128-10, 10 epochs"][-1] == "met"
    assert rows["passes over large arrays: share of the copy bandwidth"][1].startswith("0 of 1; the least 77%")
    product = rows["products of matrices in host memory: share of the slower ceiling"]
    assert product == ["≥ 85%", "the least 60% (float32, 5 × 4 × 3)", "not met"]


def test_targets_of_nothing() -> None:
    assert {row[-1].text for row in targets_table([]).rows} == {"not measured"}


def test_the_page_and_the_file() -> None:
    report = whole_report()
    page = to_markdown(report)
    assert page.startswith("# GPU report: NVIDIA H100 80GB HBM3, 2026-11-23\n")
    for part in PARTS.values():
        assert f"\n## {part.title}\n" in page
    assert "Against PyTorch and JAX: ended early after 2 s: not done within 9 s." in page
    assert "graph of 8 steps" in page
    assert "| 6-5-3, 8 | float16 | 2.00 µs | 6.00 µs | 3.00× |" in page
    assert "x\\|y" in page
    assert "| dense\\_forward relu 5x3 | tiled | tiled 2.0 µs, cuBLASLt 3.0 µs; separate: no |" in page
    assert "Kernels: adam in float32: wrong." in page
    assert "Run 1 did not come to its end: Ctrl-C ended it." in page
    assert "Run 1 did not begin: sanitizer." in page
    mnist = page.partition("## Ten epochs")[2].partition("## ")[0]
    assert (
        "While kernels ran (37 of 60 readings): 1,755 to 1,980 (median 1,965) MHz, 320 to 690 (median 500) W, "
        "41 to 58 (median 50) °C. Held down by power cap in 3. Idle: 345 MHz."
    ) in mnist
    data = json.loads(to_json(report))
    kinds = {result["kind"] for part in data["runs"][0]["parts"] for result in part["results"]}
    assert kinds >= {"Fact", "PytestRun", "Compilation", "ProductTiming", "Fit", "StepTiming", "Goal", "Note", "Fault"}


def test_the_file_is_read_as_it_was_written() -> None:
    report = whole_report()
    found = report.runs[0].outcomes
    found[1].results.append(Compilation(1, 1, 1.0, ["adam<float>: no"], "nowhere"))
    found[2].results.append(PytestRun("pytest", 1, 1.0, [], [TestFailure("a", "b", "c")], {}, "end"))
    found[10].results.append(Crossover("batch", "net 6-5-3", [CrossoverPoint("6-5-3", 8, 5, 1.0, 2.0)]))
    assert from_json(to_json(report), ALL) == report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(version=1), "its format has version 1"),
        (lambda data: data.pop("format"), "does not say that it is one"),
        (lambda data: data["runs"][0].pop("setting"), "not whole"),
        (lambda data: data["runs"][0]["parts"][0].update(name="nonsense"), "'nonsense', which nobody knows"),
        (lambda data: data["runs"][0]["parts"][0]["results"][0].update(kind="Joke"), "'Joke', which nobody knows"),
        (lambda data: data["runs"][0]["parts"][0]["results"][0].update(name=3), "expects str, got 3"),
    ],
)
def test_a_file_that_is_no_report_says_what_is_wrong(change: Any, said: str) -> None:
    data = json.loads(to_json(whole_report()))
    change(data)
    with pytest.raises(ReportFileError, match=said):
        from_json(json.dumps(data), ALL)


@pytest.mark.parametrize(("right", "verdict"), [(0.98, "met"), (0.098, "not met")])
def test_a_fast_training_that_learns_nothing_meets_no_target(right: float, verdict: str) -> None:
    fit = Fit("MNIST", "784-128-10", 128, "float32", 10, 60000, 2.0, [0.5], [0.05], right)
    (row,) = [r for r in targets_table([outcome("mnist", fit)]).rows if "MNIST" in r[0].text]
    assert row[-1].text == verdict
