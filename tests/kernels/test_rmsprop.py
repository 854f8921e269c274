"""rmsprop.cu: with and without momentum."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, assert_rounded

RHO, EPS, MOMENTUM = 0.99, 1e-6, 0.875


def check(launcher: Launcher, case: FlatCase, momentum: bool) -> None:
    rng = np.random.default_rng(case.n)
    v = rng.uniform(0.1, 2, size=case.n).astype(case.dtype)
    b = rng.normal(size=case.n).astype(case.dtype) if momentum else None
    theta, g = case.values.astype(np.float64), case.gradient()
    square = RHO * v.astype(np.float64) + (1 - RHO) * g**2
    u = g / (np.sqrt(square) + EPS)
    size = (1 + np.abs(g) + np.abs(case.bare())) / np.sqrt(square)
    if b is not None:
        u = MOMENTUM * b.astype(np.float64) + u
        size = size + np.abs(u)
    case.launch(launcher, "rmsprop", [RHO, EPS, MOMENTUM], [v, b], counts_steps=False)
    # 1 − ρ is rounded once from double; the squares' relative error is that of g, doubled.
    assert_rounded(v, square, roundings=8, scale=(1 + np.abs(g) + np.abs(case.bare())) ** 2 * (1 - RHO))
    if b is not None:
        assert_rounded(b, u, roundings=16, scale=size)
    assert_rounded(case.values, theta - case.eta * u, roundings=16, scale=np.abs(theta) + case.eta * size)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("momentum", [False, True], ids=["plain", "momentum"])
def test_update(launcher: Launcher, momentum: bool, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        check(launcher, case, momentum)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    case = FlatCase(np.dtype(np.float64), 4097, n_segments=6)
    check(make_launcher(block=block, max_blocks=max_blocks), case, True)


def test_nothing_moves_after_a_failed_step(launcher: Launcher) -> None:
    case, v, b = FlatCase(np.dtype(np.float32), 100, failed=3), np.ones(100, np.float32), np.ones(100, np.float32)
    before = case.values.copy()
    case.launch(launcher, "rmsprop", [RHO, EPS, MOMENTUM], [v, b], counts_steps=False)
    np.testing.assert_array_equal(case.values, before)
    np.testing.assert_array_equal([v, b], 1)
