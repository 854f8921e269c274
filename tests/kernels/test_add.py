"""add.cu: x + y with one rounding, in place as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import vector_threads
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, between_boundaries, poisoned


def add(launcher: Launcher, x: HostArray, y: HostArray, out: HostArray) -> HostArray:
    launcher.launch("add", "add", (x.dtype,), [x.size, x, y, out], threads=vector_threads(x.size, x.dtype))
    return out


def pair(n: int, dtype: np.dtype[Any]) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(n)
    return rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_sums_are_those_of_numpy(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    for n in (0, 1, 7, 64, 1001):
        x, y = pair(n, dtype)  # NumPy and ml_dtypes add 16-bit numbers in float32 and round once, as the kernel does
        out = add(make_launcher(block=block, max_blocks=2), x, y, poisoned(n, dtype))
        np.testing.assert_array_equal(out, x + y)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_in_place_and_between_two_boundaries(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    x, y = pair(100, dtype)
    expected = x + y
    np.testing.assert_array_equal(add(launcher, x.copy(), between_boundaries(y), poisoned(100, dtype)), expected)
    left, right = x.copy(), y.copy()
    np.testing.assert_array_equal(add(launcher, left, y, left), expected)
    np.testing.assert_array_equal(add(launcher, x, right, right), expected)


def test_nothing_hides_a_diverged_element(launcher: Launcher) -> None:
    x, y = pair(40, np.dtype(np.float32))
    x[17], y[23] = np.nan, np.inf
    out = add(launcher, x, y, poisoned(40, np.float32))
    assert np.flatnonzero(~np.isfinite(out)).tolist() == [17, 23]
