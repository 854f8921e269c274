"""Products in chunks against the same product on arrays in memory: float32, square, files in the system's page cache.

    python -m pytest benchmarks/bench_large_matrix.py --benchmark-only
    python -m benchmarks.bench_large_matrix --size 8192 --limits "128 MB" "512 MB" --rounds 5

The second form takes turns: in each round the resident product once, and the chunked one once under each limit. What
it prints are medians of the ratios within a round. On a GPU "resident" are arrays of the device, and the operands of
the chunked product lie in host memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._ops import Ops

SIZE = 8192
LIMITS = ("64 MB", "128 MB", "512 MB")


@contextmanager
def matrices(ops: Ops, size: int, folder: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Two operands and a result: files on the CPU, and host memory for a GPU."""
    rng = np.random.default_rng(0)
    made = []
    for name in ("A", "B", "out"):
        array: HostArray = (
            np.empty((size, size), np.float32)
            if ops.asynchronous
            else np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (size, size))
        )
        if name != "out":
            for row in array:
                rng.random(dtype=np.float32, out=row)
        made.append(array)
    yield made[0], made[1], made[2]


def resident(ops: Ops, A: HostArray, B: HostArray) -> Callable[[], Any]:
    """The product of copies in memory, as `A @ B` computes it."""
    first, second = ops.asarray(np.array(A)), ops.asarray(np.array(B))
    product = ops.empty((len(A), B.shape[1]), np.float32)

    def multiply() -> Any:
        ops.gemm(first, second, product)
        ops.synchronize()
        return product

    return multiply


def chunked(ops: Ops, A: HostArray, B: HostArray, out: HostArray, limit: str) -> fcnn.MatmulReport:
    """The product within a limit."""
    return fcnn.chunked_matmul(A, B, out, memory_limit=limit, backend=ops, return_report=True)[1]


def measure(ops: Ops, size: int, limits: list[str], rounds: int, folder: Path) -> dict[str, list[float]]:
    """By name, seconds of each round."""
    with matrices(ops, size, folder) as (A, B, out):
        multiply = resident(ops, A, B)
        contestants: dict[str, Callable[[], Any]] = {"resident": multiply}
        for limit in limits:
            contestants[limit] = partial(chunked, ops, A, B, out, limit)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for name, call in contestants.items():
            found = call()
            if name != "resident":
                print(f"\nmemory_limit={name}\n{found}")
                check(A, B, out)
        for _ in range(rounds):
            for name, call in contestants.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        return seconds


def check(A: HostArray, B: HostArray, out: HostArray, n: int = 20) -> None:
    """Some elements against their sums in float64."""
    rng = np.random.default_rng(1)
    for i, j in zip(rng.integers(0, len(out), n), rng.integers(0, out.shape[1], n), strict=True):
        expected = float(np.dot(A[i].astype(np.float64), B[:, j].astype(np.float64)))
        if abs(out[i, j] - expected) > 1e-4 * abs(expected):
            raise RuntimeError(f"out[{i}, {j}] is {out[i, j]}, expected {expected}")


@pytest.mark.parametrize("limit", ["resident", *LIMITS])
def test_large_matrix(benchmark: Any, ops: Ops, tmp_path: Path, limit: str) -> None:
    with matrices(ops, SIZE, tmp_path) as (A, B, out):
        benchmark.group = f"product {SIZE}³"
        benchmark.extra_info.update(device=ops.describe(), dtype="float32", flops=2 * SIZE**3)
        if limit == "resident":
            benchmark.pedantic(resident(ops, A, B), rounds=5, warmup_rounds=1)
        else:
            benchmark.pedantic(chunked, (ops, A, B, out, limit), rounds=5, warmup_rounds=1)
            check(A, B, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--limits", nargs="+", default=list(LIMITS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--folder", type=Path, help="where the files go (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        seconds = measure(resolve_backend(options.backend), options.size, options.limits, options.rounds, Path(folder))
    print()
    for name, times in seconds.items():
        shares = [whole / own for whole, own in zip(seconds["resident"], times, strict=True)]
        rate = 2e-9 * options.size**3 / statistics.median(times)
        print(
            f"{name:>10}  {statistics.median(times):.3f} s  {rate:.0f} GFLOP/s  "
            f"{100 * statistics.median(shares):.0f} % of the resident rate "
            f"({100 * min(shares):.0f} to {100 * max(shares):.0f} %)"
        )


if __name__ == "__main__":
    main()
