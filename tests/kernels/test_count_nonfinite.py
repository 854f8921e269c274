"""count_nonfinite.cu: NaN and infinities of either sign are counted, wherever they are and whatever the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES


def counted(launcher: Launcher, x: HostArray, before: int = 0, threads: int | None = None) -> int:
    count = np.array([before])
    launcher.launch("count_nonfinite", "count_nonfinite", (x.dtype,), [x.size, x, count], threads=threads or x.size)
    return int(count[0])


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 33, 1000, 5001])
def test_counts_every_kind(launcher: Launcher, dtype: np.dtype[Any], size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.normal(size=size).astype(dtype)
    assert counted(launcher, x) == 0
    bad = rng.permutation(size)[: size // 3]
    x[bad] = np.resize(np.array([np.nan, np.inf, -np.inf]), bad.size).astype(dtype)
    assert counted(launcher, x) == bad.size


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_the_largest_and_smallest_numbers_are_finite(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    import ml_dtypes

    info = ml_dtypes.finfo(dtype)
    x = np.array([info.max, -info.max, info.smallest_subnormal, 0.0, -0.0], dtype)
    assert counted(launcher, x) == 0


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("max_blocks", [1, 3])
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    x = np.ones(4099, np.float32)
    x[[0, 1, 2048, 4097, 4098]] = np.nan
    assert counted(make_launcher(block=block, max_blocks=max_blocks), x) == 5
    assert counted(make_launcher(block=block), x, threads=77) == 5


def test_adds_to_what_was_counted_before(launcher: Launcher) -> None:
    assert counted(launcher, np.array([np.inf, 1.0, np.nan]), before=40) == 42


def test_the_order_of_a_matrix_does_not_matter(launcher: Launcher) -> None:
    x = np.ones((7, 9), np.float32, order="F")
    x[3, 4] = -np.inf
    assert counted(launcher, x) == counted(launcher, np.ascontiguousarray(x)) == 1
