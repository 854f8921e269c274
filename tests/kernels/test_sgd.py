"""sgd.cu: plain, momentum and Nesterov, with penalties and clipping."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, assert_rounded

MOMENTUM = 0.875


def check(launcher: Launcher, case: FlatCase, velocity: HostArray | None, nesterov: bool) -> None:
    theta, g = case.values.astype(np.float64), case.gradient()
    direction, expected_velocity = g, None
    if velocity is not None:
        expected_velocity = MOMENTUM * velocity.astype(np.float64) + g
        direction = g + MOMENTUM * expected_velocity if nesterov else expected_velocity
    case.launch(launcher, "sgd", [MOMENTUM, nesterov], [velocity], counts_steps=False)
    size = np.abs(g) + np.abs(case.bare()) + 1
    assert_rounded(case.values, theta - case.eta * direction, roundings=8, scale=np.abs(theta) + 4 * size * case.eta)
    if velocity is not None:
        assert expected_velocity is not None
        assert_rounded(velocity, expected_velocity, roundings=8, scale=size)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "momentum", "nesterov"])
def test_update(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        velocity = None if kind == "plain" else np.random.default_rng(1).normal(size=case.n).astype(dtype)
        check(launcher, case, velocity, nesterov=kind == "nesterov")


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    case = FlatCase(np.dtype(np.float64), 4097, n_segments=6)
    check(make_launcher(block=block, max_blocks=max_blocks), case, np.ones(4097), nesterov=True)


def test_nothing_moves_after_a_failed_step(launcher: Launcher) -> None:
    case, velocity = FlatCase(np.dtype(np.float32), 100, failed=0), np.ones(100, np.float32)
    before = case.values.copy()
    case.launch(launcher, "sgd", [MOMENTUM, False], [velocity], counts_steps=False)
    np.testing.assert_array_equal(case.values, before)
    np.testing.assert_array_equal(velocity, 1)


def test_l2_alone_multiplies_weights(launcher: Launcher) -> None:
    case = FlatCase(np.dtype(np.float64), 50, n_segments=1)
    case.segments[0, 1:] = 0, 0.25, 0, 1
    case.gradients[:] = 0
    before = case.values.copy()
    case.launch(launcher, "sgd", [0.0, False], [None], counts_steps=False)
    np.testing.assert_allclose(case.values, before * (1 - 2 * case.rate * 0.25), rtol=1e-15)


def test_nan_is_not_clipped_away(launcher: Launcher) -> None:
    case = FlatCase(np.dtype(np.float32), 3, max_value=0.5)
    case.gradients[1] = np.nan
    case.launch(launcher, "sgd", [0.0, False], [None], counts_steps=False)
    assert np.isnan(case.values).tolist() == [False, True, False]
