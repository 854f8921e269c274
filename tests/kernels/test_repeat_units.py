"""repeat_units.cu: a batch for each member, and the sum over members."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, poisoned

SHAPES = [(0, 3, 2), (3, 0, 2), (1, 1, 1), (5, 7, 1), (1, 40, 3), (33, 5, 4), (64, 9, 32)]


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_every_type_and_shape(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for n, batch, members in SHAPES:
        rng = np.random.default_rng(n)
        x, out = np.asfortranarray(rng.normal(size=(n, batch))).astype(dtype), poisoned((members * n, batch), dtype)
        launcher.launch("repeat_units", "repeat_units", (dtype,), [n, batch, members, x, out], threads=max(1, x.size))
        np.testing.assert_array_equal(out, np.tile(x, (members, 1)))
        d, dx = np.asfortranarray(rng.normal(size=(members * n, batch))).astype(dtype), poisoned((n, batch), dtype)
        launcher.launch("repeat_units", "sum_repeats", (dtype,), [n, batch, members, d, dx], threads=max(1, x.size))
        sums = np.zeros((n, batch), accumulator(dtype))
        for g in range(members):  # rounded once, at the end
            sums = sums + d[g * n : (g + 1) * n].astype(sums.dtype)
        np.testing.assert_array_equal(dx, sums.astype(dtype))


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    x, out = np.asfortranarray(np.arange(7 * 301.0).reshape(7, 301)), poisoned((21, 301), np.float64)
    launcher.launch("repeat_units", "repeat_units", (x.dtype,), [7, 301, 3, x, out], threads=x.size)
    dx = poisoned((7, 301), np.float64)
    launcher.launch("repeat_units", "sum_repeats", (x.dtype,), [7, 301, 3, out, dx], threads=x.size)
    np.testing.assert_array_equal(dx, 3 * x)
