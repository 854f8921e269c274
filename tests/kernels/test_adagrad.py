"""adagrad.cu: with and without a decaying rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, assert_rounded

EPS = 1e-8


def check(launcher: Launcher, case: FlatCase, decay: float) -> None:
    s = np.random.default_rng(case.n).uniform(0.1, 2, size=case.n).astype(case.dtype)
    theta, g = case.values.astype(np.float64), case.gradient()
    square = s.astype(np.float64) + g**2
    rate = case.eta / (1 + case.step * decay)
    case.launch(launcher, "adagrad", [decay, EPS], [s], counts_steps=True)
    size = 1 + np.abs(g) + np.abs(case.bare())
    assert_rounded(s, square, roundings=8, scale=size**2)
    expected = theta - rate * g / (np.sqrt(square) + EPS)
    assert_rounded(case.values, expected, roundings=16, scale=np.abs(theta) + rate * size**2 / np.sqrt(square))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_update(launcher: Launcher, decay: float, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        check(launcher, case, decay)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    case = FlatCase(np.dtype(np.float64), 4097, n_segments=6)
    check(make_launcher(block=block, max_blocks=max_blocks), case, 0.5)


def test_nothing_moves_after_a_failed_step(launcher: Launcher) -> None:
    case, s = FlatCase(np.dtype(np.float32), 100, failed=3), np.ones(100, np.float32)
    before = case.values.copy()
    case.launch(launcher, "adagrad", [0.0, EPS], [s], counts_steps=True)
    np.testing.assert_array_equal(case.values, before)
    np.testing.assert_array_equal(s, 1)
