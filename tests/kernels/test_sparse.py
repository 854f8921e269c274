"""sparse.cu: products with samples of which the numbers other than 0 are kept, against those with dense ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .conftest import ExpectFault
from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned

SCALE = 0.75
WARPS_PER_SAMPLE = 16


class Samples:
    """Every third of 3·batch rows, from the last: one is empty, one has all of the columns."""

    def __init__(self, batch: int, n_in: int, dtype: np.dtype[Any], density: float = 0.2) -> None:
        rng = np.random.default_rng(batch + n_in)
        self.batch, self.n_in, self.dtype, self.wide = batch, n_in, dtype, accumulator(dtype)
        dense = rng.normal(size=(3 * batch, n_in)) * (rng.uniform(size=(3 * batch, n_in)) < density)
        dense[2:3], dense[5:6] = 0.0, rng.normal(size=n_in)
        rows, columns = np.nonzero(dense)
        ends = np.append(0, np.cumsum(np.bincount(rows, minlength=3 * batch)))
        kept = np.arange(3 * batch)[::-3]
        self.extents = np.stack([ends[kept], ends[kept + 1]], axis=1)
        self.values, self.columns = dense[rows, columns].astype(self.wide), columns.astype(np.int32)
        self.dense = dense[kept].astype(self.wide).astype(np.float64)

    def launch(self, launcher: Launcher, kernel: str, n_out: int, given: HostArray, out: HostArray) -> HostArray:
        sizes = [n_out, self.n_in, self.batch, self.values.size, SCALE]
        arguments = [*sizes, given, self.extents, self.columns, self.values, out]
        threads = out.size if kernel == "sparse_product" else self.batch * WARPS_PER_SAMPLE * 32
        launcher.launch("sparse", kernel, (self.dtype,), arguments, threads=threads)
        return out

    def check(self, launcher: Launcher, n_out: int) -> None:
        rng = np.random.default_rng(n_out)
        W = np.asfortranarray(rng.normal(size=(n_out, self.n_in)).astype(self.dtype))
        dZ = np.asfortranarray(rng.normal(size=(n_out, self.batch)).astype(self.dtype))
        out = self.launch(launcher, "sparse_product", n_out, W, poisoned((n_out, self.batch), self.dtype))
        x, w, d = SCALE * self.dense, W.astype(np.float64), dZ.astype(np.float64)
        assert_rounded(out, w @ x.T, roundings=self.n_in + 2, scale=np.abs(w) @ np.abs(x.T))
        before = np.asfortranarray(rng.normal(size=(n_out, self.n_in)).astype(self.wide))
        dW = self.launch(launcher, "sparse_gradient", n_out, dZ, before.copy(order="F"))
        exact, scale = before + d @ x, np.abs(before) + np.abs(d) @ np.abs(x)
        assert_rounded(dW, exact, roundings=self.batch + 2, scale=scale)
        absent = ~self.dense.any(axis=0)
        np.testing.assert_array_equal(dW[:, absent], before[:, absent])


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("batch", "n_in", "n_out"), [(1, 1, 1), (2, 7, 33), (33, 40, 31), (70, 300, 3), (3, 9, 100)])
def test_products_are_those_of_the_dense_samples(
    launcher: Launcher, batch: int, n_in: int, n_out: int, dtype: np.dtype[Any]
) -> None:
    Samples(batch, n_in, dtype).check(launcher, n_out)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_samples_without_a_number(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    samples = Samples(5, 4, dtype, density=0.0)
    samples.extents[...] = 0
    samples.dense[...] = 0.0
    samples.check(launcher, 6)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3])))
def test_any_grid_gives_the_same_bits(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    samples, rng = Samples(40, 50, np.dtype(np.float32)), np.random.default_rng(0)
    W, dZ = (np.asfortranarray(rng.normal(size=shape).astype(np.float32)) for shape in ((37, 50), (37, 40)))
    results = []
    for launcher in (make_launcher(), make_launcher(block=block, max_blocks=max_blocks)):
        out = samples.launch(launcher, "sparse_product", 37, W, poisoned((37, 40), np.float32))
        dW = np.zeros((37, 50), np.float32, order="F")
        results.append((out, samples.launch(launcher, "sparse_gradient", 37, dZ, dW)))
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kernel", ["sparse_product", "sparse_gradient"])
@pytest.mark.parametrize("fault", ["a column", "a place"])
def test_what_lies_outside_stops_the_launch(expect_fault: ExpectFault, kernel: str, fault: str) -> None:
    samples = Samples(4, 6, np.dtype(np.float32), density=0.9)
    if fault == "a column":
        samples.columns[samples.extents[0, 0]] = 6
    else:
        samples.extents[0, 1] = samples.values.size + 1
    given = np.zeros((3, 6 if kernel == "sparse_product" else 4), np.float32, order="F")
    out = np.zeros((3, 4 if kernel == "sparse_product" else 6), np.float32, order="F")
    with expect_fault("__trap") as launcher:
        samples.launch(launcher, kernel, 3, given, out)
