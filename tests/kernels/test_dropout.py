"""dropout.cu: the mask is NumPy's Philox stream bit for bit, at every size, block size and grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import vector_threads
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, between_boundaries, poisoned

KEY = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


def expected_mask(n: int, key: tuple[int, int], step: int, threshold: int) -> HostArray:
    """The definition: 16-bit draws of NumPy's own Philox words, lowest bits first."""
    counter = np.array([0, step, 0, 0], np.uint64)
    words = np.random.Philox(key=np.array(key, np.uint64), counter=counter).random_raw(-(-n // 4))
    draws = np.stack([(words >> np.uint64(16 * k)) & np.uint64(0xFFFF) for k in range(4)], axis=1).ravel()[:n]
    return (draws >= threshold).astype(np.uint8)


def forward(
    launcher: Launcher,
    A: HostArray,
    step: int,
    threshold: int,
    first_draw: int = 0,
    scheduled: bool = False,
    alpha: bool = False,
) -> tuple[HostArray, HostArray]:
    """`scheduled`: p is not given as a number, but as the third of a table."""
    out, mask = poisoned(A.shape, A.dtype), poisoned(A.shape, np.uint8)
    block, skipped = divmod(first_draw, 16)
    arguments = [A.size, block, skipped, *KEY, *rate(threshold / 65536, scheduled), np.array([step]), A, out, mask]
    threads = -(-(A.size + skipped) // 16) if A.size else 0
    launcher.launch("dropout", "dropout_forward", (A.dtype, alpha), arguments, threads=threads)
    return out, mask


def rate(p: float, scheduled: bool = False) -> list[Any]:
    """p as kernels take it: the length of a table, a number, a table, a position in it."""
    return [4, 0.25, np.array([0.0, 0.5, p, 0.75]), np.array([2])] if scheduled else [0, p, None, None]


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 3, 15, 16, 17, 511, 512, 1000, 4097])
def test_forward_is_numpys_stream(launcher: Launcher, dtype: np.dtype[Any], n: int) -> None:
    A = np.random.default_rng(n).normal(size=n).astype(dtype)
    threshold = round(0.3 * 65536)
    out, mask = forward(launcher, A, 7, threshold)
    np.testing.assert_array_equal(mask, expected_mask(n, KEY, 7, threshold))
    assert_rounded(out, A.astype(np.float64) * mask / (1 - threshold / 65536), roundings=2)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("scheduled", [False, True], ids=["number", "table"])
@pytest.mark.parametrize(("n", "first"), [(0, 0), (17, 0), (1000, 5), (4097, 16)])
def test_alpha_dropout(launcher: Launcher, dtype: np.dtype[Any], scheduled: bool, n: int, first: int) -> None:
    """The same masks; a line for units that are kept, a value for those that are not, and the line's slope backward."""
    A = np.random.default_rng(n).normal(size=n).astype(dtype)
    p, value = 20_000 / 65536, -1.7580993408473766
    out, mask = forward(launcher, A, 7, 20_000, first, scheduled, alpha=True)
    np.testing.assert_array_equal(mask, forward(launcher, A, 7, 20_000, first)[1])
    scale = ((1 - p) * (1 + p * value**2)) ** -0.5
    x = A.astype(np.float64)
    expected = scale * (x * mask + value * (1 - mask)) - scale * p * value
    assert_rounded(out, expected, roundings=4, scale=scale * (np.abs(x) + 2 * abs(value)))
    dA = poisoned(n, dtype)
    arguments = [n, *rate(p, scheduled), A, mask, dA]
    launcher.launch("dropout", "dropout_backward", (dtype, True), arguments, threads=vector_threads(n, dtype))
    assert_rounded(dA, scale * x * mask, roundings=2)


def test_alpha_dropout_hides_no_diverged_unit(launcher: Launcher) -> None:
    out, mask = forward(launcher, np.full(64, np.inf, np.float32), 1, 32768, alpha=True)
    np.testing.assert_array_equal(out, np.where(mask, np.inf, np.nan))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("max_blocks", [1, 3, 65_536])
def test_any_grid_gives_the_same_mask(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    A = np.ones((129, 257), np.float32, order="F")
    out, mask = forward(make_launcher(block=block, max_blocks=max_blocks), A, 123, 32768)
    expected = expected_mask(A.size, KEY, 123, 32768).reshape(A.shape, order="F")
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(out, 2 * expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [*FLOATS, HALVES[0]], ids=str)
@pytest.mark.parametrize("first", [1, 4, 8, 15, 16, 17, 513, 1024, 3000])
def test_a_part_of_an_array_has_the_draws_that_it_has_in_the_whole(
    make_launcher: Callable[..., Launcher], dtype: np.dtype[Any], first: int
) -> None:
    A = np.random.default_rng(first).normal(size=5000).astype(dtype)
    launcher = make_launcher(max_blocks=2)
    whole, whole_mask = forward(launcher, A, 3, 20_000)
    for n in (1, 31, 600, 5000 - first):
        out, mask = forward(launcher, A[first : first + n].copy(), 3, 20_000, first)
        np.testing.assert_array_equal(mask, whole_mask[first : first + n])
        np.testing.assert_array_equal(out, whole[first : first + n])


@given(step=st.integers(0, 2**62), threshold=st.integers(0, 65535), n=st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_any_step_and_threshold(launcher: Launcher, step: int, threshold: int, n: int) -> None:
    out, mask = forward(launcher, np.ones(n, np.float64), step, threshold)
    np.testing.assert_array_equal(mask, expected_mask(n, KEY, step, threshold))
    np.testing.assert_array_equal(out, mask * (1 / (1 - threshold / 65536)))


def test_keeps_the_stated_share(launcher: Launcher) -> None:
    n, p = 1_000_000, 0.2
    _, mask = forward(launcher, np.ones(n, np.float32), 0, round(p * 65536))
    # Six standard deviations of a binomial share.
    assert abs(mask.mean() - (1 - p)) < 6 * np.sqrt(p * (1 - p) / n)


def test_in_place_and_nothing_hides_a_diverged_unit(launcher: Launcher) -> None:
    A = np.full(64, np.inf, np.float32)
    mask = poisoned(64, np.uint8)
    arguments = [64, 0, 0, *KEY, *rate(0.5), np.array([1]), A, A, mask]
    launcher.launch("dropout", "dropout_forward", (A.dtype, False), arguments, threads=4)
    np.testing.assert_array_equal(A, np.where(mask, np.inf, np.nan))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("n", [0, 1, 1001])
def test_backward(make_launcher: Callable[..., Launcher], dtype: np.dtype[Any], block: int, n: int) -> None:
    rng = np.random.default_rng(n)
    dOut = rng.normal(size=n).astype(dtype)
    mask = rng.integers(0, 2, n).astype(np.uint8)
    scale = accumulator(dtype).type(1 / 0.7)
    launcher = make_launcher(block=block, max_blocks=2)
    for scheduled in (False, True):
        dA = poisoned(n, dtype)
        arguments = [n, *rate(1 - 0.7, scheduled), dOut, mask, dA]
        launcher.launch("dropout", "dropout_backward", (dtype, False), arguments, threads=vector_threads(n, dtype))
        assert_rounded(dA, dOut.astype(np.float64) * mask * float(scale))


def test_beyond_its_end_a_table_gives_its_last_number(launcher: Launcher) -> None:
    ones, mask, dA = np.ones(8, np.float32), np.ones(8, np.uint8), poisoned(8, np.float32)
    arguments = [8, 2, 0.0, np.array([0.0, 0.5]), np.array([7]), ones, mask, dA]
    launcher.launch("dropout", "dropout_backward", (dA.dtype, False), arguments, threads=2)
    np.testing.assert_array_equal(dA, 2.0)


@pytest.mark.parametrize("scheduled", [False, True], ids=["number", "table"])
def test_the_reference_gives_the_same_bits(launcher: Launcher, scheduled: bool) -> None:
    for p in (0.0, 0.1, 0.5, 0.999):
        A = np.random.default_rng(5).normal(size=(37, 50)).astype(np.float32).T
        expected, expected_mask_of_ops = poisoned(A.shape, np.float32), poisoned(A.shape, np.uint8)
        Ops().dropout_forward(A, p, KEY, np.array([9]), expected_mask_of_ops, expected)
        out, mask = forward(launcher, A, 9, round(p * 65536), scheduled=scheduled)
        np.testing.assert_array_equal(mask, expected_mask_of_ops)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    n, bits = 2000, f"u{dtype.itemsize}"
    A = np.random.default_rng(n).normal(size=n).astype(dtype)
    expected, expected_mask = forward(launcher, A, 3, 20000)
    out, mask = forward(launcher, between_boundaries(A), 3, 20000)
    np.testing.assert_array_equal(out.view(bits), expected.view(bits))
    np.testing.assert_array_equal(mask, expected_mask)
    dA, shifted = poisoned(n, dtype), poisoned(n, dtype)
    launcher.launch("dropout", "dropout_backward", (dtype, False), [n, *rate(0.25), A, mask, dA], threads=n)
    arguments = [n, *rate(0.25), A, between_boundaries(mask), shifted]
    launcher.launch("dropout", "dropout_backward", (dtype, False), arguments, threads=n)
    np.testing.assert_array_equal(shifted.view(bits), dA.view(bits))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("units", "batch", "first"), [(6, 50, 0), (33, 7, 5), (3, 1, 17), (300, 40, 1024), (9, 0, 0)])
def test_members_have_their_own_rates_of_the_same_draws(
    make_launcher: Callable[..., Launcher], dtype: np.dtype[Any], units: int, batch: int, first: int
) -> None:
    A = np.asfortranarray(np.random.default_rng(units).normal(size=(units, batch))).astype(dtype)
    thresholds, launcher = [0, 20_000, 65_000], make_launcher(max_blocks=2)
    rates = np.array(thresholds) / 65536
    out, mask, back = poisoned(A.shape, dtype), poisoned(A.shape, np.uint8), poisoned(A.shape, dtype)
    block, skipped = divmod(first, 16)
    arguments = [A.size, units, 3, block, skipped, *KEY, rates, np.array([9]), A, out, mask]
    threads = -(-(A.size + skipped) // 16) if A.size else 0
    launcher.launch("dropout", "dropout_members_forward", (dtype,), arguments, threads=threads)
    given = [A.size, units, 3, rates, A, mask, back]
    launcher.launch("dropout", "dropout_members_backward", (dtype,), given, threads=A.size)
    for g, threshold in enumerate(thresholds):
        own = slice(g * units // 3, (g + 1) * units // 3)
        product, kept = forward(launcher, A, 9, threshold, first)
        np.testing.assert_array_equal(mask[own], kept[own])
        np.testing.assert_array_equal(out[own].astype(float), product[own].astype(float))
        np.testing.assert_array_equal(back[own].astype(float), product[own].astype(float))
