"""bias_activation.cu: Z + b and f(Z + b), every activation and float type, at every block size and grid."""

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
from fcnn_gpu.backend._kernel_ops._device import vector_threads
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned

SHAPES = [(0, 3), (3, 0), (1, 1), (1, 40), (3, 11), (33, 5), (64, 9), (130, 17)]
"""Units that are a whole number of vectors and others, fewer units than a vector has elements."""

ALPHA = 0.3
LARGEST = float(np.finfo(np.float32).max)


def exact(Z: HostArray, kind: str) -> HostArray:
    """f(Z) in float64."""
    wide, out = Z.astype(np.float64, order="F"), np.empty(Z.shape, order="F")
    Ops().bias_activation(wide, None, kind, ALPHA, out)
    return out


def launch(launcher: Launcher, Z: HostArray, b: HostArray | None, kind: str, out: HostArray) -> None:
    arguments = [*Z.shape, ALPHA, b, Z, out]
    threads = vector_threads(Z.size, Z.dtype)
    launcher.launch("bias_activation", "bias_activation", (Z.dtype, kind.upper()), arguments, threads=threads)


def sample(dtype: np.dtype[Any], n: int, batch: int) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(n * 1000 + batch)
    return (3 * rng.normal(size=(batch, n))).astype(dtype).T, rng.normal(size=(n, 1)).astype(accumulator(dtype))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_every_kind(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    wide = accumulator(dtype)
    for n, batch in SHAPES:
        Z, b = sample(dtype, n, batch)
        summed = (Z.astype(wide) + b).astype(dtype)
        out = poisoned((n, batch), dtype)
        launch(launcher, Z, b, kind, out)
        np.testing.assert_array_equal(Z, summed)
        # Cancellation in 1 + erf and 1 + tanh costs roundings of |z|, not of the small result.
        assert_rounded(out, exact(summed, kind), roundings=16, scale=1 + np.abs(summed.astype(np.float64)))


@pytest.mark.parametrize("kind", [k for k, f in ELEMENTWISE.items() if f.from_output])
def test_in_place_and_without_bias(launcher: Launcher, kind: str) -> None:
    Z, _ = sample(np.dtype(np.float32), 33, 5)
    expected = exact(Z, kind)
    launch(launcher, Z, None, kind, Z)
    assert_rounded(Z, expected, roundings=16, scale=1)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid_finds_each_units_bias(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    for n, batch in [(1, 50), (7, 300), (1500, 3), (64, 64)]:
        Z, out = np.zeros((n, batch), order="F"), poisoned((n, batch), np.float64)
        b = np.arange(n, dtype=np.float64).reshape(n, 1)
        launch(make_launcher(block=block, max_blocks=max_blocks), Z, b, "identity", out)
        np.testing.assert_array_equal(out, np.broadcast_to(b, (n, batch)))
        np.testing.assert_array_equal(Z, out)


@given(
    z=hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)
@settings(deadline=None, max_examples=40)
def test_any_value_of_every_kind(launcher: Launcher, z: HostArray) -> None:
    Z = z.reshape(1, -1)
    for kind in ELEMENTWISE:
        out = poisoned(Z.shape, np.float32)
        launch(launcher, Z, None, kind, out)
        with np.errstate(over="ignore"):
            expected = exact(Z, kind)
        inside = np.abs(expected) <= LARGEST  # SELU's largest outputs overflow, and e^z
        assert np.isinf(out[~inside]).all()
        scale = 1 + np.abs(Z.astype(np.float64)) + np.abs(expected)
        assert_rounded(out[inside], expected[inside], roundings=16, scale=scale[inside])


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_nan_shows(launcher: Launcher, kind: str) -> None:
    Z = np.full((2, 2), np.nan, np.float32, order="F")
    out = np.zeros((2, 2), np.float32, order="F")
    launch(launcher, Z, None, kind, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for n, batch in [(64, 9), (24, 7)]:
        Z, b = sample(dtype, n, batch)
        shifted_Z, shifted_b = between_boundaries(Z), between_boundaries(b, 3)
        expected, out = poisoned((n, batch), dtype), between_boundaries(poisoned((n, batch), dtype))
        also = poisoned((n, batch), dtype)
        Z_again = Z.copy(order="F")
        launch(launcher, Z, b, kind, expected)
        launch(launcher, shifted_Z, shifted_b, kind, out)
        launch(launcher, Z_again, shifted_b, kind, also)  # vectors of Z, single elements of b
        for actual in (out, also):
            np.testing.assert_array_equal(actual.view(f"u{dtype.itemsize}"), expected.view(f"u{dtype.itemsize}"))
        np.testing.assert_array_equal(shifted_Z.view(f"u{dtype.itemsize}"), Z.view(f"u{dtype.itemsize}"))


def test_a_smaller_batch_is_a_view_of_the_same_matrix(launcher: Launcher) -> None:
    """Samples beyond the batch stay as they are, also where the last vector would reach into them."""
    Z, b = sample(np.dtype(np.float32), 33, 5)
    before = Z.copy()
    launch(launcher, Z[:, :3], b, "identity", Z[:, :3])
    np.testing.assert_array_equal(Z[:, 3:], before[:, 3:])
    np.testing.assert_array_equal(Z[:, :3], before[:, :3] + b)
