"""Fixtures of the tests of kernels/cpu: recorded calls."""

from __future__ import annotations

from dataclasses import dataclass
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
BLOCKS = (130, 600)
"""Of products that are computed in blocks, which are packed."""


@dataclass(frozen=True)
class Recordings:
    """Files for replay.c: calls of all operations in every case, one call of each, and products in blocks."""

    all: Path
    one_of_each: Path
    blocks: Path


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """Computed with fused multiply-add, so that the bits are the same on all CPUs that have it."""
    ops = compiled_ops()
    assert isinstance(ops, CompiledOps)
    library = ops._library
    if "v3" in library.levels:
        ops = CompiledOps(Library(library.path, "v3"))
    elif library.levels != ["baseline"]:
        pytest.skip("this CPU has no fused multiply-add")
    folder = tmp_path_factory.mktemp("recordings")
    files = Recordings(folder / "all.bin", folder / "one_of_each.bin", folder / "blocks.bin")
    with recorded_calls() as recording, np.errstate(all="ignore"):
        for case in (case for cases in CASES.values() for case in cases):
            for n, batch in [*SHAPES, *[(5, 0)] * case.empty]:
                for dtype in (np.float32, np.float64):
                    case.run(ops, np.random.default_rng(n), dtype, n, batch)
        _without_primitive(ops)
        _large_batch(ops)
    assert recording.names == set(library.operations), "an operation that no case of a primitive issues"
    recording.write(files.all)
    recording.write(files.one_of_each, one_of_each=True)
    with recorded_calls("product") as recording:
        for case in CASES["gemm"] + CASES["dense_forward"]:
            case.run(ops, np.random.default_rng(0), np.float32, *BLOCKS)
        # a layer's gradients: both operands are packed, those of the last one ahead
        for name, n_out, n_in in [("float32", 70, 130), ("float64", 70, 130), ("float32", 450, 300)]:
            dZ, A0 = (np.asfortranarray(np.random.default_rng(n).normal(size=(n, 300)), name) for n in (n_out, n_in))
            W, dA0 = np.ones((n_out, n_in), name, "F"), np.zeros((n_in, 300), name, "F")
            ops.gemm(dZ, A0.T, W)
            ops.gemm(W.T, dZ, dA0)
    recording.write(files.blocks)
    return files


def _large_batch(ops: CompiledOps) -> None:
    """Gradients that are summed by blocks of samples, of one layer and of two side by side."""
    batch = 2050
    for dtype, n_in in ((np.float32, 3), (np.float64, 20)):
        rng = np.random.default_rng(n_in)
        A0, dZ = (np.asfortranarray(rng.normal(size=(n, batch)), dtype) for n in (2 * n_in, 4))
        dW, grouped, db = (
            np.ones((4, 2 * n_in), dtype, "F"),
            np.ones((2, 2 * n_in), dtype, "F"),
            np.zeros((4, 1), dtype),
        )
        ops.dense_backward(dZ, dZ, "identity", 0.0, dW, A0, dZ, dW, db, gain=0.5)
        given = dZ, dZ, "identity", 0.0, grouped, A0, dZ, grouped, 2
        ops.grouped_dense_backward(*given, add_to_dW=True)


def _without_primitive(ops: CompiledOps) -> None:
    """Operations that stand in programs alone."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for gradients in (rng.normal(size=301).astype(dtype), np.full(70, np.inf, dtype)):
            unsound = np.zeros(1, np.int64)
            ops._issue("check_gradients", dtype, n=gradients.size, gradients=gradients, unsound=unsound)
        x = rng.normal(size=(33, 17)).astype(dtype)
        ops._issue("copy_rows", dtype, batch=33, row_bytes=x.nbytes // 33, x=x, out=np.empty_like(x))
