"""store_rows.cu: a batch's results go to their place among all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_ops._device import vector_threads
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BFLOAT16, BLOCKS, poisoned

F16, F32, F64, I64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64, np.int64))


def store(launcher: Launcher, rows: HostArray, cursor: int, out: HostArray) -> None:
    arguments = [*rows.shape, out.shape[0], np.array([cursor]), rows, out]
    threads = vector_threads(rows.size, rows.dtype, out.dtype)
    launcher.launch("store_rows", "store_rows", (rows.dtype, out.dtype), arguments, threads=threads)


@pytest.mark.parametrize(
    ("source", "target"),
    [(F32, F32), (F32, F64), (F64, F32), (F64, F64), (F16, F32), (BFLOAT16, F32), (BFLOAT16, F64), (I64, I64)],
)
@pytest.mark.parametrize("block", BLOCKS)
def test_rows(make_launcher: Callable[..., Launcher], block: int, source: np.dtype[Any], target: np.dtype[Any]) -> None:
    for batch, n, cursor in [(1, 1, 0), (0, 4, 2), (5, 3, 2), (40, 33, 10), (7, 16, 3), (4, 10, 1)]:
        rows = np.random.default_rng(n).integers(0, 100, size=(batch, n)).astype(source)
        out = poisoned((batch + 15, n), target, "C")
        expected = out.copy()
        expected[cursor : cursor + batch] = rows.astype(target)
        store(make_launcher(block=block, max_blocks=2), rows, cursor, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("cursor", [-1, 3, -5, 9])
def test_rows_outside_are_not_stored(launcher: Launcher, cursor: int) -> None:
    out = np.zeros((4, 2))
    store(launcher, np.arange(1.0, 5.0).reshape(2, 2), cursor, out)
    expected = np.zeros((4, 2))
    if cursor == -1:
        expected[0] = [3, 4]
    elif cursor == 3:
        expected[3] = [1, 2]
    np.testing.assert_array_equal(out, expected)
