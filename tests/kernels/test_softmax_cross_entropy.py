"""softmax_cross_entropy.cu: losses and gradients for labels, dense and smoothed targets, with and without weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher
from tests.support.tolerances import UNIT

from .helpers import (
    BLOCKS,
    FLOATS,
    HALVES,
    accumulator,
    assert_rounded,
    capacities,
    held_work,
    poisoned,
    unaligned,
)

SHAPES = [(1, 1), (2, 3), (10, 33), (16, 5), (33, 2), (200, 2), (1024, 1), (1100, 2), (1501, 1)]
"""Odd numbers of classes and multiples of each vector's width, in each capacity and beyond."""


class Batch:
    """One batch, and its losses and gradients by the definition, in float64."""

    def __init__(
        self,
        dtype: np.dtype[Any],
        n: int,
        batch: int,
        dense: bool,
        smoothing: float,
        weighted: bool,
        relative: bool = False,
        gamma: float = 0.0,
    ) -> None:
        rng, wide = np.random.default_rng(n * 100 + batch), accumulator(dtype)
        self.shape = (n, batch)
        self.Z = (4 * rng.normal(size=(batch, n))).astype(dtype).T
        self.labels = None if dense else rng.integers(0, n, batch)
        self.targets = rng.dirichlet(np.ones(n), size=batch).astype(wide).T if dense else None
        self.class_weight = rng.uniform(0.5, 2, n).astype(wide) if weighted else None
        self.sample_weight = rng.uniform(0.5, 2, batch).astype(wide) if weighted else None
        self.smoothing, self.relative, self.gamma = smoothing, relative, gamma
        if self.targets is not None and relative:
            self.targets[0] = 0

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
        if relative:
            self.losses += w * special.xlogy(T, T).sum(axis=0)
            self.loss_scale += w * np.abs(special.xlogy(T, T)).sum(axis=0)
        if gamma:
            L = -(Y * log_p).sum(axis=0)
            p, q = np.exp(-L), -np.expm1(-L)
            slope = q**gamma + gamma * p * q ** (gamma - 1) * L
            self.losses, self.dZ = self.losses * q**gamma, self.dZ * slope
            power_error = (1 + gamma) * (1 + np.abs(np.log(q)))
            self.loss_scale = self.loss_scale * q**gamma * power_error
            self.gradient_scale = self.gradient_scale * slope * power_error * (1 + gamma / q)  # q errs as 1 does

    def run(self, launcher: Launcher, capacity: int, loss_scale: float | None = None) -> tuple[HostArray, HostArray]:
        n, batch = self.shape
        losses, dZ = poisoned(batch, accumulator(self.Z.dtype)), poisoned(self.shape, self.Z.dtype)
        scale = None if loss_scale is None else np.array([loss_scale])
        arrays = [self.Z, self.labels, self.targets, self.class_weight, self.sample_weight, scale, losses, dZ]
        stem = "softmax_cross_entropy"
        launcher.launch(
            stem,
            stem,
            (self.Z.dtype, capacity),
            [n, batch, self.smoothing, self.relative, self.gamma, *arrays],
            **held_work(capacity, batch),
        )
        return losses, dZ

    def check(self, losses: HostArray, dZ: HostArray, loss_scale: float = 1.0) -> None:
        assert_rounded(losses, self.losses, roundings=64, scale=self.loss_scale)
        assert_rounded(dZ, self.dZ * loss_scale, roundings=64, scale=self.gradient_scale * loss_scale)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dense", [False, True], ids=["labels", "dense"])
