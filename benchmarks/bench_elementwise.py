"""Plain passes over memory: sums, multiples, casts, sums over the samples, results to their place."""

from __future__ import annotations

from typing import Any

from benchmarks.families import entries_of, measure
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.operations import Operation


@entries_of("elementwise")
def test_elementwise(
    benchmark: Any, ops: Ops, dtype: str, operation: Operation, sizes: dict[str, int], variant: str
) -> None:
    measure(benchmark, ops, dtype, operation, sizes, variant)
