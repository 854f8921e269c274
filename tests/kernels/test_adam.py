"""adam.cu: Adam and AdamW, from the first step to the millionth."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, assert_rounded

EPS = 1e-6
NO_TABLE = None, None


def check(
    launcher: Launcher,
    case: FlatCase,
    decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    scheduled: bool = False,
) -> None:
    """Against the paper's form, with moments that carry their factors (1 − β). `scheduled`: λ is one of a table."""
    rng = np.random.default_rng(case.n)
    m, v = rng.normal(size=case.n).astype(case.dtype), rng.uniform(0.1, 2, size=case.n).astype(case.dtype)
    theta, g, t = case.values.astype(np.float64), case.gradient(), case.step + 1
    m_sum, v_sum = beta1 * m.astype(np.float64) + g, beta2 * v.astype(np.float64) + g**2
    m_hat = (1 - beta1) * m_sum / (1 - beta1**t)
    v_hat = (1 - beta2) * v_sum / (1 - beta2**t)
    kept = theta * (1 - case.eta * decay * case.per_parameter(3))
    update = case.eta * m_hat / (np.sqrt(v_hat) + EPS)

    logs = [float(np.log(beta)) if beta else -np.inf for beta in (beta1, beta2)]
    scalars = [beta1, beta2, *logs, EPS, *((3, 0.5) if scheduled else (0, decay))]
    tables = [np.array([0.0, decay, 7.0]), np.array([1])] if scheduled else NO_TABLE
    case.launch(launcher, "adam", scalars, [m, v], counts_steps=True, tables=tables)
    size = 1 + np.abs(g) + np.abs(case.bare())
    assert_rounded(m, m_sum, roundings=8, scale=size)
    assert_rounded(v, v_sum, roundings=8, scale=size**2)
    factor = case.eta * (1 - beta1) / (1 - beta1**t) / np.sqrt(v_hat)
    assert_rounded(case.values, kept - update, roundings=32, scale=np.abs(theta) + size**2 * factor)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.1], ids=["adam", "adamw"])
def test_update(launcher: Launcher, decay: float, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        check(launcher, case, decay)
        check(launcher, case, decay, scheduled=True)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("step", [0, 1, 99, 10_000, 1_000_000, 2**40])
def test_bias_correction_at_any_step(launcher: Launcher, step: int, dtype: np.dtype[Any]) -> None:
    check(launcher, FlatCase(dtype, 100, step=step), decay=0.1)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("betas", [(0.0, 0.0), (0.0, 0.999), (0.99, 0.99999)])
def test_other_betas(launcher: Launcher, betas: tuple[float, float], dtype: np.dtype[Any]) -> None:
    check(launcher, FlatCase(dtype, 100, step=0), 0.0, *betas)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    case = FlatCase(np.dtype(np.float64), 4097, n_segments=6)
    check(make_launcher(block=block, max_blocks=max_blocks), case, 0.1)


def test_nothing_moves_after_a_failed_step(launcher: Launcher) -> None:
    case = FlatCase(np.dtype(np.float32), 100, failed=3)
    before, m, v = case.values.copy(), np.ones(100, np.float32), np.ones(100, np.float32)
    scalars = [0.9, 0.999, float(np.log(0.9)), float(np.log(0.999)), EPS, 0, 0.1]
    case.launch(launcher, "adam", scalars, [m, v], counts_steps=True, tables=NO_TABLE)
    np.testing.assert_array_equal(case.values, before)
    np.testing.assert_array_equal([m, v], 1)
