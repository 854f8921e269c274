"""How long the device takes for a call: many of them in a CUDA graph, between two events of the stream."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from fcnn_gpu.backend._ops import Ops

from .plan import Plan

_GRAPH_SECONDS = 2e-3
"""About how long the calls of one graph take: launching it must cost next to nothing beside them."""
_MOST_CALLS = 200
"""In one graph: recording it takes some 10 µs a call."""


@dataclass(frozen=True)
class Timed:
    """Seconds of one call by round, and whether they were a graph's ("graph") or queued one by one ("loop")."""

    seconds: list[float]
    timed_as: str

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def time_calls(ops: Ops, call: Callable[[], object], rounds: int = 5, round_seconds: float = 0.01) -> Timed:
    """Seconds of one of many calls in a row, on arrays that stay the same. `call` must be ready to be repeated.

    Calls that cannot be recorded into a graph are queued one by one, and `timed_as` says so.
    """
    call()
    ops.synchronize()
    once = _seconds(ops, call, 3)
    n_calls = max(1, min(_MOST_CALLS, math.ceil(_GRAPH_SECONDS / max(once, 1e-9))))

    def several() -> None:
        for _ in range(n_calls):
            call()

    run: Callable[[], None] = ops.capture(several)
    timed_as = "graph"
    try:
        run()
        run()
        ops.synchronize()
    except NotImplementedError:  # a library that cannot be recorded
        run, timed_as = several, "loop"
    n_runs = max(1, round(round_seconds / max(_seconds(ops, run, 1), 1e-9)))
    return Timed([_seconds(ops, run, n_runs) / n_calls for _ in range(rounds)], timed_as)


def _seconds(ops: Ops, run: Callable[[], object], n: int) -> float:
    read = ops.stopwatch()
    for _ in range(n):
        run()
    return read() / n


def warm_up(ops: Ops, plan: Plan, seconds: float = 0.5) -> None:
    """Keep the device busy until its clocks have risen; for a fifth of the time in a quick run."""
    n = 64 if plan.small or not ops.asynchronous else 1024
    A, B, C = (ops.matrix(n, n, "float32") for _ in range(3))
    for matrix in (A, B, C):
        ops.fill(matrix, 0.5)
    end = time.perf_counter() + (seconds / 5 if plan.quick else seconds)
    while time.perf_counter() < end:
        for _ in range(20):
            ops.gemm(A, B, C)
        ops.synchronize()