def test_definition(launcher: Launcher, dense: bool, smoothing: float, weighted: bool, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        case = Batch(dtype, n, batch, dense, smoothing, weighted)
        for capacity in capacities(n):
            case.check(*case.run(launcher, capacity))


OPTIONS: list[dict[str, Any]] = [{"relative": True}, {"gamma": 0.5}, {"gamma": 2.0}]


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_relative_entropy_and_focal_loss(
    launcher: Launcher, options: dict[str, Any], weighted: bool, dtype: np.dtype[Any]
) -> None:
    for n, batch in SHAPES[1:]:  # of one class, q is 0
        case = Batch(dtype, n, batch, "relative" in options, 0.0, weighted, **options)
        for capacity in capacities(n):
            case.check(*case.run(launcher, capacity))
        case.check(*case.run(launcher, capacities(n)[-1], 2.0**10), 2.0**10)


@pytest.mark.parametrize("gamma", [0.25, 2.0])
@pytest.mark.parametrize("n", [3, 1030])
def test_focal_loss_at_the_ends(launcher: Launcher, n: int, gamma: float) -> None:
    """A label that is sure, one that cannot be, one whose probability is 0, and one that there is not."""
    case = Batch(np.dtype(np.float32), n, 4, False, 0.0, True, gamma=gamma)
    case.class_weight = case.sample_weight = None
    case.Z[...] = -1e4
    case.Z[0], case.labels = 1e4, np.array([0, 1, 1, n])
    case.Z[1, 2] = -np.inf
    for capacity in capacities(n):
        losses, dZ = case.run(launcher, capacity)
        np.testing.assert_array_equal(losses, [0, 2e4, np.inf, 0])
        np.testing.assert_array_equal(dZ[:, 0], 0)
        expected = np.zeros((n, 2))
        expected[:2] = [[0.25, 0.25], [-0.25, -0.25]]
        np.testing.assert_array_equal(dZ[:, 1:3], expected)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 3, 65_536])))
@pytest.mark.parametrize("capacity", capacities(70))
def test_any_grid(make_launcher: Callable[..., Launcher], capacity: int, block: int, max_blocks: int) -> None:
    case = Batch(np.dtype(np.float64), 70, 41, True, 0.1, True)
    case.check(*case.run(make_launcher(block=block, max_blocks=max_blocks), capacity))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("capacity", [0, 128])
def test_a_view_between_two_16_byte_boundaries(launcher: Launcher, capacity: int, dtype: np.dtype[Any]) -> None:
    case = Batch(dtype, 64, 3, True, 0.1, True)
    case.Z = unaligned(case.Z)
    case.check(*case.run(launcher, capacity))


@pytest.mark.parametrize("capacity", capacities(3))
def test_far_out_logits(launcher: Launcher, capacity: int) -> None:
    case = Batch(np.dtype(np.float32), 3, 2, False, 0.0, False)
    case.Z[...] = [[1e4, -1e4], [0.0, 0.0], [-1e4, 1e4]]
    case.labels = np.array([0, 0])
    losses, dZ = case.run(launcher, capacity)
    np.testing.assert_array_equal(losses, [0, 2e4])
    np.testing.assert_array_equal(dZ, [[0, -0.5], [0, 0], [0, 0.5]])


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("n", [2, 40, 1030])
def test_logits_at_the_ends_of_the_range(launcher: Launcher, n: int, dtype: np.dtype[Any]) -> None:
    largest = float(ml_dtypes.finfo(np.float16).max)  # 65504, which every type holds to its last digit or rounds alike
    case = Batch(dtype, n, 3, False, 0.0, False)
    case.Z[...] = -largest
    case.Z[1], case.labels = largest, np.array([0, 1, 1])
    case.Z[0, 2] = largest
    top = float(case.Z[1, 0])
    for capacity in capacities(n):
        losses, dZ = case.run(launcher, capacity)
        np.testing.assert_allclose(losses, [2 * top, 0, np.log(2)], rtol=1e-6)
        expected = np.zeros((n, 3))
        expected[:2] = np.array([[-1, 0, 0.5], [1, 0, -0.5]]) / 3
        np.testing.assert_allclose(dZ.astype(float), expected, rtol=2.0**-8, atol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("n", [40, 1030])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_its_sample_only(
    launcher: Launcher, value: float, n: int, dtype: np.dtype[Any]
) -> None:
    for capacity in capacities(n):
        case = Batch(dtype, n, 3, False, 0.1, False)
        sound_losses, sound_dZ = case.run(launcher, capacity)
        case.Z[17, 1] = value
        losses, dZ = case.run(launcher, capacity)
        assert not np.isfinite(losses[1])  # with smoothing, a class of probability 0 costs infinity
        assert np.isfinite(dZ[:, 1].astype(float)).all() == (value == -np.inf)
        np.testing.assert_array_equal(losses[[0, 2]], sound_losses[[0, 2]])
        np.testing.assert_array_equal(dZ[:, [0, 2]].astype(float), sound_dZ[:, [0, 2]].astype(float))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), *HALVES], ids=str)
