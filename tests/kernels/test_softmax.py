"""softmax.cu: forward and the full Jacobian backward, with a warp and with a block per sample."""

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

from .helpers import BLOCKS, FLOATS, HALVES, assert_rounded, capacities, held_work, poisoned, unaligned

SHAPES = [(1, 1), (2, 3), (10, 0), (10, 33), (16, 5), (33, 2), (200, 2), (1024, 1), (1100, 2), (1501, 1)]


def launch(launcher: Launcher, kernel: str, capacity: int, arguments: list[HostArray]) -> None:
    n, batch = arguments[0].shape
    template = (arguments[0].dtype, capacity)
    launcher.launch("softmax", kernel, template, [n, batch, *arguments], **held_work(capacity, batch))


def exact(Z: HostArray) -> HostArray:
    wide = Z.astype(np.float64)
    e = np.exp(wide - wide.max(axis=0, initial=-np.inf, keepdims=True))
    return e / e.sum(axis=0, keepdims=True)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_forward(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        Z = (5 * np.random.default_rng(n).normal(size=(batch, n))).astype(dtype).T
        expected = exact(Z)
        for capacity in capacities(n):
            out, in_place = poisoned((n, batch), dtype), Z.copy(order="F")
            launch(launcher, "softmax_forward", capacity, [Z, out])
            # e^(z − m) has a relative error of |z − m| roundings of the exponent, up to about 40 here.
            assert_rounded(out, expected, roundings=64)
            launch(launcher, "softmax_forward", capacity, [in_place, in_place])
            np.testing.assert_array_equal(in_place, out)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("capacity", [0, 128])
def test_a_view_between_two_16_byte_boundaries(launcher: Launcher, capacity: int, dtype: np.dtype[Any]) -> None:
    Z = unaligned(np.random.default_rng(0).normal(size=(3, 64)).astype(dtype).T)
    out, dZ = poisoned(Z.shape, dtype), poisoned(Z.shape, dtype)
    launch(launcher, "softmax_forward", capacity, [Z, out])
    assert_rounded(out, exact(Z), roundings=64)
    launch(launcher, "softmax_backward", capacity, [Z, out, dZ])
    z, a = Z.astype(np.float64), out.astype(np.float64)
    assert_rounded(dZ, a * (z - (a * z).sum(axis=0)), roundings=40, scale=a * np.abs(z).max())


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_backward_is_the_jacobian(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        rng = np.random.default_rng(n)
        A = exact(rng.normal(size=(batch, n)).T).astype(dtype, order="F")
        dA = rng.normal(size=(batch, n)).astype(dtype).T
        wide_A, wide_dA = A.astype(np.float64), dA.astype(np.float64)
        jacobians = np.einsum("ij,ik->ikj", wide_A, np.eye(n)) - np.einsum("ij,kj->ikj", wide_A, wide_A)
        size = wide_A * (np.abs(wide_dA) + np.sum(wide_A * np.abs(wide_dA), axis=0, keepdims=True))
        for capacity in capacities(n):
            dZ, in_place = poisoned((n, batch), dtype), dA.copy(order="F")
            launch(launcher, "softmax_backward", capacity, [dA, A, dZ])
            assert_rounded(dZ, np.einsum("ikj,kj->ij", jacobians, wide_dA), roundings=40, scale=size)
            launch(launcher, "softmax_backward", capacity, [in_place, A, in_place])
            np.testing.assert_array_equal(in_place, dZ)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 3, 65_536])))
@pytest.mark.parametrize("capacity", capacities(70))
def test_any_grid(make_launcher: Callable[..., Launcher], capacity: int, block: int, max_blocks: int) -> None:
    Z = np.random.default_rng(0).normal(size=(41, 70)).T
    out = poisoned(Z.shape, np.float64)
    launch(make_launcher(block=block, max_blocks=max_blocks), "softmax_forward", capacity, [Z, out])
    assert_rounded(out, exact(Z), roundings=64)


@given(
    z=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-1e4, 1e4, width=32))
)
@settings(deadline=None, max_examples=50)
def test_any_logits_give_probabilities(launcher: Launcher, z: HostArray) -> None:
    out = poisoned(z.T.shape, np.float32)
    launch(launcher, "softmax_forward", 128, [z.T, out])
    assert (out >= 0).all()
    np.testing.assert_allclose(out.sum(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("capacity", capacities(50))
def test_nan_shows_in_its_sample_only(launcher: Launcher, capacity: int) -> None:
    Z = np.zeros((50, 3), np.float32, order="F")
    Z[17, 1] = np.nan
    launch(launcher, "softmax_forward", capacity, [Z, Z])
    assert np.isnan(Z[:, 1]).all()
    np.testing.assert_allclose(Z[:, [0, 2]], 1 / 50, rtol=1e-6)
