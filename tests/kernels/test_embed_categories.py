"""embed_categories.cu: rows of tables bit for bit, sums in the order of the samples, NaN where there is no category."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned

SIZES = [0, 1, 31, 33, 100]


class Tables:
    """Two tables, of 70 rows of 3 and of 4 rows of 40, over units 2 and 0 of three."""

    def __init__(self, batch: int, dtype: np.dtype[Any]) -> None:
        rng = np.random.default_rng(batch)
        self.batch, self.dtype, self.wide = batch, dtype, accumulator(dtype)
        self.shapes, self.units = [(70, 3), (4, 40)], [2, 0]
        self.order = np.array([2, 0, 1])
        self.starts, self.places = np.array([0, 210, 370]), np.array([0, 3, 43])
        self.E = rng.normal(size=(370, 1)).astype(self.wide)
        X = rng.normal(size=(batch, 3))
        X[:, 2], X[:, 0] = rng.integers(0, 70, batch), rng.integers(0, 4, batch)
        X[40:45, 2] = [-1, 70, 0.5, np.nan, np.inf][: max(0, batch - 40)]
        self.X = X.astype(dtype).T
        self.dOut = rng.normal(size=(batch, 44)).astype(dtype).T

    def sizes(self) -> list[int]:
        return [3, 44, self.batch, 2]

    def rows(self, i: int) -> tuple[HostArray, HostArray]:
        """The categories of table i, and which samples have one."""
        x = self.X[self.units[i]].astype(np.float64)
        with np.errstate(invalid="ignore"):
            right = (x >= 0) & (x < self.shapes[i][0]) & (x == np.floor(x))
            return np.where(right, x, 0).astype(int), right

    def check(self, launcher: Launcher) -> None:
        out, dE = poisoned((44, self.batch), self.dtype), np.zeros((370, 1), self.wide)
        given = [self.order, self.starts, self.places]
        arguments = [*self.sizes(), 370, *given, self.E, self.X, out]
        launcher.launch("embed_categories", "embed_categories", (self.dtype,), arguments, threads=out.size)
        arguments = [*self.sizes(), 370, *given, self.dOut, self.X, dE]
        threads = 2 * self.batch * 32
        launcher.launch("embed_categories", "embed_categories_rows", (self.dtype,), arguments, threads=threads)
        for i, (n, width) in enumerate(self.shapes):
            rows, right = self.rows(i)
            start, place = self.starts[i], self.places[i]
            table = self.E[start : start + n * width].reshape(n, width)
            expected = np.where(right[:, None], table[rows], np.nan).astype(self.dtype)
            actual = out[place : place + width].T.astype(np.float64)  # bfloat16 knows no NaN that equals another
            np.testing.assert_array_equal(actual, expected.astype(np.float64))
            sums = np.zeros((n, width), self.wide)
            np.add.at(sums, rows[right], self.dOut[place : place + width].T[right].astype(self.wide))
            np.testing.assert_array_equal(dE[start : start + n * width].reshape(n, width), sums)
        np.testing.assert_array_equal(out[43], self.X[1])
        dX = poisoned((3, self.batch), self.dtype)
        arguments = [*self.sizes(), self.order, self.dOut, dX]
        launcher.launch("embed_categories", "embed_categories_inputs", (self.dtype,), arguments, threads=dX.size)
        assert_rounded(dX, np.stack([np.zeros(self.batch), self.dOut[43].astype(float), np.zeros(self.batch)]))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("batch", SIZES)
def test_rows_and_their_gradients(launcher: Launcher, batch: int, dtype: np.dtype[Any]) -> None:
    Tables(batch, dtype).check(launcher)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    Tables(100, np.dtype(np.float32)).check(make_launcher(block=block, max_blocks=max_blocks))
