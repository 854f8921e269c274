"""elementwise_loss.cu: each loss of single outputs with its gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import ELEMENTWISE_LOSSES

from .helpers import BLOCKS, FLOATS, GROUPS, HALVES, accumulator, assert_rounded, group_work, poisoned, unaligned

SHAPES = [(1, 1), (1, 40), (2, 3), (33, 5), (64, 3), (1100, 2), (1501, 1)]
DELTA = 0.75


def exact(kind: str, z: HostArray, y: HostArray, v: Any = 1.0) -> tuple[HostArray, HostArray]:
    """ρ and ∂ρ/∂z by the definition, v the number of each output."""
    e = z - y
    if kind == "mse":
        return e**2, 2 * e
    if kind == "mae":
        return np.abs(e), np.sign(e)
    if kind == "huber":
        inside = np.abs(e) <= DELTA
        return np.where(inside, e**2 / 2, DELTA * (np.abs(e) - DELTA / 2)), np.where(inside, e, DELTA * np.sign(e))
    if kind == "quantile":
        return np.where(e > 0, 1 - v, -v) * e, np.where(e > 0, 1 - v, np.where(e < 0, -v, 0))
    if kind == "poisson":
        return np.exp(z) - y * z, np.exp(z) - y
    if kind == "log_cosh":
        near = np.log(np.cosh(np.clip(e, -20, 20)))
        return np.where(np.abs(e) < 20, near, np.abs(e) - np.log(2)), np.tanh(e)
    if "hinge" in kind:
        margin = np.maximum(1 - (2 * y - 1) * z, 0)
        if kind == "squared_hinge":
            return margin**2, -2 * (2 * y - 1) * margin
        return margin, np.where(margin > 0, 1 - 2 * y, 0)
    y, up, down = (1 - DELTA) * y + DELTA / 2, np.logaddexp(0, z), np.logaddexp(0, -z)
    return v * y * down + (1 - y) * up, np.exp(z - up) * (1 - y) - v * y * np.exp(-up)


def run(
    launcher: Launcher,
    kind: str,
    group: int,
    Z: HostArray,
    Y: HostArray,
    w: HostArray | None,
    loss_scale: float | None = None,
    u: HostArray | None = None,
    v: HostArray | None = None,
) -> tuple[HostArray, HostArray]:
    n, batch = Z.shape
    losses, dZ = poisoned(batch, accumulator(Z.dtype)), poisoned(Z.shape, Z.dtype)
    scale = None if loss_scale is None else np.array([loss_scale])
    arguments = [n, batch, group, DELTA, Z, Y, u, v, w, scale, losses, dZ]
    template = (Z.dtype, kind.upper())
    launcher.launch("elementwise_loss", "elementwise_loss", template, arguments, **group_work(group, batch))
    return losses, dZ


def check(
    kind: str,
    Z: HostArray,
    Y: HostArray,
    w: HostArray | None,
    losses: HostArray,
    dZ: HostArray,
    loss_scale: float = 1.0,
    u: HostArray | None = None,
    v: HostArray | None = None,
) -> None:
    n, batch = Z.shape
    z, y = Z.astype(np.float64), Y.astype(np.float64)
    weight = np.ones(batch) if w is None else w.astype(np.float64)
    rho, slope = exact(kind, z, y, 1.0 if v is None else v.astype(np.float64).reshape(-1, 1))
    size = 1 + np.abs(z) + np.abs(y) + rho + np.abs(slope)
    if u is not None:
        each = u.astype(np.float64).reshape(-1, 1)
        rho, slope, size = rho * each, slope * each, size * (1 + each)
    assert_rounded(losses, weight * rho.mean(axis=0), roundings=64, scale=weight * size.mean(axis=0))
    factor = loss_scale * weight / (n * batch)
    assert_rounded(dZ, slope * factor, roundings=16, scale=size * factor)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ELEMENTWISE_LOSSES)
def test_definition(launcher: Launcher, kind: str, weighted: bool, dtype: np.dtype[Any]) -> None:
    for (n, batch), group in itertools.product(SHAPES, GROUPS):
        rng = np.random.default_rng(n)
        Z = (2 * rng.normal(size=(batch, n))).astype(dtype).T
        Y = rng.uniform(size=(batch, n)).astype(accumulator(dtype)).T
        Y[0, 0] = Z[0, 0]  # no error at all
        if not weighted:
            check(kind, Z, Y, None, *run(launcher, kind, group, Z, Y, None))
            continue
        w, u, v = (rng.uniform(0, 2, size).astype(accumulator(dtype)) for size in (batch, n, n))
        check(kind, Z, Y, w, *run(launcher, kind, group, Z, Y, w, None, u, v), 1.0, u, v)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
@pytest.mark.parametrize("group", GROUPS)
def test_any_grid(make_launcher: Callable[..., Launcher], group: int, block: int, max_blocks: int) -> None:
    rng = np.random.default_rng(0)
    Z, Y, w = rng.normal(size=(41, 70)).T, rng.uniform(size=(41, 70)).T, rng.uniform(size=41)
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    check("huber", Z, Y, w, *run(launcher, "huber", group, Z, Y, w))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("group", GROUPS)
def test_a_view_between_two_16_byte_boundaries(launcher: Launcher, group: int, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(0)
    Z, Y = unaligned(rng.normal(size=(3, 64)).astype(dtype).T), rng.uniform(size=(3, 64)).astype(accumulator(dtype)).T
    check("mse", Z, Y, None, *run(launcher, "mse", group, Z, Y, None))


@given(
    z=hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e4, 1e4, width=32)),
    y=st.floats(0, 1, width=32),
)
@settings(deadline=None, max_examples=50)
def test_any_prediction(launcher: Launcher, z: HostArray, y: float) -> None:
    Z, Y = z.reshape(1, -1), np.full((1, z.size), y, np.float32)
    for kind in ELEMENTWISE_LOSSES:
        if kind == "poisson":  # e^z is the mean that is predicted, and overflows where it does
            Z = np.clip(Z, -80, 80)
        losses, dZ = run(launcher, kind, 32, Z, Y, None)
        assert np.isfinite(losses).all()
        check(kind, Z, Y, None, losses, dZ)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ELEMENTWISE_LOSSES)
@pytest.mark.parametrize("group", GROUPS)
def test_predictions_at_the_ends_of_the_range(launcher: Launcher, group: int, kind: str, dtype: np.dtype[Any]) -> None:
    end = 10.0 if kind == "poisson" else 65504.0 / 2**8 if kind == "squared_hinge" else 65504.0
    Z = np.array([[end, -end, 0.0, end]] * 8, dtype, order="F")
    Y = np.full((8, 4), 0.25, accumulator(dtype), order="F")
    losses, dZ = run(launcher, kind, group, Z, Y, None)
    assert np.isfinite(losses).all()
    assert np.isfinite(dZ.astype(float)).all()
    check(kind, Z, Y, None, losses, dZ)


@pytest.mark.parametrize("kind", ELEMENTWISE_LOSSES)
def test_nan_shows(launcher: Launcher, kind: str) -> None:
    Z = np.array([[np.nan, 1.0]], np.float32)
    losses, dZ = run(launcher, kind, 32, Z, np.zeros((1, 2), np.float32), None)
    assert np.isnan(losses[0])
    assert np.isnan(dZ[0, 0])
    assert np.isfinite([losses[1], dZ[0, 1]]).all()


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ELEMENTWISE_LOSSES)
def test_the_loss_scale_lifts_gradients_before_they_are_rounded(
    launcher: Launcher, kind: str, dtype: np.dtype[Any]
) -> None:
    rng, scale = np.random.default_rng(0), 2.0**16
    for (n, batch), group in itertools.product([(33, 5), (1100, 2)], GROUPS):
        Z = rng.normal(size=(batch, n)).astype(dtype).T
        Y = rng.uniform(size=(batch, n)).astype(accumulator(dtype)).T
        check(kind, Z, Y, None, *run(launcher, kind, group, Z, Y, None, scale), scale)
    if dtype == np.float16 and kind in ("mse", "huber", "binary_cross_entropy", "log_cosh"):
        Z, Y = np.full((33, 2000), 2.0**-8, dtype, order="F"), np.zeros((33, 2000), np.float32, order="F")
        Y[...] = 0.5 if kind == "binary_cross_entropy" else 0.0
        slope = exact(kind, Z.astype(float), Y.astype(float))[1]
        assert (np.abs(slope / (33 * 2000)) < 2.0**-23).all()  # less than two of float16's smallest numbers
        _, dZ = run(launcher, kind, 32, Z, Y, None, scale)
        np.testing.assert_allclose(dZ.astype(float), slope / (33 * 2000) * scale, rtol=2**-10)
