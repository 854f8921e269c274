"""Every part of the GPU report, measured on the CPU emulation at tiny sizes: its code has run before it meets a GPU."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from benchmarks.gpu import (
    contest,
    environment,
    fits,
    fused,
    graphs,
    kernels,
    large,
    products,
    setting,
    turning_points,
)
from benchmarks.gpu.goals import targets_table
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import (
    Choice,
    Fact,
    Fault,
    Fit,
    FusedTiming,
    Goal,
    KernelTiming,
    LargeProduct,
    ProductTiming,
)
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench._worker import WorkerError
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.operations import OPERATIONS
from fcnn_gpu.bench.results import CaseResult, Ceilings, Crossover
from fcnn_gpu.bench.settings import Settings
from fcnn_gpu.large_matrix import _rates
from tests.conftest import emulated_ops
from tests.gpu.report_cases import CEILINGS, case, outcome

QUICK = Plan("cupy:0", quick=True)
NET = Net((6, 5, 3))


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> Ops:
    """The emulation in place of the device that a plan, or a model of the benchmark, asks for."""
    ops = emulated_ops()

    def resolve(name: Any = None) -> Ops:
        return name if isinstance(name, Ops) else ops if str(name).startswith("cupy") else Ops()

    for module in (
        "benchmarks.gpu.plan",
        "fcnn_gpu.model._network",
        "fcnn_gpu.model.sequential",
        "fcnn_gpu.bench.crossover",
    ):
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


def test_products_larger_than_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rates, "_LARGEST_SIDE", 64)
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
    monkeypatch.setattr(_rates, "_LARGEST_SIDE", 64)
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
