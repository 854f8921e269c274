"""scale.cu: factor·x with one rounding, in place as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import vector_threads
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, between_boundaries, poisoned


def scaled(launcher: Launcher, x: HostArray, factor: float, out: HostArray) -> HostArray:
    arguments = [x.size, factor, x, out]
    launcher.launch("scale", "scale", (x.dtype,), arguments, threads=vector_threads(x.size, x.dtype))
    return out


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_products(make_launcher: Callable[..., Launcher], block: int, dtype: np.dtype[Any]) -> None:
    launcher, wide = make_launcher(block=block, max_blocks=2), accumulator(dtype)
    for n in (0, 1, 7, 64, 1001):
        x = np.random.default_rng(n).normal(size=n).astype(dtype)
        expected = (x.astype(wide) * wide.type(0.3)).astype(dtype)
        np.testing.assert_array_equal(scaled(launcher, x, 0.3, poisoned(n, dtype)), expected)
        shifted = between_boundaries(x)
        np.testing.assert_array_equal(scaled(launcher, shifted, 0.3, shifted), expected)
