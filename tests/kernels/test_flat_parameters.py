"""flat_parameters.cuh: what every update does beside its rule: when it does nothing, where it reads and writes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import _nvrtc
from fcnn_gpu.backend._kernel_source import Instance, source
from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase
from .helpers import BLOCKS, FLOATS, HALVES, poisoned
from .test_vector import access_bytes


@dataclass(frozen=True)
class Rule:
    """How an optimizer's kernel is launched, with all of its state."""

    kernel: str
    scalars: tuple[float, ...]
    n_state: int
    counts_steps: bool
    rule: str | None = None

    @property
    def template(self) -> tuple[str, ...]:
        """What is behind the types in the name of an instance."""
        return () if self.rule is None else (self.rule,)

    def launch(self, launcher: Launcher, case: FlatCase, state: list[HostArray]) -> None:
        """With a weight decay, 0.1."""
        padded = [*state, *([] if self.rule is None else [None] * (3 - self.n_state))]
        scalars, tables = [*self.scalars, 0, 0.1], (None, None)
        case.launch(launcher, self.kernel, scalars, padded, self.counts_steps, tables, self.rule)

    def state(self, case: FlatCase, before: int = 0) -> list[HostArray]:
        """Positive numbers, in arrays that are views of ones that begin `before` elements earlier."""
        rng = np.random.default_rng(case.n)
        arrays = [rng.uniform(0.1, 2, size=case.n).astype(case.dtype) for _ in range(self.n_state)]
        return [shifted(x, before) for x in arrays]


RULES = [
    Rule("adagrad", (0.5, 1e-8), 1, True),
    Rule("adam", (0.9, 0.999, float(np.log(0.9)), float(np.log(0.999)), 1e-6), 2, True),
    Rule("rmsprop", (0.99, 1e-6, 0.875), 2, False),
    Rule("sgd", (0.875, True), 1, False),
    Rule("update_by_rule", (0.9, 0.999, 1e-6, 0.0), 3, True, "AMSGRAD"),
    Rule("update_by_rule", (0.9, 0.99, 0.0, 0.0), 1, True, "LION"),
]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule or rule.kernel)


def shifted(x: HostArray, before: int) -> HostArray:
    """x, `before` elements after the beginning of its memory."""
    return np.concatenate([np.zeros(before, x.dtype), x])[before:]


def bits(arrays: list[HostArray]) -> list[bytes]:
    return [x.tobytes() for x in arrays]


@every_rule
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_views_between_two_boundaries_give_the_same_bits(launcher: Launcher, rule: Rule, dtype: np.dtype[Any]) -> None:
    for n in (1, 5, 4097):
        expected = FlatCase(dtype, n, n_segments=5, clip=0.5)
        state = rule.state(expected)
        rule.launch(launcher, expected, state)
        for of_values, of_gradients, of_state in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 1)):
            case = FlatCase(dtype, n, n_segments=5, clip=0.5)
            case.values, case.gradients = shifted(case.values, of_values), shifted(case.gradients, of_gradients)
            views = rule.state(case, of_state)
            rule.launch(launcher, case, views)
            assert bits([case.values, *views]) == bits([expected.values, *state])


@every_rule
@pytest.mark.parametrize("low", HALVES, ids=str)
@pytest.mark.parametrize(("block", "max_blocks"), [(256, 65_536), (32, 3)])
def test_the_copy_is_the_rounded_value(
    make_launcher: Callable[..., Launcher], rule: Rule, low: np.dtype[Any], block: int, max_blocks: int
) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    n = 1003
    plain = FlatCase(FLOATS[0], n)
    rule.launch(launcher, plain, rule.state(plain))
    for n_low, before in itertools.product((0, 1, 6, 1000, n), (0, 1)):
        case = FlatCase(FLOATS[0], n)
        case.low = poisoned(n_low + before, low)[before:]
        rule.launch(launcher, case, rule.state(case))
        assert case.values.tobytes() == plain.values.tobytes()
        assert case.low.tobytes() == case.values[:n_low].astype(low).tobytes()


