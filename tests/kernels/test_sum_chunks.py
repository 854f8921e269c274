"""sum_chunks.cu: the second stage of sums over samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, assert_rounded, poisoned


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_sums(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    launcher = make_launcher(block=block, max_blocks=2)
    for n, n_chunks in [(0, 1), (1, 1), (1, 100), (3, 7), (1025, 3), (40, 256)]:
        partial = np.random.default_rng(n).normal(size=(n_chunks, n)).astype(dtype)
        out = poisoned((n, 1), dtype)
        launcher.launch("sum_chunks", "sum_chunks", (dtype,), [n, n_chunks, partial, out], blocks=-(-n // 32))
        wide = partial.astype(np.float64)
        assert_rounded(out[:, 0], wide.sum(axis=0), roundings=n_chunks, scale=np.abs(wide).sum(axis=0))
