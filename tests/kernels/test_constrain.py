"""constrain.cu: weights within limits, behind an update."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from ..support.tolerances import assert_close
from .helpers import FLOATS, poisoned

NONE: Any = np.array([-1])


def constrain(launcher: Launcher, W: HostArray, *limits: Any, failed: Any = NONE, skip: Any = None) -> HostArray:
    """W (n, n_in), constrained; with a float32's copy in float16, which has to be its rounding."""
    n, n_in = W.shape
    values = np.array(W, order="F")
    low = poisoned((n, n_in), np.dtype(np.float16), "F") if W.dtype == np.float32 else None
    instance = (W.dtype, W.dtype if low is None else low.dtype)
    arguments = [n, n_in, *limits, skip, failed, values, low]
    launcher.launch("constrain", "constrain", instance, arguments, blocks=-(-n // 32), block=256)
    if low is not None and failed is NONE and skip is None:
        np.testing.assert_array_equal(low, values.astype(np.float16))
    return values


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 5), (32, 9), (33, 8), (70, 31)])
@pytest.mark.parametrize("limits", [(False, 0.0, 1.5), (True, 0.0, np.inf), (True, 1.0, 1.0), (False, 2.0, 3.0)])
def test_the_norm_and_the_sign(launcher: Launcher, dtype: Any, shape: tuple[int, int], limits: Any) -> None:
    W = np.random.default_rng(shape[0]).normal(size=shape).astype(dtype)
    W[1:2] = 0.0
    expected = np.maximum(W, 0.0).astype(np.float64) if limits[0] else W.astype(np.float64)
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    expected *= np.clip(norms, *limits[1:]) / np.where(norms == 0.0, 1.0, norms) * (norms != 0.0)
    found = constrain(launcher, W, *limits)
    assert_close(found, expected, "sum")
    inside = ((norms >= limits[1]) & (norms <= limits[2]))[:, 0]
    assert np.array_equal(found[inside], np.maximum(W, 0.0)[inside] if limits[0] else W[inside])


@pytest.mark.parametrize("options", [{"failed": np.array([3])}, {"skip": np.array([0])}])
def test_nothing_happens_in_a_step_that_has_failed_or_is_skipped(launcher: Launcher, options: Any) -> None:
    W = np.random.default_rng(0).normal(size=(5, 4))
    assert np.array_equal(constrain(launcher, W, True, 1.0, 1.0, **options), W)
