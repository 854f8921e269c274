"""row_sum.cu: sums over the batch, in one stage and in two, with the same bits at every grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned


def matrix(n: int, batch: int, dtype: np.dtype[Any]) -> HostArray:
    X = np.random.default_rng(n * 1000 + batch).normal(size=(batch, n)).astype(dtype)
    return X.T


def row_sum(launcher: Launcher, X: HostArray, chunk: int | None = None) -> HostArray:
    n, batch = X.shape
    out = poisoned((n, 1), X.dtype)
    chunk = chunk or max(batch, 1)
    n_chunks = max(1, -(-batch // chunk))
    n_tiles = -(-n // 32)
    if n_chunks == 1:
        arguments = [n, batch, chunk, 1, X, out]
        launcher.launch("row_sum", "row_sum", (X.dtype, X.dtype), arguments, blocks=n_tiles)
        return out
    partial = poisoned(n * n_chunks, accumulator(X.dtype))
    launcher.launch(
        "row_sum",
        "row_sum",
        (X.dtype, partial.dtype),
        [n, batch, chunk, n_chunks, X, partial],
        blocks=n_tiles * n_chunks,
    )
    launcher.launch("sum_chunks", "sum_chunks", (X.dtype,), [n, n_chunks, partial, out], threads=n)
    return out


def assert_sums(out: HostArray, X: HostArray) -> None:
    wide = X.astype(np.float64)
    size = np.abs(wide).sum(axis=1, keepdims=True)
    assert_rounded(out, wide.sum(axis=1, keepdims=True), roundings=X.shape[1] + 1, scale=size)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("n", "batch"), [(0, 5), (1, 1), (5, 0), (10, 33), (33, 7), (128, 128), (100, 1001)])
def test_one_stage(launcher: Launcher, dtype: np.dtype[Any], n: int, batch: int) -> None:
    X = matrix(n, batch, dtype)
    assert_sums(row_sum(launcher, X), X)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("n", "batch", "chunk"), [(10, 1000, 64), (65, 129, 128), (3, 7, 1)])
def test_two_stages(launcher: Launcher, dtype: np.dtype[Any], n: int, batch: int, chunk: int) -> None:
    X = matrix(n, batch, dtype)
    assert_sums(row_sum(launcher, X, chunk), X)


@pytest.mark.parametrize("block", BLOCKS)
def test_any_grid_gives_the_same_bits(make_launcher: Callable[..., Launcher], block: int) -> None:
    X = matrix(130, 77, np.dtype(np.float32))
    out = row_sum(make_launcher(block=block), X)
    assert_sums(out, X)
    np.testing.assert_array_equal(row_sum(make_launcher(block=block, max_blocks=2), X), out)


def test_nothing_hides_a_diverged_sample(launcher: Launcher) -> None:
    X = matrix(40, 50, np.dtype(np.float32)).copy(order="F")
    X[3, 17] = np.nan
    out = row_sum(launcher, X)
    assert np.flatnonzero(np.isnan(out[:, 0])).tolist() == [3]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_agrees_with_the_reference(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    X = matrix(45, 67, dtype)
    expected = poisoned((45, 1), dtype)
    Ops().row_sum(X, expected)
    size = np.abs(X.astype(np.float64)).sum(axis=1, keepdims=True)
    assert_rounded(row_sum(launcher, X), expected.astype(np.float64), roundings=2 * 67, scale=size)