@pytest.mark.parametrize("low", HALVES, ids=str)
def test_the_copy_is_rounded_to_the_nearest_and_ties_to_even(launcher: Launcher, low: np.dtype[Any]) -> None:
    values = np.random.default_rng(0).normal(size=4000).astype(low).astype(np.float32)
    steps = np.spacing(values.astype(low)).astype(np.float32) / 2  # halfway to the next one: ties
    special = np.array([0.0, -0.0, 65504, 65519.9, 65520, -1e30, 6e-8, -2e-8, np.inf, -np.inf], np.float32)
    case = FlatCase(FLOATS[0], 3 * values.size + special.size, n_segments=1, rate=0.0)
    case.segments[0, 1:4] = case.gradients[:] = 0
    case.values = np.concatenate([values, values + steps, np.nextafter(values + steps, np.float32(9)), special])
    case.low = poisoned(case.n, low)
    before = case.values.copy()
    case.launch(launcher, "sgd", [0.0, False], [None], counts_steps=False)
    np.testing.assert_array_equal(case.values, before)
    with np.errstate(over="ignore"):
        expected = before.astype(low)
    np.testing.assert_array_equal(case.low.view(np.uint16), expected.view(np.uint16))


def test_a_value_that_is_nan_is_nan_in_the_copy(launcher: Launcher) -> None:
    for low in HALVES:
        case = FlatCase(FLOATS[0], 3, rate=0.0)
        case.values[1] = np.nan
        case.low = np.zeros(3, low)
        case.launch(launcher, "sgd", [0.0, False], [None], counts_steps=False)
        assert np.isnan(case.low.astype(np.float32)).tolist() == [False, True, False]


@every_rule
@pytest.mark.parametrize(("failed", "skip"), [(3, None), (3, -1), (-1, 3), (0, 0)])
def test_nothing_moves_in_a_step_that_is_skipped_or_after_a_failed_one(
    launcher: Launcher, rule: Rule, failed: int, skip: int | None
) -> None:
    case = FlatCase(FLOATS[0], 103, failed=failed, skip=skip, loss_scale=8.0)
    case.low, state = poisoned(100, HALVES[0]), rule.state(case)
    case.gradients[::2] = np.inf
    before = bits([case.values, case.low, *state])
    rule.launch(launcher, case, state)
    assert bits([case.values, case.low, *state]) == before


@every_rule
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_an_inverse_power_of_two_is_exact(launcher: Launcher, rule: Rule, dtype: np.dtype[Any]) -> None:
    plain, scaled = FlatCase(dtype, 1003, 4), FlatCase(dtype, 1003, 4, loss_scale=2.0**16, skip=-1)
    scaled.gradients *= 2.0**16
    results = []
    for case in (plain, scaled):
        state = rule.state(case)
        rule.launch(launcher, case, state)
        results.append(bits([case.values, *state]))
    assert results[0] == results[1]


@pytest.mark.parametrize("block", BLOCKS)
def test_segments_that_end_within_a_vector(make_launcher: Callable[..., Launcher], block: int) -> None:
    lengths = [1, 2, 3, 0, 4, 5, 1, 1, 1, 1, 7, 16, 0, 9, 64, 1]
    case = FlatCase(FLOATS[1], sum(lengths), n_segments=len(lengths), rate=1.0)
    rng = np.random.default_rng(1)
    case.segments = np.stack(
        [
            np.cumsum(lengths),
            *rng.choice([0, 0.25, 0.5], (2, len(lengths))),
            np.zeros(len(lengths)),
            np.ones(len(lengths)),
        ],
        axis=1,
    )
    expected = case.values - case.penalized()
    case.launch(make_launcher(block=block), "sgd", [0.0, False], [None], counts_steps=False)
    np.testing.assert_allclose(case.values, expected, rtol=1e-15, atol=1e-15)


@every_rule
def test_without_segments_nothing_is_penalized(launcher: Launcher, rule: Rule) -> None:
    bare, zero = FlatCase(FLOATS[1], 99), FlatCase(FLOATS[1], 99)
    bare.n_segments, bare.segments = 0, np.zeros((0, 5))
    zero.segments[:, 1:] = 0, 0, 0, 1
    for case in (bare, zero):
        rule.launch(launcher, case, rule.state(case))
    assert bare.values.tobytes() == zero.values.tobytes()


@pytest.mark.usefixtures("nvrtc")
@every_rule
def test_the_compiler_makes_one_access_of_each_vector(rule: Rule) -> None:
    """Gradient, value and state in 16 bytes each, the copy in 8; all that a parameter needs and nothing twice."""
    instance = Instance(rule.kernel, ("float", "__half", *rule.template))
    ptx = _nvrtc.compile_instances(rule.kernel, source(rule.kernel), [instance], "sm_90").ptx
    loads, stores = access_bytes(ptx, "ld"), access_bytes(ptx, "st")
    assert loads.count(16) == 2 + rule.n_state
    assert stores.count(16) == 1 + rule.n_state
    assert stores.count(8) == 1
