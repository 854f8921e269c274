"""A report with something of every kind in it."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.catalogue import PARTS, SANITIZER
from benchmarks.gpu.clocks import Load, Range
from benchmarks.gpu.outcome import Outcome, Report, Run
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import (
    Choice,
    Compilation,
    Fact,
    Fault,
    Fit,
    FusedTiming,
    Goal,
    KernelTiming,
    LargeProduct,
    ProductTiming,
    PytestRun,
    StepTiming,
)
from benchmarks.gpu.setting import Setting
from fcnn_gpu.bench.results import CaseResult, Ceilings, Timing

CEILINGS = Ceilings("CUDA kernels executed on the CPU", "float32", 1e9, "8 × 8 × 8", 1e9, 2**20, 1e-6)


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
