"""normalize_matrices.cu: matrices beside each other, each divided by its norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from ..support.tolerances import assert_close
from .helpers import FLOATS, poisoned


def normalize(launcher: Launcher, X: HostArray, part: int, eps: float = 1e-7, blocks: int | None = None) -> HostArray:
    """Of the rows of X."""
    (groups, size), found = X.shape, X.copy()
    n_parts = max(1, -(-size // part))
    partial = poisoned((groups * n_parts,), X.dtype, "C")
    sizes, grid = [groups, size, part, n_parts], groups * n_parts if blocks is None else blocks
    launcher.launch("normalize_matrices", "matrix_squares", (X.dtype,), [*sizes, found, partial], blocks=grid)
    arguments = [*sizes, eps, partial, found]
    launcher.launch("normalize_matrices", "normalize_matrices", (X.dtype,), arguments, blocks=grid)
    return found


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("groups", "size", "part"), [(1, 1, 32), (3, 7, 32), (2, 1000, 128), (1, 4097, 4096)])
def test_norms_of_one(launcher: Launcher, dtype: Any, groups: int, size: int, part: int) -> None:
    X = np.random.default_rng(size).normal(size=(groups, size)).astype(dtype)
    X[-1] *= 1e-3
    norms = np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    found = normalize(launcher, X, part)
    assert_close(found, X / norms, "sum")
    assert_close(normalize(launcher, X, part, eps=float(norms.max())), X / norms.max(), "sum")
    for blocks in (1, 2):
        np.testing.assert_array_equal(normalize(launcher, X, part, blocks=blocks), found)


def test_zeros_and_what_has_no_square(launcher: Launcher) -> None:
    X = np.array([[0.0, 0.0], [1e30, 1e30], [3.0, 4.0]], "float32")
    np.testing.assert_allclose(normalize(launcher, X, 32), [[0.0, 0.0], [0.0, 0.0], [0.6, 0.8]], rtol=1e-6)
