"""The one way for a test to let a kernel fail: on the CPU, where nothing is lost by it.

On a GPU a trap or an access out of bounds ends the context of the whole process, and every test after it fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fcnn_gpu.backend._kernels import Launcher

from .host_device import HostDevice, KernelFault

MAY_REACH_A_GPU = ("make_launcher", "device_ops", "other_ops", "ops")
"""The shared fixtures that are a GPU under `pytest -m gpu`, and so are those made of them."""


@contextmanager
def expected_fault(match: str, device: HostDevice, item: pytest.Item) -> Iterator[Launcher]:
    """A launcher on the CPU under which the block must end in a fault that `match` is found in.

    Args:
        match: a regular expression, as in `pytest.raises`.
        device: executes the kernels; nothing but a HostDevice will do.
        item: the test. One that has a GPU, or a fixture that may be one, is refused before anything is launched: no
            kernel can run there by mistake.
    """
    if type(device) is not HostDevice:
        pytest.fail(f"A test that expects a fault runs on a HostDevice, got {type(device).__name__}.")
    fixtures: list[str] = getattr(item, "fixturenames", [])  # those that its own are made of included
    on_a_gpu = sorted(set(MAY_REACH_A_GPU) & set(fixtures))
    if on_a_gpu or item.get_closest_marker("gpu"):
        what = f"have the fixture {', '.join(on_a_gpu)}" if on_a_gpu else "be marked gpu"
        pytest.fail(
            f"A test that expects a fault may not {what}: that is a GPU under `pytest -m gpu`, whose context would be "
            "lost for all later tests. Use the launcher that expect_fault gives."
        )
    with pytest.raises(KernelFault, match=match):
        yield Launcher(device)
