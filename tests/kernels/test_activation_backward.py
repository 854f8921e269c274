"""activation_backward.cu: dZ = dA ⊙ f′ and its sums over the samples, every activation and float type."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._kernel_ops._device import tiles, vector_threads
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned

SHAPES = [(0, 3), (3, 0), (1, 1), (1, 40), (33, 5), (40, 70), (64, 33)]
ALPHA = 0.3


def sample(kind: str, dtype: np.dtype[Any], n: int, batch: int) -> tuple[HostArray, HostArray]:
    """dA and what forward saves: f(Z) or Z."""
    rng = np.random.default_rng(n * 1000 + batch)
    saved = np.asfortranarray(2 * rng.normal(size=(n, batch)))
    if ELEMENTWISE[kind].from_output:
        Ops().bias_activation(saved, None, kind, ALPHA, saved)
    return np.asfortranarray(rng.normal(size=(n, batch))).astype(dtype), saved.astype(dtype)


def exact(dA: HostArray, saved: HostArray, kind: str) -> tuple[HostArray, HostArray]:
    """dZ in float64, and the size of the terms that cancel in f′."""
    dZ = np.empty(dA.shape, order="F")
    Ops().activation_backward(dA.astype(np.float64), saved.astype(np.float64), kind, ALPHA, dZ)
    return dZ, np.abs(dA.astype(np.float64)) * (1 + np.abs(saved.astype(np.float64)) ** 3)


def backward_with_bias(
    launcher: Launcher, dA: HostArray, saved: HostArray, kind: str, dZ: HostArray, chunk: int
) -> HostArray:
    n, batch = dA.shape
    n_chunks = max(1, -(-batch // chunk))
    wide = accumulator(dA.dtype)
    db = poisoned((n, 1), wide)
    partial = db if n_chunks == 1 else poisoned(n * n_chunks, wide)
    arguments = [n, batch, chunk, n_chunks, ALPHA, dA, saved, dZ, partial]
    template = (dA.dtype, kind.upper())
    blocks = tiles(n, n_chunks, dA.dtype)
    launcher.launch("activation_backward", "activation_backward_bias", template, arguments, blocks=blocks)
    if n_chunks > 1:
        launcher.launch("sum_chunks", "sum_chunks", (wide,), [n, n_chunks, partial, db], blocks=-(-n // 32))
    return db


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_every_kind(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        dA, saved = sample(kind, dtype, n, batch)
        expected, scale = exact(dA, saved, kind)
        dZ, same = poisoned((n, batch), dtype), poisoned((n, batch), dtype)
        arguments = [n, batch, ALPHA, dA, saved, dZ]
        threads = vector_threads(dA.size, dtype)
        launcher.launch("activation_backward", "activation_backward", (dtype, kind.upper()), arguments, threads=threads)
        assert_rounded(dZ, expected, roundings=16, scale=scale)
        db = backward_with_bias(launcher, dA, saved, kind, same, chunk=32)
        np.testing.assert_array_equal(same, dZ)
        assert_rounded(db, expected.sum(axis=1, keepdims=True), roundings=32, scale=scale.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_whole_range_of_every_kind(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    """The kernel agrees with NumPy up to the ends of the range, where squares and cubes overflow."""
    limits, rng = np.finfo(dtype), np.random.default_rng(0)
    any_bits = rng.integers(0, 2**limits.bits, 2000, f"u{dtype.itemsize}", endpoint=False).view(dtype)
    z = np.concatenate([any_bits[np.isfinite(any_bits)], [0.0] * 4])
    z[:4] = [-limits.max, limits.max, -limits.smallest_subnormal, limits.tiny]
    tolerance = 16 * limits.eps
    for kind, f in ELEMENTWISE.items():
        for alpha in (ALPHA, 1e30) if kind == "elu" else (ALPHA,):
            saved = np.asfortranarray(z[: z.size // 4 * 4].astype(dtype).reshape(4, -1))
            if kind == "exp":
                saved = np.minimum(saved, 80, order="F")
            if f.from_output:
                Ops().bias_activation(saved, None, kind, alpha, saved)
            dZ, expected, dA = poisoned(saved.shape, dtype), poisoned(saved.shape, dtype), np.ones_like(saved)
            with quiet_arithmetic():
                Ops().activation_backward(dA, saved, kind, alpha, expected)
            template, threads = (dtype, kind.upper()), vector_threads(dA.size, dtype)
            arguments = [*saved.shape, alpha, dA, saved, dZ]
            launcher.launch("activation_backward", "activation_backward", template, arguments, threads=threads)
            assert np.isfinite(dZ).all()
            np.testing.assert_allclose(dZ, expected, rtol=tolerance, atol=tolerance, err_msg=kind)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_any_grid_and_chunk(make_launcher: Callable[..., Launcher], block: int, max_blocks: int, chunk: int) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    dA = np.arange(65 * 41, dtype=np.float64).reshape(41, 65).T
    saved = np.where(np.arange(65 * 41).reshape(41, 65).T % 3 == 0, -1.0, 1.0)
    expected = np.where(saved > 0, dA, 0.0)
    db = backward_with_bias(launcher, dA, np.asfortranarray(saved), "relu", dA, chunk)  # in place
    np.testing.assert_array_equal(dA, expected)
    np.testing.assert_array_equal(db, expected.sum(axis=1, keepdims=True))


def test_the_bias_gradient_is_summed_in_float(launcher: Launcher) -> None:
    # 1 + 2⁻¹² + ... in half precision would stay 1 at every addition; in float it reaches 1 + 64·2⁻¹².
    dA = np.full((1, 65), 2.0**-12, np.float16, order="F")
    dA[0, 0] = 1
    db = backward_with_bias(launcher, dA, dA.copy(order="F"), "identity", poisoned((1, 65), np.float16), chunk=64)
    np.testing.assert_array_equal(db, [[np.float32(1 + 64 * 2.0**-12)]])


def test_the_bias_gradient_is_of_dz_before_it_is_rounded(launcher: Launcher) -> None:
    dA, saved, dZ = np.ones((1, 8), np.float16), np.full((1, 8), -1, np.float16), poisoned((1, 8), np.float16)
    partial = poisoned(1, np.float32)
    arguments = [1, 8, 8, 1, ALPHA, dA, saved, dZ, partial]
    template = (np.float16, "LEAKY_RELU")
    launcher.launch("activation_backward", "activation_backward_bias", template, arguments, blocks=1)
    np.testing.assert_allclose(partial, [8 * ALPHA], rtol=1e-6)  # rounded to half first, 1.6e-4 more


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ["tanh", "silu"])
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for n, batch, chunk in [(64, 9, 1000), (40, 300, 1000), (72, 100, 40)]:
        dA, saved = sample(kind, dtype, n, batch)
        expected, dZ, alone = (poisoned((n, batch), dtype) for _ in range(3))
        dZ = between_boundaries(dZ, 3)
        db = backward_with_bias(launcher, dA, saved, kind, expected, chunk)
        shifted = backward_with_bias(launcher, between_boundaries(dA), between_boundaries(saved, 5), kind, dZ, chunk)
        np.testing.assert_array_equal(shifted, db)
        arguments = [n, batch, ALPHA, between_boundaries(dA), saved, alone]
        launcher.launch("activation_backward", "activation_backward", (dtype, kind.upper()), arguments, threads=64)
        for actual in (dZ, alone):
            np.testing.assert_array_equal(actual.view(f"u{dtype.itemsize}"), expected.view(f"u{dtype.itemsize}"))
