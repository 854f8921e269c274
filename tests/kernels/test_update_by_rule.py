"""update_by_rule.cu: every rule against the reference, at early and late steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend import FlatParameters, Ops, Segment, StepControl
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import UPDATE_RULES

from ..support.op_cases import RULE_CASES
from ..support.tolerances import assert_close
from .flat import FlatCase
from .helpers import BLOCKS, FLOATS


def check(launcher: Launcher, case: FlatCase, label: str) -> None:
    """Against the reference, in float64."""
    rule, settings, n_state, decay = RULE_CASES[label]
    rng = np.random.default_rng(case.n)
    low = 1.0 if rule == "centered" else 0.1
    state = [rng.uniform(low, 2.0, case.n), *(rng.uniform(0.1, 0.9, case.n) for _ in range(n_state - 1))]
    launched = [x.astype(case.dtype) for x in state]
    state = [x.astype(np.float64) for x in launched]
    segments, start = [], 0
    for stop, l1, l2, factor, rate in case.segments.tolist():
        segments.append(Segment(start, int(stop), l1, l2, factor, rate))
        start = int(stop)
    flat = FlatParameters(case.values.astype(np.float64), case.gradients.astype(np.float64), tuple(segments))
    control = StepControl(
        step=np.array([case.step]),
        learning_rate=np.array([case.rate]),
        clip_scale=np.array([case.clip]),
        failed_step=np.array([-1]),
        max_norm=1.0,
    )
    Ops().update_by_rule(flat, control, rule, settings, state, decay)
    scalars: list[float] = [*settings, 0.0, 0.0, 0.0, 0.0][:4]
    padded = [*launched, None, None][:3]
    case.launch(launcher, "update_by_rule", [*scalars, 0, decay], padded, True, (None, None), rule.upper())
    for actual, expected in zip([case.values, *launched], [flat.values, *state], strict=True):
        assert_close(actual, expected, "elementwise", label)


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, *_ in RULE_CASES.values()} == set(UPDATE_RULES)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("label", RULE_CASES)
def test_update(launcher: Launcher, label: str, dtype: np.dtype[Any]) -> None:
    for n, step in ((1, 0), (33, 4), (1003, 5), (7, 10**6), (31, 99)):
        check(launcher, FlatCase(dtype, n, n_segments=3, step=step, clip=0.5), label)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS[:-1], [1, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    check(
        make_launcher(block=block, max_blocks=max_blocks),
        FlatCase(FLOATS[1], 4097, n_segments=6, clip=0.5),
        "radam rectified",
    )
