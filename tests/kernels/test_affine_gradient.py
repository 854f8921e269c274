"""affine_gradient.cu: dγ and dβ as partial sums over chunks of samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import tiles
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned


def run(launcher: Launcher, dY: HostArray, x_hat: HostArray, chunk: int) -> tuple[HostArray, HostArray]:
    n, batch = dY.shape
    n_chunks = max(1, -(-batch // chunk))
    wide = accumulator(dY.dtype)
    dgamma, dbeta = poisoned((n_chunks, n), wide, "C"), poisoned((n_chunks, n), wide, "C")
    arguments = [n, batch, chunk, n_chunks, dY, x_hat, dgamma, dbeta]
    blocks = tiles(n, n_chunks, dY.dtype)
    launcher.launch("affine_gradient", "affine_gradient", (dY.dtype,), arguments, blocks=blocks)
    return dgamma, dbeta


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_sums_of_each_chunk(launcher: Launcher, chunk: int, dtype: np.dtype[Any]) -> None:
    for n, batch in [(1, 1), (3, 0), (1, 40), (33, 5), (70, 41)]:
        rng = np.random.default_rng(n)
        dY, x_hat = rng.normal(size=(batch, n)).astype(dtype).T, rng.normal(size=(batch, n)).astype(dtype).T
        dgamma, dbeta = run(launcher, dY, x_hat, chunk)
        for c in range(dgamma.shape[0]):
            dy = dY[:, c * chunk : (c + 1) * chunk].astype(np.float64)
            product = dy * x_hat[:, c * chunk : (c + 1) * chunk].astype(np.float64)
            assert_rounded(dbeta[c], dy.sum(axis=1), roundings=64, scale=np.abs(dy).sum(axis=1))
            assert_rounded(dgamma[c], product.sum(axis=1), roundings=64, scale=np.abs(product).sum(axis=1))


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    dY = np.arange(65 * 41, dtype=np.float64).reshape(41, 65).T
    dgamma, dbeta = run(make_launcher(block=block, max_blocks=max_blocks), dY, np.full_like(dY, 2.0), 10)
    np.testing.assert_array_equal(dbeta.sum(axis=0), dY.sum(axis=1))
    np.testing.assert_array_equal(dgamma.sum(axis=0), 2 * dY.sum(axis=1))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_the_sum_of_all_chunks(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    launcher = make_launcher(block=block, max_blocks=2)
    for n, n_chunks in [(1, 1), (33, 2), (5, 40), (100, 7)]:
        parts = [np.random.default_rng(seed).normal(size=(n_chunks, n)).astype(dtype) for seed in (n, n + 1)]
        sums = [poisoned((n, 1), dtype), poisoned((n, 1), dtype)]
        arguments = [n, n_chunks, *parts, *sums]
        launcher.launch("affine_gradient", "affine_gradient_sum", (dtype,), arguments, blocks=-(-n // 32))
        for part, total in zip(parts, sums, strict=True):
            exact = part.sum(axis=0, dtype=np.float64).reshape(n, 1)
            assert_rounded(total, exact, roundings=64, scale=np.abs(part).sum(axis=0, dtype=np.float64).reshape(n, 1))
