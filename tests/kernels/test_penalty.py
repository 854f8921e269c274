"""penalty.cu: the penalty's value, summed in parts, and the penalized gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, assert_rounded, poisoned


def check_value(launcher: Launcher, case: FlatCase, part: int) -> None:
    n_parts = -(-case.n // part)
    partial, arrived, total = poisoned(n_parts, case.dtype), np.zeros(1, np.uint32), poisoned(1, np.float64)
    arguments = [case.n, part, n_parts, case.n_segments, case.segments, case.values, partial, arrived, total]
    launcher.launch("penalty", "penalty", (case.dtype,), arguments, blocks=n_parts)
    assert arrived.tolist() == [0]
    w = case.values.astype(np.float64)
    expected = np.sum(case.per_parameter(1) * np.abs(w) + case.per_parameter(2) * w**2)
    np.testing.assert_allclose(total, [expected], rtol=64 * np.finfo(case.dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("part", [1, 100, 5000])
def test_value(launcher: Launcher, part: int, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        if part > 1 or case.n < 100:
            check_value(launcher, case, part)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    check_value(make_launcher(block=block, max_blocks=max_blocks), FlatCase(np.dtype(np.float64), 4097, 6), 300)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradient(make_launcher: Callable[..., Launcher], dtype: np.dtype[Any]) -> None:
    for case, block in itertools.product(variants(dtype), [32, 256]):
        launcher, out, expected = make_launcher(block=block, max_blocks=3), poisoned(case.n, dtype), case.penalized()
        size = np.abs(case.bare()) + np.abs(case.values) + 1
        for target in (out, case.gradients):  # and in place
            arguments = [case.n, case.n_segments, case.segments, case.scale_cell(), case.values, case.gradients, target]
            launcher.launch("penalty", "penalized_gradient", (dtype,), arguments, threads=case.n)
            assert_rounded(target, expected, roundings=4, scale=size)


def test_a_weight_that_is_nan_shows_in_its_gradient(launcher: Launcher) -> None:
    values, out = np.array([np.nan, 0.0, 2.0]), poisoned(3, np.float64)
    segments = np.array([[3.0, 0.5, 0.0, 0.0, 1.0]])
    launcher.launch(
        "penalty", "penalized_gradient", (np.float64,), [3, 1, segments, None, values, np.ones(3), out], threads=3
    )
    np.testing.assert_array_equal(out, [np.nan, 1.0, 1.5])


def test_a_weight_without_penalty_adds_nothing_even_if_infinite(launcher: Launcher) -> None:
    values, partial, total = np.array([np.inf, np.nan, 2.0]), poisoned(1, np.float64), poisoned(1, np.float64)
    segments = np.array([[2.0, 0.0, 0.0, 0.0, 1.0], [3.0, 0.5, 0.25, 0.0, 1.0]])
    arguments = [3, 3, 1, 2, segments, values, partial, np.zeros(1, np.uint32), total]
    launcher.launch("penalty", "penalty", (np.float64,), arguments, blocks=1)
    assert total.tolist() == [2.0]
