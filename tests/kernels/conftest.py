"""Fixtures of the kernel tests: a launcher whose device executes the .cu text on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fcnn_gpu.backend._kernels import Launcher
from tests.cuda_on_cpu import HostDevice, missing_compiler


@pytest.fixture(scope="session")
def make_launcher() -> Callable[..., Launcher]:
    """Launchers of one host device: `make_launcher(block=64, max_blocks=3)`."""
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    device = HostDevice()
    return lambda **options: Launcher(device, **options)


@pytest.fixture(scope="session")
def launcher(make_launcher: Callable[..., Launcher]) -> Launcher:
    """A launcher with the default block size."""
    return make_launcher()
