"""row_sum.cu: sums over the batch, in one stage and in two, with the same bits at every grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import tiles
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned


def matrix(n: int, batch: int, dtype: np.dtype[Any]) -> HostArray:
    X = np.random.default_rng(n * 1000 + batch).normal(size=(batch, n)).astype(dtype)
    return X.T


def row_sum(launcher: Launcher, X: HostArray, chunk: int | None = None) -> HostArray:
    n, batch = X.shape
    wide = accumulator(X.dtype)
    out = poisoned((n, 1), wide)
    chunk = chunk or max(batch, 1)
    n_chunks = max(1, -(-batch // chunk))
    partial = out if n_chunks == 1 else poisoned(n * n_chunks, wide)
    arguments = [n, batch, chunk, n_chunks, X, partial]
    launcher.launch("row_sum", "row_sum", (X.dtype,), arguments, blocks=tiles(n, n_chunks, X.dtype))
    if n_chunks > 1:
        launcher.launch("sum_chunks", "sum_chunks", (wide,), [n, n_chunks, partial, out], blocks=-(-n // 32))
    return out


def assert_sums(out: HostArray, X: HostArray) -> None:
    wide = X.astype(np.float64)
    size = np.abs(wide).sum(axis=1, keepdims=True)
    assert out.dtype == accumulator(X.dtype)
    assert_rounded(out, wide.sum(axis=1, keepdims=True), roundings=X.shape[1] + 1, scale=size)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("n", "batch"), [(0, 5), (1, 1), (5, 0), (10, 33), (33, 7), (128, 128), (100, 1001), (3, 300)])
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


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("n", "batch", "chunk"), [(64, 500, None), (128, 500, 128), (8, 5, None)])
def test_views_between_two_boundaries_give_the_same_bits(
    launcher: Launcher, dtype: np.dtype[Any], n: int, batch: int, chunk: int | None
) -> None:
    X = matrix(n, batch, dtype)
    expected = row_sum(launcher, X, chunk)
    np.testing.assert_array_equal(row_sum(launcher, between_boundaries(X, 3), chunk), expected)
    np.testing.assert_array_equal(row_sum(launcher, between_boundaries(X, 8), chunk), expected)


def test_a_sum_of_halves_does_not_overflow(launcher: Launcher) -> None:
    """Σ 1024·100 is beyond float16's largest number, 65504."""
    X = np.full((3, 100), 1024, np.float16, order="F")
    np.testing.assert_array_equal(row_sum(launcher, X), np.full((3, 1), 102400, np.float32))
