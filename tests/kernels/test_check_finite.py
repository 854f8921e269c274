"""check_finite.cu: the health of a step and the norm of its gradient, the loss scale, and sums and counters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, poisoned


@dataclass
class Found:
    """What one launch of check_finite left."""

    failed: int
    skip: int | None
    clip: float
    total: float
    bare: HostArray
    penalized: HostArray | None


def check_finite(
    launcher: Launcher, case: FlatCase, losses: HostArray, part: int = 1000, penalized: bool = False, limit: float = 1.0
) -> Found:
    """One launch; the sum of losses starts at 0.5, the step is case.step."""
    n_parts = max(1, -(-case.n // part))
    bare, parts = poisoned(n_parts, case.dtype), poisoned(n_parts, case.dtype) if penalized else None
    segments: list[Any] = [case.n_segments, case.segments] if penalized else [0, None]
    arrived = np.zeros(1, np.uint32)
    failed, skip, total, clip = np.array([case.failed]), None, np.array([0.5]), poisoned(1, np.float64)
    if case.loss_scale is not None:
        skip = poisoned(1, np.int64)
        skip[0] = 3
    sizes = [case.n, part, n_parts, segments[0], losses.size, limit, 1.0, segments[1]]
    arrays = [case.scale_cell(), np.array([case.step]), losses, case.values, case.gradients, bare, parts, arrived]
    launcher.launch(
        "check_finite",
        "check_finite",
        (case.dtype, penalized),
        [*sizes, *arrays, failed, skip, clip, total],
        blocks=n_parts,
    )
    assert arrived.tolist() == [0]
    return Found(int(failed[0]), None if skip is None else int(skip[0]), float(clip[0]), float(total[0]), bare, parts)


def check_norm(launcher: Launcher, case: FlatCase, part: int) -> None:
    tolerance = 64 * float(np.finfo(case.dtype).eps)
    losses = np.linspace(-1, 2, 77).astype(case.dtype)
    for penalized in (False, True):
        g = case.penalized() if penalized else case.bare()
        norm = float(np.linalg.norm(g))
        found = check_finite(launcher, case, losses, part, penalized, limit=norm / 4)
        assert found.clip == pytest.approx(norm / 4 / (norm + 1e-6), rel=tolerance)
        assert check_finite(launcher, case, losses, part, penalized, limit=norm * 4).clip == 1.0
        assert found.total == pytest.approx(0.5 + float(np.sum(losses, dtype=np.float64)), rel=1e-12)
        assert (found.failed, found.skip) == (-1, None if case.loss_scale is None else -1)
        for sums, of in ((found.bare, case.bare()), (found.penalized, case.penalized())):
            if sums is not None:
                expected = [np.sum(of[p : p + part] ** 2) for p in range(0, case.n, part)]
                np.testing.assert_allclose(sums, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("part", [100, 103, 5000])
def test_norm_and_scale(launcher: Launcher, part: int, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        check_norm(launcher, case, part)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    check_norm(launcher, FlatCase(np.dtype(np.float64), 4097, 6), 300)
    check_norm(launcher, FlatCase(np.dtype(np.float32), 4097, 6), 512)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    aligned, shifted, losses = FlatCase(dtype, 1003, 3), FlatCase(dtype, 1003, 3), np.ones(1, dtype)
    for name in ("values", "gradients"):
        setattr(shifted, name, np.concatenate([[0], getattr(aligned, name)]).astype(dtype)[1:])
    for part, penalized in itertools.product((400, 401, 2000), (False, True)):
        first, second = (check_finite(launcher, case, losses, part, penalized) for case in (aligned, shifted))
        assert first.bare.tobytes() == second.bare.tobytes()
        assert first.clip == second.clip


def sound(n: int, dtype: np.dtype[Any] = FLOATS[0], **settings: Any) -> FlatCase:
    case = FlatCase(dtype, n, **settings)
    case.gradients[:] = 1
    return case


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_single_bad_number_is_found(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    launcher = make_launcher(block=block)
    for size in (1, 33, 1030):
        assert check_finite(launcher, sound(size, dtype, step=7), np.ones(size, dtype), part=300).failed == -1
        for bad, place in itertools.product((np.nan, np.inf, -np.inf), {0, size // 2, size - 1}):
            losses, case = np.ones(size, dtype), sound(size, dtype, step=7)
            losses[place] = case.gradients[place] = bad
            assert check_finite(launcher, sound(size, dtype, step=7), losses, part=300).failed == 7
            assert check_finite(launcher, case, np.ones(size, dtype), part=300).failed == 7


def test_infinities_of_both_signs_do_not_cancel(launcher: Launcher) -> None:
    assert check_finite(launcher, sound(1, step=7), np.array([np.inf, -np.inf], np.float32)).failed == 7


def test_the_first_failure_stays(launcher: Launcher) -> None:
    losses = np.array([np.nan], np.float32)
    assert check_finite(launcher, sound(1, step=9, failed=3), losses).failed == 3
    assert check_finite(launcher, sound(1, step=0), losses).failed == 0


def test_no_losses(launcher: Launcher) -> None:
    assert check_finite(launcher, sound(1), np.zeros(0, np.float32)).failed == -1


@pytest.mark.parametrize(
    ("scale", "bad_loss", "bad_gradient", "failed", "skip"),
    [
        (8.0, False, False, -1, -1),
        (8.0, False, True, -1, 7),
        (1.0, False, True, 7, -1),
        (1.0, False, False, -1, -1),
        (8.0, True, False, 7, -1),
        (8.0, True, True, 7, -1),
    ],
)
def test_a_scaled_gradient_that_overflows_skips_the_step(
    launcher: Launcher, scale: float, bad_loss: bool, bad_gradient: bool, failed: int, skip: int
) -> None:
    case, losses = sound(5000, step=7, loss_scale=scale), np.ones(10, np.float32)
    losses[3], case.gradients[4321] = np.nan if bad_loss else 1, np.inf if bad_gradient else 1
    found = check_finite(launcher, case, losses)
    assert (found.failed, found.skip) == (failed, skip)


def test_squares_are_those_of_the_unscaled_gradient(launcher: Launcher) -> None:
    case, losses = sound(100, loss_scale=2.0**24), np.ones(1, np.float32)
    case.gradients[:] = 2.0**80  # whose square is beyond float32
    assert check_finite(launcher, case, losses).skip == -1


@pytest.mark.parametrize(("gradient", "clip"), [(0.0, 1.0), (np.inf, 0.0), (np.nan, 1.0)])
def test_extreme_norms(launcher: Launcher, gradient: float, clip: float) -> None:
    case = sound(3)
    case.gradients[1:] = gradient
    case.gradients[0] = 0
    assert check_finite(launcher, case, np.ones(1, np.float32)).clip == clip


# The end of a step


@dataclass
class Scaling:
    """The cells of a loss scaling on the host."""

    scale: float
    good_steps: int = 0
    skipped: int = 0
    skip: int = -1

    def finished(self, launcher: Launcher, interval: int, failed: int) -> tuple[Scaling, int]:
        """The scaling after step 5, and the steps done."""
        step, scale = np.array([5]), np.array([float(self.scale)])
        good, skipped, skip = np.array([self.good_steps]), np.array([self.skipped]), np.array([self.skip])
        arguments = [interval, 1.0, 2.0**24, 0, 0, 0, 0, np.array([failed]), skip, step, scale, good, skipped]
        launcher.launch("check_finite", "finish_step", (), [*arguments, None, None, None, None], threads=1)
        return Scaling(float(scale[0]), int(good[0]), int(skipped[0]), int(skip[0])), int(step[0])


@pytest.mark.parametrize(
    ("before", "failed", "after", "step"),
    [
        (Scaling(16, good_steps=1), -1, Scaling(16, good_steps=2), 6),
        (Scaling(16, good_steps=2), -1, Scaling(32, good_steps=0), 6),
        (Scaling(2.0**24, good_steps=2), -1, Scaling(2.0**24, good_steps=0), 6),
        (Scaling(16, good_steps=2, skipped=4, skip=5), -1, Scaling(8, good_steps=0, skipped=5, skip=5), 5),
        (Scaling(1, skip=5), -1, Scaling(1, skipped=1, skip=5), 5),
        (Scaling(16, good_steps=2, skip=-1), 5, Scaling(16, good_steps=2), 5),
        (Scaling(16, good_steps=2, skip=5), 0, Scaling(16, good_steps=2, skip=5), 5),
    ],
)
def test_the_loss_scale_after_a_step(
    launcher: Launcher, before: Scaling, failed: int, after: Scaling, step: int
) -> None:
    assert before.finished(launcher, interval=3, failed=failed) == (after, step)


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
