"""softmax_cross_entropy.cu: losses and gradients for labels, dense and smoothed targets, with and without weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned

GROUPS = ["WARP_PER_SAMPLE", "BLOCK_PER_SAMPLE"]
SHAPES = [(1, 1), (2, 3), (10, 33), (33, 2), (1100, 2)]


class Batch:
    """One batch, and its losses and gradients by the definition, in float64."""

    def __init__(self, dtype: np.dtype[Any], n: int, batch: int, dense: bool, smoothing: float, weighted: bool) -> None:
        rng, wide = np.random.default_rng(n * 100 + batch), accumulator(dtype)
        self.shape = (n, batch)
        self.Z = (4 * rng.normal(size=(batch, n))).astype(dtype).T
        self.labels = None if dense else rng.integers(0, n, batch)
        self.targets = rng.dirichlet(np.ones(n), size=batch).astype(wide).T if dense else None
        self.class_weight = rng.uniform(0.5, 2, n).astype(wide) if weighted else None
        self.sample_weight = rng.uniform(0.5, 2, batch).astype(wide) if weighted else None
        self.smoothing = smoothing

        z = self.Z.astype(np.float64)
        shifted = z - z.max(axis=0, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=0, keepdims=True))
        Y = np.eye(n)[:, self.labels] if self.targets is None else self.targets.astype(np.float64)
        T = (1 - smoothing) * Y + smoothing / n
        if self.class_weight is not None:
            T = T * self.class_weight.astype(np.float64)[:, None]
        w = np.ones(batch) if self.sample_weight is None else self.sample_weight.astype(np.float64)
        self.losses = -w * (T * log_p).sum(axis=0)
        total = np.exp(log_p) * T.sum(axis=0, keepdims=True)
        self.dZ = (total - T) * w / batch
        self.loss_scale = w * (T * (1 + np.abs(shifted))).sum(axis=0)
        self.gradient_scale = (total * (1 + np.abs(shifted)) + T) * w / batch

    def run(self, launcher: Launcher, group: str, loss_scale: float | None = None) -> tuple[HostArray, HostArray]:
        n, batch = self.shape
        losses, dZ = poisoned(batch, accumulator(self.Z.dtype)), poisoned(self.shape, self.Z.dtype)
        scale = None if loss_scale is None else np.array([loss_scale])
        arrays = [self.Z, self.labels, self.targets, self.class_weight, self.sample_weight, scale, losses, dZ]
        work = {"threads": batch * 32} if group == "WARP_PER_SAMPLE" else {"blocks": batch}
        stem = "softmax_cross_entropy"
        launcher.launch(stem, stem, (self.Z.dtype, group), [n, batch, self.smoothing, *arrays], **work)
        return losses, dZ

    def check(self, losses: HostArray, dZ: HostArray, loss_scale: float = 1.0) -> None:
        assert_rounded(losses, self.losses, roundings=64, scale=self.loss_scale)
        assert_rounded(dZ, self.dZ * loss_scale, roundings=64, scale=self.gradient_scale * loss_scale)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dense", [False, True], ids=["labels", "dense"])
def test_definition(launcher: Launcher, dense: bool, smoothing: float, weighted: bool, dtype: np.dtype[Any]) -> None:
    for (n, batch), group in itertools.product(SHAPES, GROUPS):
        case = Batch(dtype, n, batch, dense, smoothing, weighted)
        case.check(*case.run(launcher, group))


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 3, 65_536])))
@pytest.mark.parametrize("group", GROUPS)
def test_any_grid(make_launcher: Callable[..., Launcher], group: str, block: int, max_blocks: int) -> None:
    case = Batch(np.dtype(np.float64), 70, 41, True, 0.1, True)
    case.check(*case.run(make_launcher(block=block, max_blocks=max_blocks), group))


@pytest.mark.parametrize("group", GROUPS)
def test_far_out_logits(launcher: Launcher, group: str) -> None:
    case = Batch(np.dtype(np.float32), 3, 2, False, 0.0, False)
    case.Z[...] = [[1e4, -1e4], [0.0, 0.0], [-1e4, 1e4]]
    case.labels = np.array([0, 0])
    losses, dZ = case.run(launcher, group)
    np.testing.assert_array_equal(losses, [0, 2e4])
    np.testing.assert_array_equal(dZ, [[0, -0.5], [0, 0], [0, 0.5]])


def test_a_class_that_cannot_be(launcher: Launcher) -> None:
    case = Batch(np.dtype(np.float32), 3, 1, False, 0.0, False)
    case.Z[:, 0] = [1.0, -np.inf, 1.0]
    case.labels = np.array([0])
    losses, dZ = case.run(launcher, "WARP_PER_SAMPLE")
    np.testing.assert_allclose(losses, [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dZ[:, 0], [-0.5, 0, 0.5], rtol=1e-6)


def test_a_label_out_of_range_reads_nothing_foreign(launcher: Launcher) -> None:
    case = Batch(np.dtype(np.float32), 3, 2, False, 0.0, True)
    case.labels = np.array([3, -1])
    losses, _ = case.run(launcher, "WARP_PER_SAMPLE")  # the emulation faults on any access out of bounds
    np.testing.assert_array_equal(losses, [0, 0])


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("group", GROUPS)
def test_the_loss_scale_lifts_gradients_before_they_are_rounded(
    launcher: Launcher, group: str, dtype: np.dtype[Any]
) -> None:
    scale = 2.0**16
    for n, batch in [(10, 33), (1100, 8)]:
        case = Batch(dtype, n, batch, False, 0.0, True)
        losses, dZ = case.run(launcher, group, scale)
        case.check(losses, dZ, scale)
    if dtype == np.float16:
        # e^−16 over a batch of 33 is less than half of float16's smallest number, 2^−24.
        case = Batch(dtype, 10, 33, False, 0.0, False)
        case.Z[...], case.Z[0], case.labels = 0.0, 16.0, np.zeros(33, np.int64)
        assert not case.run(launcher, group)[1][1:].any()
        expected = np.exp(-16.0) / (1 + 9 * np.exp(-16.0)) / 33 * scale
        np.testing.assert_allclose(case.run(launcher, group, scale)[1][1:].astype(float), expected, rtol=2**-10)
        case = Batch(dtype, 10, 1, False, 0.0, True)
        assert np.isinf(case.run(launcher, group, 2.0**24)[1]).any()  # too large a scale shows
