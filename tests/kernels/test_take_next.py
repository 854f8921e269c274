"""take_next.cu: the learning rates of an epoch, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .helpers import BLOCKS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", BLOCKS)
def test_each_launch_takes_the_next_and_the_last_stays(
    make_launcher: Callable[..., Launcher], block: int, dtype: type
) -> None:
    launcher = make_launcher(block=block)
    table: HostArray = np.array([0.5, 0.25, 0.125], dtype)
    position = np.zeros(1, np.int64)
    taken = []
    for _ in range(5):
        out: HostArray = np.full(1, np.nan, dtype)
        launcher.launch("take_next", "take_next", (dtype,), [3, table, position, out], threads=1)
        taken.append(float(out[0]))
    assert taken == [0.5, 0.25, 0.125, 0.125, 0.125]
    assert position[0] == 5


def test_nothing_is_read_outside_of_the_table(launcher: Launcher) -> None:
    position, out = np.full(1, -7, np.int64), np.full(1, np.nan)
    launcher.launch("take_next", "take_next", (np.float64,), [2, np.array([3.0, 4.0]), position, out], threads=1)
    assert (out[0], position[0]) == (3.0, -6)
    launcher.launch("take_next", "take_next", (np.float64,), [0, np.zeros(0), position, out], threads=1)
    assert (out[0], position[0]) == (3.0, -6)  # an empty table: nothing to take
