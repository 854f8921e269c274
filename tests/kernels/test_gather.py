"""gather.cu: batches picked by index, cast and scaled as NumPy does it, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import Ops

from .conftest import ExpectFault
from .helpers import BFLOAT16, BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned

UINT8, INT64 = np.dtype(np.uint8), np.dtype(np.int64)
INTEGERS = tuple(np.dtype(t) for t in (np.int8, np.int16, np.int32, np.int64))
SHAPES = [(1, 1, 0, 1), (7, 5, 2, 3), (40, 784, 8, 32), (1000, 1, 333, 129), (30, 8, 3, 20), (9, 3, 0, 0)]
"""n_samples, n_features, cursor, batch."""


def samples(n_samples: int, n_features: int, dtype: np.dtype[Any]) -> HostArray:
    rng = np.random.default_rng(n_samples + n_features)
    if dtype.kind in "iu":
        low, high = (0, 256) if dtype == np.uint8 else (-(2 ** min(31, 8 * dtype.itemsize - 1)), 2**7)
        return rng.integers(low, high, (n_samples, n_features)).astype(dtype)
    return rng.normal(size=(n_samples, n_features)).astype(dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES, UINT8, np.dtype(np.int32), INT64], ids=str)
@pytest.mark.parametrize(("n_samples", "n_features", "cursor", "batch"), SHAPES)
def test_copies_are_exact(
    launcher: Launcher, dtype: np.dtype[Any], n_samples: int, n_features: int, cursor: int, batch: int
) -> None:
    X = samples(n_samples, n_features, dtype)
    order = np.random.default_rng(1).permutation(n_samples)
    out = poisoned((batch, n_features), dtype, "C")
    arguments = [n_samples, n_features, n_samples, batch, X, order, np.array([cursor]), out]
    launcher.launch("gather", "gather_rows", (dtype,), arguments, threads=out.size)
    np.testing.assert_array_equal(out.view(np.uint8), X[order[cursor : cursor + batch]].view(np.uint8))


def test_labels_beyond_53_bits_are_copied_exactly(launcher: Launcher) -> None:
    y = np.array([[2**62 + 1], [-(2**63)], [3]])
    out = poisoned((3, 1), np.int64, "C")
    arguments = [3, 1, 3, 3, y, np.array([2, 0, 1]), np.array([0]), out]
    launcher.launch("gather", "gather_rows", (np.int64,), arguments, threads=3)
    assert out.ravel().tolist() == [3, 2**62 + 1, -(2**63)]


@pytest.mark.parametrize("source", [UINT8, *FLOATS, *HALVES], ids=str)
@pytest.mark.parametrize("target", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("n_samples", "n_features", "cursor", "batch"), SHAPES)
def test_scaled(
    launcher: Launcher,
    source: np.dtype[Any],
    target: np.dtype[Any],
    n_samples: int,
    n_features: int,
    cursor: int,
    batch: int,
) -> None:
    X = samples(n_samples, n_features, source)
    order = np.random.default_rng(2).permutation(n_samples)
    out = poisoned((batch, n_features), target, "C")
    wide = accumulator(target)
    scale, shift = wide.type(1 / 255), wide.type(-0.1307)
    arguments = [n_samples, n_features, n_samples, batch, scale, shift, X, order, np.array([cursor]), out]
    launcher.launch("gather", "gather_rows_scaled", (source, target), arguments, threads=out.size)
    rows = X[order[cursor : cursor + batch]]
    if target in FLOATS:
        np.testing.assert_array_equal(out, rows.astype(target) * scale + shift)
    else:
        exact = rows.astype(np.float64) * float(scale) + float(shift)
        assert_rounded(out, exact, roundings=3, scale=abs(float(shift)))


@pytest.mark.parametrize("source", INTEGERS, ids=str)
@pytest.mark.parametrize("target", FLOATS + HALVES, ids=str)
def test_integers_as_features(launcher: Launcher, source: np.dtype[Any], target: np.dtype[Any]) -> None:
    for n_features in (3, 16):
        X = samples(11, n_features, source)
        out = poisoned((11, n_features), target, "C")
        arguments = [11, n_features, 11, 11, 2.0**-20, 2.0, X, np.arange(11)[::-1].copy(), np.array([0]), out]
        launcher.launch("gather", "gather_rows_scaled", (source, target), arguments, threads=out.size)
        assert_rounded(out, X[::-1].astype(np.float64) * 2.0**-20 + 2.0, roundings=2, scale=2.0)


def test_large_integers_reach_double_with_one_rounding(launcher: Launcher) -> None:
    X = np.array([[2**53 - 1], [-(2**40) - 1], [2**31 + 1]])
    out = poisoned((3, 1), np.float64, "C")
    arguments = [3, 1, 3, 3, 1.0, 0.0, X, np.arange(3), np.array([0]), out]
    launcher.launch("gather", "gather_rows_scaled", (np.int64, np.float64), arguments, threads=3)
    np.testing.assert_array_equal(out, X)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("max_blocks", [1, 5])
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    X, order = samples(50, 33, UINT8), np.random.default_rng(3).permutation(50)
    out = poisoned((20, 33), np.float32, "C")
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    arguments = [50, 33, 50, 20, 1.0, 0.0, X, order, np.array([17]), out]
    launcher.launch("gather", "gather_rows_scaled", (np.uint8, np.float32), arguments, threads=out.size)
    np.testing.assert_array_equal(out, X[order[17:37]])


@pytest.mark.parametrize(("order", "cursor"), [([0, 5], 0), ([0, -1], 0), ([0, 1], 1), ([0, 1], -1)])
def test_an_index_outside_of_the_samples_stops_the_launch(
    expect_fault: ExpectFault, order: list[int], cursor: int
) -> None:
    X, out = samples(5, 2, BFLOAT16), poisoned((2, 2), BFLOAT16, "C")
    arguments = [5, 2, 2, 2, X, np.array(order), np.array([cursor]), out]
    with expect_fault("__trap") as launcher:
        launcher.launch("gather", "gather_rows", (BFLOAT16,), arguments, threads=4)


@pytest.mark.parametrize("target", FLOATS, ids=str)
def test_the_reference_gives_the_same_bits(launcher: Launcher, target: np.dtype[Any]) -> None:
    X, order = samples(50, 33, UINT8), np.random.default_rng(4).permutation(50)
    expected, out = poisoned((20, 33), target, "C"), poisoned((20, 33), target, "C")
    Ops().gather_rows(X, order, np.array([17]), expected, scale=1 / 255, shift=-0.1307)
    arguments = [50, 33, 50, 20, 1 / 255, -0.1307, X, order, np.array([17]), out]
    launcher.launch("gather", "gather_rows_scaled", (np.uint8, target), arguments, threads=out.size)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("source", "target"), [(UINT8, np.float32), (UINT8, np.float16), (np.float32, BFLOAT16)])
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, source: Any, target: Any) -> None:
    """A data set, or a batch of it, may begin anywhere: a slice of rows of another one."""
    X, order, target = samples(50, 32, np.dtype(source)), np.random.default_rng(5).permutation(50), np.dtype(target)

    def gathered(X: HostArray, out: HostArray) -> HostArray:
        arguments = [50, 32, 50, 20, 1 / 255, -0.1307, X, order, np.array([17]), out]
        launcher.launch("gather", "gather_rows_scaled", (X.dtype, target), arguments, threads=out.size)
        return out.view(np.uint8)

    expected = gathered(X, poisoned((20, 32), target, "C"))
    np.testing.assert_array_equal(gathered(between_boundaries(X), poisoned((20, 32), target, "C")), expected)
    shifted = between_boundaries(poisoned((20, 32), target, "C"), 3)
    np.testing.assert_array_equal(gathered(X, shifted), expected)
