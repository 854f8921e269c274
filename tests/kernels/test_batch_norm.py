"""batch_norm.cu: statistics in chunks, normalization, inference and backward."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned

EPS, MOMENTUM = 1e-2, 0.25
SHAPES = [(1, 1), (1, 40), (5, 2), (33, 5), (70, 41)]


def parameters(n: int, dtype: np.dtype[Any]) -> list[HostArray]:
    """γ, β, running mean and running variance."""
    rng = np.random.default_rng(n)
    return [rng.uniform(0.5, 2, size=(n, 1)).astype(accumulator(dtype)) for _ in range(4)]


def statistics(launcher: Launcher, X: HostArray, chunk: int, running: list[HostArray]) -> tuple[HostArray, HostArray]:
    """Both stages: the mean and 1/√(σ² + ε); the running statistics move in place."""
    (n, batch), wide = X.shape, accumulator(X.dtype)
    n_chunks = -(-batch // chunk)
    chunk_mean, chunk_square = poisoned(n * n_chunks, wide), poisoned(n * n_chunks, wide)
    mean, inv_std = poisoned((n, 1), wide), poisoned((n, 1), wide)
    arguments = [n, batch, chunk, n_chunks, X, chunk_mean, chunk_square]
    launcher.launch("batch_norm", "batch_norm_chunks", (X.dtype,), arguments, blocks=-(-n // 32) * n_chunks)
    arguments = [n, batch, chunk, n_chunks, EPS, MOMENTUM, chunk_mean, chunk_square, mean, inv_std, *running]
    launcher.launch("batch_norm", "batch_norm_statistics", (wide,), arguments, threads=n)
    return mean, inv_std


def check_statistics(launcher: Launcher, X: HostArray, chunk: int) -> None:
    (n, batch), x = X.shape, X.astype(np.float64)
    _, _, running_mean, running_var = parameters(n, X.dtype)
    before_mean, before_var = running_mean.astype(np.float64), running_var.astype(np.float64)
    mean, inv_std = statistics(launcher, X, chunk, [running_mean, running_var])
    exact_mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    unbiased = variance * batch / max(1, batch - 1)
    size = np.abs(x).mean(axis=1, keepdims=True)
    assert_rounded(mean, exact_mean, roundings=16, scale=size)
    # Rounding of the deviations: a few roundings of σ|x|, which the division by σ² + ε ≥ ε relates to the result.
    relative = size * np.sqrt(variance) / (variance + EPS)
    assert_rounded(inv_std, 1 / np.sqrt(variance + EPS), roundings=32, scale=relative / np.sqrt(variance + EPS))
    moved = (1 - MOMENTUM) * before_mean + MOMENTUM * exact_mean
    assert_rounded(running_mean, moved, roundings=16, scale=size + np.abs(before_mean))
    moved = (1 - MOMENTUM) * before_var + MOMENTUM * unbiased
    assert_rounded(running_var, moved, roundings=32, scale=before_var + unbiased + size * np.sqrt(variance))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_statistics(launcher: Launcher, chunk: int, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        X = (1 + np.random.default_rng(n).normal(size=(batch, n))).astype(dtype).T
        check_statistics(launcher, X, chunk)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    X = np.random.default_rng(0).normal(size=(41, 70)).T
    check_statistics(make_launcher(block=block, max_blocks=max_blocks), X, 10)


@pytest.mark.parametrize("chunk", [8, 1000])
def test_a_large_mean_does_not_cancel(launcher: Launcher, chunk: int) -> None:
    # mean(x²) − mean(x)² in float32 would lose the variance of 1 beside 10⁸ altogether.
    x = np.where(np.arange(64) % 2 == 0, 1e4 - 1, 1e4 + 1).astype(np.float32)
    _, _, *running = parameters(1, np.dtype(np.float32))
    mean, inv_std = statistics(launcher, x.reshape(1, 64), chunk, running)
    np.testing.assert_allclose(mean, [[1e4]], rtol=1e-6)
    np.testing.assert_allclose(inv_std, [[1 / np.sqrt(1 + EPS)]], rtol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_normalize_inference_and_backward(make_launcher: Callable[..., Launcher], dtype: np.dtype[Any]) -> None:
    for (n, batch), block in itertools.product([*SHAPES, (4, 0)], [32, 256]):
        launcher = make_launcher(block=block, max_blocks=5)
        rng = np.random.default_rng(n)
        X, H, dY = (rng.normal(size=(batch, n)).astype(dtype).T for _ in range(3))
        gamma, beta, mean, spread = parameters(n, dtype)
        x_hat, out, dX = (poisoned((n, batch), dtype) for _ in range(3))
        x, g, b, m, s, dy, h = (a.astype(np.float64) for a in (X, gamma, beta, mean, spread, dY, H))
        size = 1 + np.abs(x) + np.abs(m)

        arguments = [n, batch, X, gamma, beta, mean, spread, x_hat, out]
        launcher.launch("batch_norm", "batch_norm_normalize", (dtype,), arguments, threads=X.size)
        assert_rounded(x_hat, (x - m) * s, roundings=4, scale=size * s)
        assert_rounded(out, (x - m) * s * g + b, roundings=8, scale=size * s * g + b)

        arguments = [n, batch, dY, gamma, H, spread, mean, beta, dX]
        launcher.launch("batch_norm", "batch_norm_backward", (dtype,), arguments, threads=X.size)
        expected = g * s * (dy - (b + h * m) / max(1, batch))
        assert_rounded(dX, expected, roundings=8, scale=g * s * (np.abs(dy) + b + np.abs(h) * m))

        arguments = [n, batch, EPS, X, gamma, beta, mean, spread, X]  # in place
        launcher.launch("batch_norm", "batch_norm_inference", (dtype,), arguments, threads=X.size)
        scale = g / np.sqrt(s + EPS)
        assert_rounded(X, (x - m) * scale + b, roundings=8, scale=size * scale + b)
