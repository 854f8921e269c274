"""Fixtures of the tests of kernels/cpu: a file of recorded calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu.backend._compiled import Library
from fcnn_gpu.backend._compiled_ops import CompiledOps

from ..conftest import compiled_ops
from ..support.op_cases import CASES
from .recorded_calls import recorded_calls

SHAPES = [(3, 2), (17, 33)]
"""(n_units, batch)"""
LARGE = (70, 600)
"""Of products: blocks that are packed, and more than one of them."""
PRODUCTS = ("gemm", "dense_forward", "dense_backward")


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls of every compiled operation, computed with fused multiply-add, whose bits are the same on all CPUs."""
    ops = compiled_ops()
    assert isinstance(ops, CompiledOps)
    library = ops._library
    if "v3" in library.levels:
        ops = CompiledOps(Library(library.path, "v3"))
    elif library.levels != ["baseline"]:
        pytest.skip("this CPU has no fused multiply-add")
    path = tmp_path_factory.mktemp("recording") / "calls.bin"
    with recorded_calls() as recording, np.errstate(all="ignore"):
        for name, cases in CASES.items():
            for case in cases:
                for n, batch in SHAPES + [(5, 0)] * case.empty + [LARGE] * (name in PRODUCTS):
                    for dtype in (np.float32, np.float64):
                        case.run(ops, np.random.default_rng(n), dtype, n, batch)
        _without_primitive(ops)
    assert set(recording.names) == set(library.operations), "an operation that no case of a primitive issues"
    recording.write(path)
    return path


def _without_primitive(ops: CompiledOps) -> None:
    """Operations that stand in programs alone."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for gradients in (rng.normal(size=301).astype(dtype), np.full(70, np.inf, dtype)):
            unsound = np.zeros(1, np.int64)
            ops._issue("check_gradients", dtype, n=gradients.size, gradients=gradients, unsound=unsound)
        x = rng.normal(size=(33, 17)).astype(dtype)
        ops._issue("copy_rows", dtype, batch=33, row_bytes=x.nbytes // 33, x=x, out=np.empty_like(x))
