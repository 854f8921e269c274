"""Ceilings: they are measured on any backend, and hold what they say."""

from __future__ import annotations

import pytest

from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import ceilings
from fcnn_gpu.bench.settings import Settings


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_ceiling_is_measured(ops: Ops, dtype: str, threads: int) -> None:
    found = ceilings.measure(ops, dtype, seconds=0.01, threads=threads, products=(8, 16), copies=(1000, 4000))
    assert (found.device, found.dtype) == (ops.describe(), dtype)
    assert found.product_shape in ("8 × 8 × 8", "16 × 16 × 16")
    assert min(found.product_flops_per_second, found.copy_bytes_per_second, found.call_seconds) > 0
    assert [size for size, _ in found.copy_rates] == [1000, 4000]
    assert found.copy_rates[-1] == (found.copy_bytes, found.copy_bytes_per_second)


def test_rates_follow_from_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_best", lambda ops, run, seconds: 2.0)
    found = ceilings.measure(Ops(), "float32", products=(5, 10), copies=(600,))
    assert (found.product_flops_per_second, found.product_shape) == (2 * 10**3 / 2.0, "10 × 10 × 10")  # the best
    assert found.copy_rates == [(600, 300.0)]
    assert found.call_seconds == 2.0 / 1000


def test_the_best_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.0, 5.0, 0.0, 2.0, 1.0, 4.0, 99.0])  # begin; (start, end) three times; the time is over
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    runs: list[int] = []
    best = ceilings._best(Ops(), lambda: runs.append(1), -1.0)
    assert best == 2.0
    assert len(runs) == 4  # one untimed


def test_apart_it_is_measured_in_the_workers_environment() -> None:
    settings = Settings(threads=1, timeout=60)
    found = ceilings.measure_apart(settings, seconds=0.01)
    assert found.device == Ops().describe()
