"""layer_norm.cu: forward and backward over the units of each sample, of layer, group and RMS normalization."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, capacities, held_work, poisoned, unaligned

SHAPES = [(1, 1), (2, 0), (2, 3), (16, 9), (33, 5), (200, 2), (1024, 1), (1100, 2), (1501, 1)]
EPS = 1e-2


def forward(
    launcher: Launcher, capacity: int, X: HostArray, gamma: HostArray, beta: HostArray | None, groups: int = 1
) -> list[HostArray]:
    """Without beta of RMS normalization. With groups, X has a column for each of them of each sample."""
    (n, batch), dtype = X.shape, X.dtype
    template = dtype, beta is not None, capacity
    written = [poisoned((n, batch), dtype), poisoned((1, batch), accumulator(dtype)), poisoned((n, batch), dtype)]
    arguments = [n, batch, groups, EPS, X, gamma, beta, *written]
    launcher.launch("layer_norm", "layer_norm_forward", template, arguments, **held_work(capacity, batch))
    return written


def check_forward(launcher: Launcher, capacity: int, X: HostArray) -> None:
    n = X.shape[0]
    rng = np.random.default_rng(n)
    gamma, beta = (rng.uniform(0.5, 2, size=(n, 1)).astype(accumulator(X.dtype)) for _ in range(2))
    x_hat, inv_std, out = forward(launcher, capacity, X, gamma, beta)
    x, g, b = X.astype(np.float64), gamma.astype(np.float64), beta.astype(np.float64)
    factor = 1 / np.sqrt(x.var(axis=0, keepdims=True) + EPS)
    expected = (x - x.mean(axis=0, keepdims=True)) * factor
    size = (np.abs(x) + np.abs(x).mean(axis=0, keepdims=True)) * factor
    assert_rounded(inv_std, factor, roundings=64)
    assert_rounded(x_hat, expected, roundings=64, scale=size)
    assert_rounded(out, expected * g + b, roundings=64, scale=size * g + b)
    x_hat, inv_rms, out = forward(launcher, capacity, X, gamma, None)
    factor = 1 / np.sqrt((x * x).mean(axis=0, keepdims=True) + EPS)
    assert_rounded(inv_rms, factor, roundings=64)
    assert_rounded(x_hat, x * factor, roundings=64, scale=np.abs(x) * factor)
    assert_rounded(out, x * factor * g, roundings=64, scale=np.abs(x) * factor * g)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_forward(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        X = (0.5 + np.random.default_rng(n).normal(size=(batch, n))).astype(dtype).T
        for capacity in capacities(n):
            check_forward(launcher, capacity, X)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_forward_of_groups(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    """Each takes its own γ and β; apart from them it is a sample."""
    for n, groups in [(5, 3), (16, 2), (40, 7), (300, 2), (1100, 2)]:
        rng, wide = np.random.default_rng(n), accumulator(dtype)
        X = (0.5 + rng.normal(size=(4 * groups, n))).astype(dtype).T
        gamma, beta = (rng.uniform(0.5, 2, size=(n, groups)).astype(wide) for _ in range(2))
        for capacity in capacities(n):
            flat = [np.ascontiguousarray(x.T).reshape(-1, 1) for x in (gamma, beta)]
            *_, out = forward(launcher, capacity, X, flat[0], flat[1], groups)
            for group in range(groups):
                own = [np.ascontiguousarray(x[:, group : group + 1]) for x in (gamma, beta)]
                *_, alone = forward(launcher, capacity, np.asfortranarray(X[:, group::groups]), own[0], own[1])
                np.testing.assert_array_equal(out[:, group::groups], alone)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("capacity", [0, 128])
def test_a_view_between_two_16_byte_boundaries(launcher: Launcher, capacity: int, dtype: np.dtype[Any]) -> None:
    check_forward(launcher, capacity, unaligned(np.random.default_rng(0).normal(size=(3, 64)).astype(dtype).T))


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 3, 65_536])))
@pytest.mark.parametrize("capacity", capacities(70))
def test_any_grid(make_launcher: Callable[..., Launcher], capacity: int, block: int, max_blocks: int) -> None:
    X = np.random.default_rng(0).normal(size=(41, 70)).T
    check_forward(make_launcher(block=block, max_blocks=max_blocks), capacity, X)


class Backward:
    """Inputs of the backward pass, and its results by the definition, in float64."""

    def __init__(self, n: int, batch: int, dtype: np.dtype[Any], centred: bool) -> None:
        self.centred = centred
        rng, wide = np.random.default_rng(n), accumulator(dtype)
        self.shape = (n, batch)
        self.dY, self.x_hat = (rng.normal(size=(batch, n)).astype(dtype).T for _ in range(2))
        self.gamma = rng.normal(size=(n, 1)).astype(wide)
        self.inv_std = rng.uniform(0.5, 2, size=(1, batch)).astype(wide)
        self.dy, self.h, s = (x.astype(np.float64) for x in (self.dY, self.x_hat, self.inv_std))
        d = self.gamma.astype(np.float64) * self.dy
        slope = (d * self.h).mean(axis=0, keepdims=True)
        self.dX = (d - d.mean(axis=0, keepdims=True) * centred - self.h * slope) * s
        size = np.abs(d) + np.abs(d).mean(axis=0, keepdims=True) * centred
        self.size = (size + np.abs(self.h) * np.abs(d * self.h).mean(axis=0, keepdims=True)) * s

    def check_held(self, launcher: Launcher, capacity: int, chunk: int, in_place: bool = False) -> None:
        (n, batch), dtype = self.shape, self.dY.dtype
        n_chunks = max(1, -(-batch // chunk))
        sums = [poisoned((n_chunks, n), self.gamma.dtype, "C") for _ in range(2 if self.centred else 1)]
        dX = self.dY if in_place else poisoned(self.shape, dtype)
        given = [self.dY, self.gamma, self.x_hat, self.inv_std, *sums, *[None] * (not self.centred), dX]
        template = dtype, self.centred, capacity
        arguments = [n, batch, 1, chunk, n_chunks, *given]
        launcher.launch("layer_norm", "layer_norm_backward_held", template, arguments, blocks=n_chunks)
        assert_rounded(dX, self.dX, roundings=64, scale=self.size)
        for c in range(n_chunks):
            dy, h = (x[:, c * chunk : (c + 1) * chunk] for x in (self.dy, self.h))
            for actual, terms in zip(sums, (dy * h, dy), strict=False):
                assert_rounded(actual[c], terms.sum(axis=1), roundings=64, scale=np.abs(terms).sum(axis=1))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("centred", [True, False])
def test_backward_of_wide_samples(launcher: Launcher, dtype: np.dtype[Any], centred: bool) -> None:
    for n, batch in SHAPES:
        case = Backward(n, batch, dtype, centred)
        for target in (poisoned((n, batch), dtype), case.dY):  # and in place
            arguments = [n, batch, 1, case.dY, case.gamma, case.x_hat, case.inv_std, target]
            launcher.launch("layer_norm", "layer_norm_backward", (dtype, centred), arguments, blocks=batch)
            assert_rounded(target, case.dX, roundings=64, scale=case.size)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("chunk", [1, 16, 100])
@pytest.mark.parametrize("centred", [True, False])
def test_backward_of_held_samples(
    make_launcher: Callable[..., Launcher], chunk: int, dtype: np.dtype[Any], centred: bool
) -> None:
    launcher = make_launcher(max_blocks=2)
    for n, batch in [(1, 1), (2, 0), (2, 3), (16, 9), (33, 40), (200, 18), (512, 2), (1000, 3), (1024, 1)]:
        for capacity in capacities(n)[1:]:
            if capacity > 32 and not (dtype == np.float64 and capacity > 512):
                Backward(n, batch, dtype, centred).check_held(launcher, capacity, chunk)
                Backward(n, batch, dtype, centred).check_held(launcher, capacity, chunk, in_place=True)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("max_blocks", [1, 65_536])
def test_backward_of_groups(make_launcher: Callable[..., Launcher], max_blocks: int, dtype: np.dtype[Any]) -> None:
    """As of so many samples, but for γ, dγ and dβ, which each group has for itself."""
    launcher, batch, chunk = make_launcher(max_blocks=max_blocks), 20, 16
    for n, groups in [(5, 3), (64, 2), (200, 2)]:
        cases = [Backward(n, batch, dtype, True) for _ in range(groups)]
        rng = np.random.default_rng(groups)
        for case in cases:  # those of Backward are the same for the same sizes
            case.gamma = rng.normal(size=(n, 1)).astype(case.gamma.dtype)
        dY, x_hat, inv_std = (
            np.asfortranarray(np.stack([getattr(case, name) for case in cases], 1).reshape(-1, batch, order="F"))
            for name in ("dY", "x_hat", "inv_std")
        )
        gamma = np.concatenate([case.gamma for case in cases])
        for capacity in [c for c in (128, 512) if n <= c]:
            sums, dX = [poisoned((2, n * groups), gamma.dtype, "C") for _ in range(2)], poisoned(dY.shape, dtype)
            arguments = [n, batch, groups, chunk, 2, dY, gamma, x_hat, inv_std, *sums, dX]
            launcher.launch(
                "layer_norm", "layer_norm_backward_held", (dtype, True, capacity), arguments, blocks=2 * groups
            )
            for g, case in enumerate(cases):
                own, alone = poisoned((n, batch), dtype), [poisoned((2, n), gamma.dtype, "C") for _ in range(2)]
                given = [n, batch, 1, chunk, 2, case.dY, case.gamma, case.x_hat, case.inv_std, *alone, own]
                launcher.launch("layer_norm", "layer_norm_backward_held", (dtype, True, capacity), given, blocks=2)
                np.testing.assert_array_equal(dX[g * n : (g + 1) * n], own)
                for part, expected in zip(sums, alone, strict=True):
                    np.testing.assert_array_equal(part[:, g * n : (g + 1) * n], expected)
        whole, dX = [x.T.reshape(batch * groups, n).T for x in (dY, x_hat)], poisoned((n, batch * groups), dtype)
        arguments = [n, batch * groups, groups, whole[0], gamma, whole[1], inv_std, dX]
        launcher.launch("layer_norm", "layer_norm_backward", (dtype, True), arguments, blocks=batch * groups)
        for g, case in enumerate(cases):
            own = poisoned((n, batch), dtype)
            given = [n, batch, 1, case.dY, case.gamma, case.x_hat, case.inv_std, own]
            launcher.launch("layer_norm", "layer_norm_backward", (dtype, True), given, blocks=batch)
            np.testing.assert_array_equal(dX[:, g::groups], own)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_backward_of_a_view_between_two_16_byte_boundaries(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    case = Backward(64, 20, dtype, True)
    case.dY = unaligned(case.dY)
    case.check_held(launcher, 128, 16)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("capacity", capacities(64))
def test_the_ends_of_the_range(launcher: Launcher, capacity: int, dtype: np.dtype[Any]) -> None:
    X = np.where(np.arange(64) % 2 == 0, 65504.0, -65504.0).astype(dtype).reshape(64, 1)
    wide = accumulator(dtype)
    x_hat, inv_std, out = forward(launcher, capacity, X, np.ones((64, 1), wide), np.ones((64, 1), wide))
    np.testing.assert_allclose(inv_std, 1 / np.abs(X[0, 0].astype(float)), rtol=1e-6)
    np.testing.assert_allclose(x_hat.astype(float), np.sign(X.astype(float)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(out.astype(float), 1 + np.sign(X.astype(float)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("capacity", capacities(64))
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("centred", [True, False])
def test_what_is_not_finite_shows_in_its_sample_only(
    launcher: Launcher, value: float, capacity: int, dtype: np.dtype[Any], centred: bool
) -> None:
    X = np.random.default_rng(0).normal(size=(5, 64)).astype(dtype).T
    X[17, 1] = value
    wide = accumulator(dtype)
    beta = np.ones((64, 1), wide) if centred else None
    for written in forward(launcher, capacity, X, np.ones((64, 1), wide), beta):
        assert np.isnan(written[:, 1].astype(float)).all()
        assert np.isfinite(np.delete(written, 1, axis=1).astype(float)).all()


@pytest.mark.parametrize("capacity", capacities(64))
def test_a_large_mean_does_not_cancel(launcher: Launcher, capacity: int) -> None:
    X = np.where(np.arange(64) % 2 == 0, 1e4 - 1, 1e4 + 1).astype(np.float32).reshape(64, 1)
    x_hat, *_ = forward(launcher, capacity, X, np.ones((64, 1), np.float32), np.zeros((64, 1), np.float32))
    np.testing.assert_allclose(np.abs(x_hat), 1 / np.sqrt(1 + EPS), rtol=1e-5)
