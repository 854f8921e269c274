"""cast.cu: x·scale + shift in every pair of types, with the bits of NumPy and of the gather kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import vector_threads
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned

INTEGERS = tuple(np.dtype(t) for t in (np.uint8, np.int8, np.int16, np.int32, np.int64))
SIZES = (0, 1, 7, 64, 1001)


def sample(n: int, dtype: np.dtype[Any]) -> HostArray:
    rng = np.random.default_rng(n)
    return rng.integers(-(2**40), 2**40, n).astype(dtype) if dtype in INTEGERS else rng.normal(size=n).astype(dtype)


def cast(launcher: Launcher, x: HostArray, out: HostArray, scale: float, shift: float) -> HostArray:
    threads = vector_threads(x.size, x.dtype, out.dtype)
    launcher.launch("cast", "cast", (x.dtype, out.dtype), [x.size, scale, shift, x, out], threads=threads)
    return out


@pytest.mark.parametrize("source", [*INTEGERS, *FLOATS, *HALVES], ids=str)
@pytest.mark.parametrize("target", FLOATS + HALVES, ids=str)
def test_every_pair_of_types(launcher: Launcher, source: np.dtype[Any], target: np.dtype[Any]) -> None:
    scale = 2.0**-45 if source in (np.int32, np.int64) else 1 / 255
    for n in SIZES:
        x = sample(n, source)
        out = cast(launcher, x, poisoned(n, target), scale, -0.1307)
        exact = x.astype(np.float64) * scale - 0.1307
        assert_rounded(out, exact, roundings=4, scale=0.1307)
        again = cast(launcher, between_boundaries(x, 3), between_boundaries(poisoned(n, target)), scale, -0.1307)
        np.testing.assert_array_equal(again.view(f"u{target.itemsize}"), out.view(f"u{target.itemsize}"))


@pytest.mark.parametrize("source", [*INTEGERS, *FLOATS, np.dtype(np.float16)], ids=str)
@pytest.mark.parametrize("target", FLOATS, ids=str)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1 / 255, 0.0), (1.0, -3.7), (0.3, 0.1307)])
def test_the_reference_gives_the_same_bits(
    launcher: Launcher, source: np.dtype[Any], target: np.dtype[Any], scale: float, shift: float
) -> None:
    x, expected = sample(500, source), poisoned(500, target)
    Ops().cast(x, expected, scale, shift)
    np.testing.assert_array_equal(cast(launcher, x, poisoned(500, target), scale, shift), expected)


@pytest.mark.parametrize("target", HALVES, ids=str)
def test_halves_are_rounded_once_at_the_end(launcher: Launcher, target: np.dtype[Any]) -> None:
    x = sample(500, np.dtype(np.uint8))
    wide = x.astype(np.float32) * np.float32(1 / 255) + np.float32(0.5)
    np.testing.assert_array_equal(cast(launcher, x, poisoned(500, target), 1 / 255, 0.5), wide.astype(target))


@pytest.mark.parametrize("target", FLOATS + HALVES, ids=str)
def test_a_row_is_the_same_numbers_cast_or_gathered(launcher: Launcher, target: np.dtype[Any]) -> None:
    """What the network sees in training, through a gather, and at inference, through a cast."""
    X, order = sample(40 * 33, np.dtype(np.uint8)).reshape(40, 33), np.arange(40)
    whole = cast(launcher, X, poisoned((40, 33), target, "C"), 1 / 255, -0.1307)
    out = poisoned((40, 33), target, "C")
    wide = accumulator(target)
    arguments = [40, 33, 40, 40, wide.type(1 / 255), wide.type(-0.1307), X, order, np.array([0]), out]
    launcher.launch("gather", "gather_rows_scaled", (X.dtype, target), arguments, threads=out.size)
    np.testing.assert_array_equal(out.view(f"u{target.itemsize}"), whole.view(f"u{target.itemsize}"))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("max_blocks", [1, 3])
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    x = sample(3001, np.dtype(np.uint8))
    out = cast(make_launcher(block=block, max_blocks=max_blocks), x, poisoned(3001, np.float16), 0.5, 0.0)
    np.testing.assert_array_equal(out, x / 2)
