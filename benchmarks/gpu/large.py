"""Products in chunks of operands in host memory, against the slower of two ceilings: arithmetic and transfer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.operations import numpy_dtype
from fcnn_gpu.large_matrix._rates import measure_rates

from .plan import Plan
from .results import Fault, LargeProduct
from .timing import time_calls, warm_up

CASES = (
    ("float32", (24_576, 24_576, 24_576), 2 * 10**9),
    ("bfloat16", (24_576, 24_576, 24_576), 4 * 10**9),
    ("float32", (24_576, 512, 24_576), 10**9),
)
"""(precision, (m, n, k), bytes of the device): two that arithmetic should bound, and one that the transfer must."""
SMALL_CASES = (("float32", (320, 240, 400), 800_000),)
CEILING_SIDE = 8192


def measure(
    plan: Plan,
    cases: Sequence[tuple[str, tuple[int, int, int], int]] = CASES,
    ceiling_side: int = CEILING_SIDE,
) -> Iterator[LargeProduct | Fault]:
    """Case by case; between its rounds nothing stays on the device."""
    ops = plan.ops()
    if plan.small:
        cases, ceiling_side = SMALL_CASES, 32
    warm_up(ops, plan, 1.0)
    for precision, (m, n, k), limit in cases:
        if plan.quick:
            m, n, k, limit = (max(1, size // 8) for size in (m, n, k, limit))
        ceiling = _ceiling(ops, precision, ceiling_side)
        rates = measure_rates(ops, numpy_dtype(precision), [], None)
        A, B = (_filled(shape, precision, plan.seed) for shape in ((m, k), (k, n)))
        out = np.zeros((m, n), np.float32)
        options: dict[str, Any] = {"memory_limit": limit, "rates": rates, "backend": ops}
        chosen = fcnn.plan_chunked_matmul(A, B, out, **options)
        seconds = []
        for turn in range(2 if plan.quick else 4):
            start = time.perf_counter()
            fcnn.chunked_matmul(A, B, out, **options)
            if turn:  # the first loads kernels
                seconds.append(time.perf_counter() - start)
        fault = _check(A, B, out)
        if fault:
            yield Fault(f"{precision}, {m} × {n} × {k}", f"wrong: {fault}")
            continue
        yield LargeProduct(
            precision=precision,
            m=m,
            n=n,
            k=k,
            memory_limit=limit,
            tile=list(chosen.tile),
            bytes_in=sum(chosen.costs.moved[:2]),
            bytes_out=chosen.costs.moved[2],
            predicted_seconds=chosen.seconds,
            seconds=seconds,
            ceiling_flops_per_second=ceiling,
            to_device=rates.to_device,
            from_device=rates.from_device,
        )


def _ceiling(ops: Ops, precision: str, side: int) -> float:
    """FLOP/s of a square product on the device, into float32."""
    few = _filled((side, side), precision, 1)
    A, B = ops.asarray(few), ops.asarray(few)
    product = ops.matrix(side, side, "float32")
    return 2.0 * side**3 / time_calls(ops, lambda: ops.gemm(A, B, product, 1.0, 1.0), 3, 0.05).median


def _filled(shape: tuple[int, int], precision: str, seed: int) -> HostArray:
    """Random numbers, the same few again and again: drawing billions takes longer than multiplying them."""
    few = np.random.default_rng(seed).standard_normal(2**16 + 1, np.float32).astype(numpy_dtype(precision))
    return np.resize(few, shape)


def _check(A: HostArray, B: HostArray, out: HostArray, n: int = 50) -> str:
    """What is wrong with some elements, if anything is."""
    rng = np.random.default_rng(2)
    for i, j in zip(rng.integers(0, len(out), n), rng.integers(0, out.shape[1], n), strict=True):
        terms = A[i].astype(np.float64) * B[:, j].astype(np.float64)
        if abs(float(out[i, j]) - terms.sum()) > 1e-4 * np.abs(terms).sum() + 1e-6:
            return f"element ({i}, {j}) is {out[i, j]} instead of {terms.sum()}"
    return ""
