"""Products of operands that are many times the budget: the process's memory, and sampled elements of the result.

By default 128 MB of operands under a budget of 8 MB, in a process of its own; with `-m large` 8 GB under 512 MB.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.limited import Finished, needs_limits, run_limited

MB, MIB = 10**6, 2**20
THREADS = 2 * MIB
"""For the stacks of two threads and what Python keeps of a run."""
HARD_LIMIT = 250 * MIB
"""What a process that has imported the package and used BLAS may have allocated, most of it reserved and untouched."""

pytestmark = needs_limits

PRODUCT = """
    import sys
    import numpy as np
    import fcnn_gpu as fcnn
    from fcnn_gpu.large_matrix import Rates

    folder, limit, order = sys.argv[2], int(sys.argv[3]), sys.argv[4]
    m, n, k = map(int, sys.argv[5:])
    options = {"activation": "relu", "rates": Rates(arithmetic=1e11, read=2e9, write=1e9), "backend": "numpy"}
    small = np.ones((700, 700), np.float32)
    fcnn.chunked_matmul(small, small, bias=small[0], memory_limit="1 MB", **options)  # BLAS takes memory and keeps it
    rng = np.random.default_rng(0)

    def random_file(name, rows, columns, order):
        path, left = f"{folder}/{name}.npy", rows * columns
        numbers = np.empty(2**18, np.float32)
        with open(path, "wb") as file:
            head = {"descr": "<f4", "fortran_order": order == "F", "shape": (rows, columns)}
            np.lib.format.write_array_header_1_0(file, head)
            while left:
                rng.random(out=numbers, dtype=np.float32)
                numbers -= 0.5
                part = numbers[:left]
                part.tofile(file)
                left -= len(part)
        return np.load(path, mmap_mode="r")

    def peak():
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

    result = None
    if m:
        A, B = random_file("A", m, k, "C"), random_file("B", k, n, order)
        bias = np.linspace(-1, 1, m, dtype=np.float32)
        out, report = fcnn.chunked_matmul(
            A, B, f"{folder}/out.npy", bias=bias, memory_limit=limit, return_report=True, **options
        )
        result = {"peak": peak(), "used": report.plan.memory_used, "table": str(report), "worst": 0.0}
        for i, j in zip(rng.integers(0, m, 40), rng.integers(0, n, 40)):  # which maps pages, after the measurement
            exact = float(A[i].astype(np.float64) @ B[:, j].astype(np.float64)) + float(bias[i])
            result["worst"] = max(result["worst"], abs(float(out[i, j]) - max(0.0, exact)))
"""


def run(folder: Path, limit: int, order: str, shape: tuple[int, int, int], hard_limit: int) -> Finished:
    folder.mkdir()
    try:
        return run_limited(PRODUCT, folder, limit, order, *shape, limit=hard_limit, timeout=3600)
    finally:
        shutil.rmtree(folder)


def check(folder: Path, limit: int, order: str, shape: tuple[int, int, int]) -> tuple[int, int]:
    """(the peak of a process that multiplies something small, that of one with this product)"""
    base = run(folder, limit, order, (0, 0, 0), 0).peak
    done = run(folder, limit, order, shape, HARD_LIMIT + limit).result
    print(f"peak {done['peak']:,}, base {base:,}, memory_limit {limit:,}\n{done['table']}")
    assert done["used"] <= limit
    assert done["worst"] <= 1e-6 * shape[2] ** 0.5, "of sums whose terms are up to 1/4"
    return base, done["peak"]


@pytest.mark.parametrize(("order", "shape"), [("C", (4000, 4000, 4000)), ("F", (500, 500, 32_000))], ids=["C", "F"])
def test_operands_of_sixteen_times_the_budget(tmp_path: Path, order: str, shape: tuple[int, int, int]) -> None:
    base, peak = check(tmp_path / "files", 8 * MB, order, shape)
    assert peak <= base + 8 * MB + THREADS


@pytest.mark.large
@pytest.mark.parametrize(
    ("order", "shape"), [("C", (31_623, 31_623, 31_623)), ("F", (4000, 4000, 250_000))], ids=["C", "F"]
)
def test_8_gigabytes_of_operands_under_512_megabytes(tmp_path: Path, order: str, shape: tuple[int, int, int]) -> None:
    """All of the process: the interpreter, NumPy, SciPy and BLAS's workspace are in the 512 MB."""
    _, peak = check(tmp_path / "files", 420 * MB, order, shape)
    assert peak <= 512 * MB
