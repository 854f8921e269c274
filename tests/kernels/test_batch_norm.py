"""batch_norm.cu: statistics in chunks, normalization, inference and backward."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import tiles
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned, unaligned

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
    blocks = tiles(n, n_chunks, X.dtype)
    launcher.launch("batch_norm", "batch_norm_chunks", (X.dtype,), arguments, blocks=blocks)
    arguments = [n, batch, chunk, n_chunks, EPS, MOMENTUM, chunk_mean, chunk_square, mean, inv_std, *running]
    launcher.launch("batch_norm", "batch_norm_statistics", (wide,), arguments, blocks=-(-n // 32))
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


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 3, 65_536])))
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


def test_a_large_mean_does_not_cancel_in_registers(launcher: Launcher) -> None:
    x = np.where(np.arange(64) % 2 == 0, 1e4 - 1, 1e4 + 1).astype(np.float32).reshape(1, 64)
    gamma, beta, *running = parameters(1, np.dtype(np.float32))
    inv_std, x_hat, out = poisoned((1, 1), np.float32), poisoned((1, 64), np.float32), poisoned((1, 64), np.float32)
    arguments = [1, 64, EPS, MOMENTUM, x, gamma, beta, inv_std, *running, x_hat, out]
    launcher.launch("batch_norm", "batch_norm_forward_held", (np.float32, 2), arguments, blocks=1)
    np.testing.assert_allclose(inv_std, [[1 / np.sqrt(1 + EPS)]], rtol=1e-5)
    np.testing.assert_allclose(np.abs(x_hat), 1 / np.sqrt(1 + EPS), rtol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_what_is_not_finite_shows_in_its_unit_only(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for value in (np.nan, np.inf):
        X = np.random.default_rng(0).normal(size=(40, 9)).astype(dtype).T
        X[3, 17] = value
        gamma, beta, *running = parameters(9, dtype)
        for chunk in (16, 64):
            _, inv_std = statistics(launcher, X, chunk, [array.copy() for array in running])
            assert np.isnan(inv_std[3, 0])
            assert np.isfinite(np.delete(inv_std, 3, axis=0)).all()
        x_hat, out = poisoned((9, 40), dtype), poisoned((9, 40), dtype)
        arguments = [9, 40, EPS, MOMENTUM, X, gamma, beta, inv_std, *running, x_hat, out]
        launcher.launch("batch_norm", "batch_norm_forward_held", (dtype, 2), arguments, blocks=tiles(9, 1, dtype))
        for written in (inv_std, x_hat, out, *running):
            assert np.isnan(written[3].astype(float)).all() or written is running[0]
            assert np.isfinite(np.delete(written, 3, axis=0).astype(float)).all()


def launch_pass(launcher: Launcher, kernel: str, X: HostArray, chunk: int, arguments: list[Any]) -> None:
    """Launch an elementwise pass in tiles of `chunk` samples."""
    n, batch = X.shape
    n_chunks = -(-batch // chunk)
    blocks = tiles(n, n_chunks, X.dtype)
    launcher.launch("batch_norm", kernel, (X.dtype,), [n, batch, chunk, n_chunks, *arguments], blocks=blocks)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("chunk", [1, 32, 128])
def test_normalize_inference_and_backward(
    make_launcher: Callable[..., Launcher], chunk: int, dtype: np.dtype[Any]
) -> None:
    for (n, batch), block in itertools.product([*SHAPES, (4, 0), (64, 150)], [32, 256]):
        launcher = make_launcher(block=block, max_blocks=5)
        rng = np.random.default_rng(n)
        X, H, dY = (rng.normal(size=(batch, n)).astype(dtype).T for _ in range(3))
        gamma, beta, mean, spread = parameters(n, dtype)
        x_hat, out, dX = (poisoned((n, batch), dtype) for _ in range(3))
        x, g, b, m, s, dy, h = (a.astype(np.float64) for a in (X, gamma, beta, mean, spread, dY, H))
        size = 1 + np.abs(x) + np.abs(m)

        launch_pass(launcher, "batch_norm_normalize", X, chunk, [X, gamma, beta, mean, spread, x_hat, out])
        assert_rounded(x_hat, (x - m) * s, roundings=4, scale=size * s)
        assert_rounded(out, (x - m) * s * g + b, roundings=8, scale=size * s * g + b)

        expected = g * s * (dy - (b + h * m) / max(1, batch))
        for target in (dX, dY):  # and in place
            launch_pass(launcher, "batch_norm_backward", X, chunk, [dY, gamma, H, spread, mean, beta, target])
            assert_rounded(target, expected, roundings=8, scale=g * s * (np.abs(dy) + b + np.abs(h) * m))

        launch_pass(launcher, "batch_norm_inference", X, chunk, [EPS, X, gamma, beta, mean, spread, X])  # in place
        scale = g / np.sqrt(s + EPS)
        assert_rounded(X, (x - m) * scale + b, roundings=8, scale=size * scale + b)


HELD_SHAPES = [(1, 1, 2), (1, 40, 2), (5, 2, 2), (33, 64, 2), (64, 64, 4), (70, 128, 4), (8, 129, 8), (33, 256, 8)]
"""(units, samples, samples per thread)"""


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("n", "batch", "held"), HELD_SHAPES)
def test_forward_held(
    make_launcher: Callable[..., Launcher], n: int, batch: int, held: int, aligned: bool, dtype: np.dtype[Any]
) -> None:
    launcher = make_launcher(max_blocks=2)
    X = (1 + np.random.default_rng(n).normal(size=(batch, n))).astype(dtype).T
    gamma, beta, *running = parameters(n, dtype)
    chunked = [array.copy() for array in running]
    mean, expected_inv_std = statistics(launcher, X, 64, chunked)  # itself checked against the definition
    X = X if aligned else unaligned(X)
    x_hat, out = poisoned((n, batch), dtype), poisoned((n, batch), dtype)
    inv_std = poisoned((n, 1), accumulator(dtype))
    arguments = [n, batch, EPS, MOMENTUM, X, gamma, beta, inv_std, *running, x_hat, out]
    blocks = tiles(n, 1, dtype)
    launcher.launch("batch_norm", "batch_norm_forward_held", (dtype, held), arguments, blocks=blocks)
    x, g, b, m = (a.astype(np.float64) for a in (X, gamma, beta, mean))
    for actual, wanted in [(inv_std, expected_inv_std), *zip(running, chunked, strict=True)]:
        # A few roundings of σ|x|, which the division by σ² + ε ≥ ε relates to the result.
        assert_rounded(actual, wanted.astype(np.float64), roundings=512, scale=1 + np.abs(x).max())
    factor = inv_std.astype(np.float64)
    size = 1 + np.abs(x) + np.abs(m)
    assert_rounded(x_hat, (x - m) * factor, roundings=8, scale=size * factor)
    assert_rounded(out, (x - m) * factor * g + b, roundings=16, scale=size * factor * g + b)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("n", "batch", "held"), HELD_SHAPES)
def test_backward_held(
    make_launcher: Callable[..., Launcher], n: int, batch: int, held: int, aligned: bool, dtype: np.dtype[Any]
) -> None:
    launcher = make_launcher(max_blocks=2)
    rng = np.random.default_rng(n)
    H, dY = (rng.normal(size=(batch, n)).astype(dtype).T for _ in range(2))
    dY = dY if aligned else unaligned(dY)
    gamma, inv_std, *_ = parameters(n, dtype)
    g, s, dy, h = (a.astype(np.float64) for a in (gamma, inv_std, dY, H))
    slope, offset = (dy * h).sum(axis=1, keepdims=True), dy.sum(axis=1, keepdims=True)
    slope_size, offset_size = np.abs(dy * h).sum(axis=1, keepdims=True), np.abs(dy).sum(axis=1, keepdims=True)
    blocks = tiles(n, 1, dtype)
    for target in (poisoned((n, batch), dtype), dY):  # and in place
        dgamma, dbeta = poisoned((n, 1), accumulator(dtype)), poisoned((n, 1), accumulator(dtype))
        arguments = [n, batch, dY, gamma, H, inv_std, dgamma, dbeta, target]
        launcher.launch("batch_norm", "batch_norm_backward_held", (dtype, held), arguments, blocks=blocks)
        assert_rounded(dgamma, slope, roundings=64, scale=slope_size)
        assert_rounded(dbeta, offset, roundings=64, scale=offset_size)
        expected = g * s * (dy - (offset + h * slope) / batch)
        size = g * s * (np.abs(dy) + (offset_size + np.abs(h) * slope_size) / batch)
        assert_rounded(target, expected, roundings=64, scale=size)
