"""add_to_diagonal.cu: a number added to the diagonals of square matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .helpers import FLOATS, HALVES


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES], ids=str)
@pytest.mark.parametrize(("groups", "n"), [(0, 3), (1, 1), (1, 33), (3, 10)])
def test_diagonals(launcher: Launcher, dtype: Any, groups: int, n: int) -> None:
    X = np.random.default_rng(n).normal(size=(groups, n, n)).astype(dtype)
    wide = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    expected = X.copy()
    for g in range(groups):
        for i in range(n):
            expected[g, i, i] = wide(X[g, i, i]) - wide(1.25)
    launcher.launch("add_to_diagonal", "add_to_diagonal", (X.dtype,), [groups, n, -1.25, X], threads=groups * n)
    np.testing.assert_array_equal(X, expected)
