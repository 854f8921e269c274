"""check_finite.cu: the health of a step, the step counter, and sums kept on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS


def failed_step(launcher: Launcher, losses: HostArray, partial: HostArray, step: int = 7, failed: int = -1) -> int:
    flag = np.array([failed])
    arguments = [losses.size, partial.size, np.inf, 1.0, losses, partial, None, np.array([step]), None, flag]
    arguments += [None, None, None]
    launcher.launch("check_finite", "check_finite", (losses.dtype,), arguments, blocks=1)
    return int(flag[0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_single_bad_number_is_found(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    launcher = make_launcher(block=block)
    for size in (1, 33, 1030):
        losses, partial = np.ones(size, dtype), np.ones(size + 1, dtype)
        assert failed_step(launcher, losses, partial) == -1
        for bad in (np.nan, np.inf, -np.inf):
            for place in {0, size // 2, size - 1}:
                wrong = losses.copy()
                wrong[place] = bad
                assert failed_step(launcher, wrong, partial) == 7
                assert failed_step(launcher, partial, wrong) == 7


def test_infinities_of_both_signs_do_not_cancel(launcher: Launcher) -> None:
    assert failed_step(launcher, np.array([np.inf, -np.inf]), np.ones(1)) == 7


def test_the_first_failure_stays(launcher: Launcher) -> None:
    assert failed_step(launcher, np.array([np.nan]), np.ones(1), step=9, failed=3) == 3
    assert failed_step(launcher, np.array([np.nan]), np.ones(1), step=0) == 0


def test_no_losses(launcher: Launcher) -> None:
    assert failed_step(launcher, np.zeros(0), np.ones(1)) == -1


def finish(launcher: Launcher, step: HostArray, failed: int = -1, blocks: int = 1, **counters: HostArray) -> None:
    """Without loss scaling; the counters advance by 10, 20, ..."""
    by = [10 * (k + 1) for k in range(len(counters))]
    absent = [None] * (4 - len(counters))
    arguments = [0, 1.0, 2.0, *by, *(0 for _ in absent), np.array([failed]), None, step, None, None, None]
    launcher.launch("check_finite", "finish_step", (), [*arguments, *counters.values(), *absent], blocks=blocks)


@pytest.mark.parametrize(("failed", "step"), [(-1, 6), (0, 5), (5, 5)])
def test_finish_step(launcher: Launcher, failed: int, step: int) -> None:
    done, first, second = np.array([5]), np.array([1]), np.array([2])
    finish(launcher, done, failed, first=first, second=second)
    assert (done.tolist(), first.tolist(), second.tolist()) == ([step], [11], [22])


def test_one_step_whatever_the_grid(launcher: Launcher) -> None:
    done, counter = np.array([5]), np.array([0])
    finish(launcher, done, blocks=3, counter=counter)
    launcher.launch("check_finite", "advance", (), [10, done], blocks=3)
    assert (done.tolist(), counter.tolist()) == ([16], [10])


@pytest.mark.parametrize("by", [-5, 0, 2**40])
def test_advance(launcher: Launcher, by: int) -> None:
    counter = np.array([7])
    launcher.launch("check_finite", "advance", (), [by, counter], threads=1)
    assert counter.tolist() == [7 + by]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_accumulate_sum(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    launcher = make_launcher(block=block)
    for size in (0, 1, 33, 5000):
        x, total = np.random.default_rng(size).normal(size=size).astype(dtype), np.array([0.5])
        for _ in range(2):
            launcher.launch("check_finite", "accumulate_sum", (dtype,), [size, x, total], blocks=1)
        # In double whatever the dtype, so that an epoch's thousands of batches do not lose digits.
        np.testing.assert_allclose(total, [0.5 + 2 * np.sum(x, dtype=np.float64)], rtol=1e-12)


def test_a_larger_grid_adds_once(launcher: Launcher) -> None:
    total = np.zeros(1)
    launcher.launch("check_finite", "accumulate_sum", (np.float64,), [3, np.ones(3), total], blocks=4)
    assert total.tolist() == [3.0]
