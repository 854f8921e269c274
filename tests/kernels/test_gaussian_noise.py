"""gaussian_noise.cu: the numbers of NumPy's Philox stream by Box and Muller, at every size, block size and grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, assert_rounded, poisoned

KEY = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


def normals(n: int, step: int) -> HostArray:
    """The definition, by complex numbers."""
    words = np.random.Philox(key=np.array(KEY, np.uint64), counter=(0, step, 0, 0)).random_raw(-(-n // 2))
    u, v = ((words >> np.uint64(40)).astype(float) + 1) / 2**24, (words >> np.uint64(8)) % 2**24 / 2**24
    pairs = np.sqrt(-2 * np.log(u)) * np.exp(2j * np.pi * v)
    return np.stack([pairs.real, pairs.imag], 1).ravel()[:n]


def noisy(
    launcher: Launcher, A: HostArray, std: float, step: int, first: int = 0, scheduled: bool = False
) -> HostArray:
    out, (block, skipped) = poisoned(A.shape, A.dtype), divmod(first, 8)
    given: list[Any] = [3, 9.0, np.array([0.0, std, 5.0]), np.array([1])] if scheduled else [0, std, None, None]
    arguments = [A.size, block, skipped, *KEY, *given, np.array([step]), A, out]
    threads = -(-(A.size + skipped) // 8) if A.size else 0
    launcher.launch("gaussian_noise", "gaussian_noise", (A.dtype,), arguments, threads=threads)
    return out


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("scheduled", [False, True], ids=["number", "table"])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 1000, 4097])
def test_it_is_numpys_stream(launcher: Launcher, dtype: np.dtype[Any], n: int, scheduled: bool) -> None:
    A = np.random.default_rng(n).normal(size=n).astype(dtype)
    out, noise = noisy(launcher, A, 0.3, 7, scheduled=scheduled), 0.3 * normals(n, 7)
    assert_rounded(out, A.astype(np.float64) + noise, roundings=16, scale=np.abs(A.astype(np.float64)) + 2.0)


@pytest.mark.parametrize("dtype", [*FLOATS, HALVES[0]], ids=str)
@pytest.mark.parametrize("first", [1, 2, 7, 8, 9, 513, 1024])
def test_a_part_of_an_array_has_the_numbers_that_it_has_in_the_whole(
    make_launcher: Callable[..., Launcher], dtype: np.dtype[Any], first: int
) -> None:
    A = np.random.default_rng(first).normal(size=2000).astype(dtype)
    launcher = make_launcher(max_blocks=2)
    whole = noisy(launcher, A, 0.5, 3)
    for n in (1, 31, 2000 - first):
        part = noisy(launcher, A[first : first + n].copy(), 0.5, 3, first)
        np.testing.assert_array_equal(part, whole[first : first + n])


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("max_blocks", [1, 3, 65_536])
def test_any_grid_gives_the_same_bits(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    A = np.ones((29, 57), np.float32, order="F")
    expected = noisy(make_launcher(), A, 2.0, 123)
    np.testing.assert_array_equal(noisy(make_launcher(block=block, max_blocks=max_blocks), A, 2.0, 123), expected)


def test_in_place_and_nothing_hides_a_diverged_unit(launcher: Launcher) -> None:
    A = np.array([np.inf, np.nan, 1.0, -np.inf], np.float32)
    arguments = [4, 0, 0, *KEY, 0, 1.0, None, None, np.array([1]), A, A]
    launcher.launch("gaussian_noise", "gaussian_noise", (A.dtype,), arguments, threads=1)
    np.testing.assert_array_equal(np.isfinite(A), [False, False, True, False])
