"""momentum_direction.cu: Muon's momentum, and what it makes orthogonal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from ..support.tolerances import assert_close
from .flat import FlatCase, variants
from .helpers import FLOATS, poisoned


def launch(launcher: Launcher, case: FlatCase, nesterov: bool, m: HostArray) -> HostArray:
    """The direction; m is changed in place."""

    def cell(x: float | None) -> HostArray | None:
        return None if x is None else np.array([x])

    out = poisoned((case.n,), case.dtype, "C")
    arguments = [case.n, case.n_segments, 0.9, nesterov, case.max_value, case.segments, cell(case.clip)]
    arguments += [case.scale_cell(), cell(case.skip), cell(case.failed), case.gradients, case.values, m, out]
    launcher.launch("momentum_direction", "momentum_direction", (case.dtype,), arguments, threads=case.n)
    return out


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_average_and_the_direction(launcher: Launcher, dtype: Any, nesterov: bool) -> None:
    for case in variants(np.dtype(dtype)):
        m = np.random.default_rng(1).normal(size=case.n).astype(dtype)
        g, values = case.gradient(), case.values.copy()
        expected = 0.9 * m.astype(np.float64) + 0.1 * g
        out = launch(launcher, case, nesterov, m)
        assert_close(m, expected, "sum")
        assert_close(out, 0.9 * expected + 0.1 * g if nesterov else expected, "sum")
        np.testing.assert_array_equal(case.values, values)


@pytest.mark.parametrize("idle", [{"failed": 3}, {"skip": 4, "loss_scale": 2.0}], ids=["failed", "skipped"])
def test_nothing_happens_in_a_step_that_has_failed_or_is_skipped(launcher: Launcher, idle: Any) -> None:
    case = FlatCase(np.dtype("float32"), 33, **idle)
    m = np.ones(33, "float32")
    launch(launcher, case, True, m)
    assert (m == 1.0).all()
