"""copy_units.cu: some units of each sample into another matrix."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, poisoned

SHAPES = [
    (0, 3, 2, 1, 4, 0),
    (3, 0, 3, 0, 5, 2),
    (1, 1, 1, 0, 1, 0),
    (5, 7, 9, 4, 5, 0),
    (3, 40, 3, 0, 11, 8),
    (64, 9, 70, 3, 65, 1),
]
"""n, batch, n_x, first_x, n_out, first_out"""


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_every_type_and_shape(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for n, batch, n_x, of_x, n_out, of_out in SHAPES:
        x = np.asfortranarray(np.random.default_rng(n).normal(size=(n_x, batch))).astype(dtype)
        out = np.full((n_out, batch), 0.5, dtype, order="F")
        expected = out.copy()
        expected[of_out : of_out + n] = x[of_x : of_x + n]
        arguments = [n, batch, n_x, of_x, n_out, of_out, x, out]
        launcher.launch("copy_units", "copy_units", (dtype,), arguments, threads=max(1, n * batch))
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    x, out = np.asfortranarray(np.arange(11 * 301.0).reshape(11, 301)), poisoned((7, 301), np.float64)
    launcher.launch("copy_units", "copy_units", (x.dtype,), [7, 301, 11, 2, 7, 0, x, out], threads=7 * 301)
    np.testing.assert_array_equal(out, x[2:9])