def test_ten_thousand_classes(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for dense in (False, True):
        case = Batch(dtype, 10_000, 2, dense, 0.1, True)
        case.check(*case.run(launcher, 0))


@pytest.mark.parametrize("capacity", capacities(1))
def test_one_class_is_certain(launcher: Launcher, capacity: int) -> None:
    case = Batch(np.dtype(np.float16), 1, 3, False, 0.1, False)
    losses, dZ = case.run(launcher, capacity)
    np.testing.assert_array_equal(losses, np.zeros(3))
    np.testing.assert_array_equal(dZ, np.zeros((1, 3)))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_pytorch_agrees(launcher: Launcher, name: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = next(d for d in FLOATS + HALVES if d.name == name)
    for n, batch in [(10, 33), (300, 7), (1100, 4)]:
        case = Batch(dtype, n, batch, False, 0.1, False)
        logits = torch.from_numpy(case.Z.T.astype(np.float32)).to(getattr(torch, name)).requires_grad_()
        values = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(case.labels), reduction="none", label_smoothing=0.1
        )
        values.mean().backward()
        losses, dZ = case.run(launcher, capacities(n)[-1])
        unit = UNIT[name]  # PyTorch rounds probabilities and losses to it on the way
        scale = np.abs(case.Z.astype(float)).max()
        np.testing.assert_allclose(losses, values.detach().float().numpy(), rtol=8 * unit, atol=8 * unit * scale)
        gradient = logits.grad.float().numpy().T
        np.testing.assert_allclose(dZ.astype(float), gradient, rtol=8 * unit, atol=8 * unit / batch)


def test_a_class_that_cannot_be(launcher: Launcher) -> None:
    case = Batch(np.dtype(np.float32), 3, 1, False, 0.0, False)
    case.Z[:, 0] = [1.0, -np.inf, 1.0]
    case.labels = np.array([0])
    losses, dZ = case.run(launcher, 32)
    np.testing.assert_allclose(losses, [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dZ[:, 0], [-0.5, 0, 0.5], rtol=1e-6)


def test_a_label_out_of_range_reads_nothing_foreign(launcher: Launcher) -> None:
    case = Batch(np.dtype(np.float32), 3, 2, False, 0.0, True)
    case.labels = np.array([3, -1])
    losses, _ = case.run(launcher, 32)  # the emulation faults on any access out of bounds
    np.testing.assert_array_equal(losses, [0, 0])


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_the_loss_scale_lifts_gradients_before_they_are_rounded(
    launcher: Launcher, held: bool, dtype: np.dtype[Any]
) -> None:
    scale = 2.0**16
    for n, batch in [(10, 33), (1000, 8)]:
        case, capacity = Batch(dtype, n, batch, False, 0.0, True), capacities(n)[1 if held else 0]
        losses, dZ = case.run(launcher, capacity, scale)
        case.check(losses, dZ, scale)
    if dtype == np.float16:
        # e^−16 over a batch of 33 is less than half of float16's smallest number, 2^−24.
        case, capacity = Batch(dtype, 10, 33, False, 0.0, False), 32 if held else 0
        case.Z[...], case.Z[0], case.labels = 0.0, 16.0, np.zeros(33, np.int64)
        assert not case.run(launcher, capacity)[1][1:].any()
        expected = np.exp(-16.0) / (1 + 9 * np.exp(-16.0)) / 33 * scale
        np.testing.assert_allclose(case.run(launcher, capacity, scale)[1][1:].astype(float), expected, rtol=2**-10)
        case = Batch(dtype, 10, 1, False, 0.0, True)
        assert np.isinf(case.run(launcher, capacity, 2.0**24)[1]).any()  # too large a scale shows
