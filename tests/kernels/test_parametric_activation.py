"""parametric_activation.cu: g(Z) + p ⊙ h(Z) and its gradients, every form, activation and float type."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._kernel_ops._activation import _instance
from fcnn_gpu.backend._kernel_ops._device import tiles, vector_threads
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned

KINDS = ["scale", "prelu", *ELEMENTWISE]
SHAPES = [(0, 3), (3, 0), (1, 1), (1, 40), (33, 5), (40, 70), (64, 33)]
SLOPE = 0.3


def sample(dtype: np.dtype[Any], n: int, batch: int) -> tuple[HostArray, HostArray, HostArray]:
    """Z, dA and p."""
    rng = np.random.default_rng(n * 1000 + batch)
    Z, dA = (np.asfortranarray(scale * rng.normal(size=(n, batch))).astype(dtype) for scale in (2.0, 1.0))
    return Z, dA, rng.normal(size=(n, 1)).astype(accumulator(dtype))


def forward(launcher: Launcher, Z: HostArray, p: HostArray, kind: str, out: HostArray) -> None:
    template, threads = (Z.dtype, *_instance(kind)), vector_threads(Z.size, Z.dtype)
    arguments = [*Z.shape, SLOPE, p, Z, out]
    launcher.launch("parametric_activation", "parametric_activation", template, arguments, threads=threads)


def backward(
    launcher: Launcher, dA: HostArray, Z: HostArray, p: HostArray, kind: str, dZ: HostArray, chunk: int
) -> HostArray:
    n, batch = Z.shape
    n_chunks = max(1, -(-batch // chunk))
    wide = accumulator(Z.dtype)
    dp = poisoned((n, 1), wide)
    partial = dp if n_chunks == 1 else poisoned(n * n_chunks, wide)
    arguments = [n, batch, chunk, n_chunks, SLOPE, dA, Z, p, dZ, partial]
    blocks = tiles(n, n_chunks, Z.dtype)
    template = (Z.dtype, *_instance(kind))
    launcher.launch("parametric_activation", "parametric_activation_backward", template, arguments, blocks=blocks)
    if n_chunks > 1:
        launcher.launch("sum_chunks", "sum_chunks", (wide,), [n, n_chunks, partial, dp], blocks=-(-n // 32))
    return dp


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        Z, dA, p = sample(dtype, n, batch)
        z, d, factor = (x.astype(np.float64) for x in (Z, dA, p))
        A, out = np.empty(Z.shape, order="F"), poisoned(Z.shape, dtype)
        Ops().parametric_activation(z, factor, kind, SLOPE, A)
        forward(launcher, Z, p, kind, out)
        size = (1 + np.abs(factor)) * (1 + np.abs(z)) ** 3  # of the terms that cancel in f and f′
        assert_rounded(out, A, roundings=16, scale=size)
        expected, sums, dZ = np.empty(Z.shape, order="F"), np.empty((n, 1)), poisoned(Z.shape, dtype)
        Ops().parametric_activation_backward(d, z, factor, kind, SLOPE, expected, sums)
        dp = backward(launcher, dA, Z, p, kind, dZ, chunk=32)
        assert_rounded(dZ, expected, roundings=16, scale=np.abs(d) * size)
        assert_rounded(dp, sums, roundings=32, scale=np.sum(np.abs(d) * (1 + np.abs(z)), axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exp"])  # which has no end but infinity
def test_the_ends_of_the_range_give_no_nan(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    limits = np.finfo(dtype)
    z = np.array([[-limits.max, limits.max, -limits.tiny, 0.0]], dtype).repeat(4, axis=0)
    Z, dA, p = np.asfortranarray(z), np.ones((4, 4), dtype, order="F"), np.array([[0], [1], [0.25], [0.5]], dtype)
    out, dZ = poisoned(Z.shape, dtype), poisoned(Z.shape, dtype)
    with quiet_arithmetic():
        forward(launcher, Z, p, kind, out)
        backward(launcher, dA, Z, p, kind, dZ, chunk=32)
    assert np.isfinite(dZ).all()
    inner = np.ones((4, 4), bool)
    if kind == "selu":  # f overflows at the largest number
        inner[:, 1] = False
    assert np.isfinite(out[inner]).all()


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_any_grid_and_chunk(make_launcher: Callable[..., Launcher], block: int, max_blocks: int, chunk: int) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    Z = np.asfortranarray(np.arange(65 * 41, dtype=np.float64).reshape(41, 65).T - 1000)
    dA, p, out = np.full((65, 41), 2.0, order="F"), np.arange(65.0).reshape(65, 1), poisoned((65, 41), np.float64)
    forward(launcher, Z, p, "prelu", out)
    np.testing.assert_array_equal(out, np.where(Z > 0, Z, p * Z))
    dp = backward(launcher, dA, Z, p, "prelu", dA, chunk)  # in place
    np.testing.assert_array_equal(dA, np.where(Z > 0, 2.0, 2.0 * p) + 0 * Z)
    np.testing.assert_array_equal(dp, 2 * np.minimum(Z, 0).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ["scale", "silu"])
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for n, batch, chunk in [(64, 9, 1000), (40, 300, 1000), (72, 100, 40)]:
        Z, dA, p = sample(dtype, n, batch)
        expected, dZ, out, same = (poisoned((n, batch), dtype) for _ in range(4))
        shifted_Z, shifted_p, dZ = between_boundaries(Z), between_boundaries(p, 3), between_boundaries(dZ, 5)
        forward(launcher, Z, p, kind, out)
        forward(launcher, shifted_Z, shifted_p, kind, same)
        np.testing.assert_array_equal(same.view(f"u{dtype.itemsize}"), out.view(f"u{dtype.itemsize}"))
        dp = backward(launcher, dA, Z, p, kind, expected, chunk)
        again = backward(launcher, between_boundaries(dA), shifted_Z, shifted_p, kind, dZ, chunk)
        np.testing.assert_array_equal(again, dp)
        np.testing.assert_array_equal(dZ.view(f"u{dtype.itemsize}"), expected.view(f"u{dtype.itemsize}"))
