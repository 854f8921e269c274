"""Fixtures of the kernel tests: a launcher whose device executes the .cu text on the CPU, and one on a GPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from fcnn_gpu.backend import _nvrtc
from fcnn_gpu.backend._kernels import CudaDevice, Launcher
from tests.conftest import no_cuda_device
from tests.cuda_on_cpu import HostDevice, missing_compiler
from tests.cuda_on_cpu.faults import expected_fault

from .cuda_copies import CopiesOnDevice, ExactMemory, PooledMemory

EXACT = "FCNN_TEST_EXACT_ALLOCATIONS"
"""Set by `gpu_report.py --sanitizer`: every argument in an allocation of its own length."""


@functools.cache
def emulation() -> HostDevice:
    """The kernels' text, executed on the CPU; skips the test where no C++ compiler is to be had."""
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    return HostDevice()


@functools.cache
def gpu() -> CopiesOnDevice:
    """CUDA device 0, over host arrays; skips the test, saying which link fails, where there is none."""
    reason = no_cuda_device()
    if reason:
        pytest.skip(reason)
    import cupy

    memory = ExactMemory(cupy) if os.environ.get(EXACT) else PooledMemory(cupy)
    return CopiesOnDevice(CudaDevice(cupy), memory)


@pytest.fixture(
    scope="session",
    params=[pytest.param(emulation, id="emulated"), pytest.param(gpu, id="cuda", marks=pytest.mark.gpu)],
)
def make_launcher(request: pytest.FixtureRequest) -> Callable[..., Launcher]:
    """Launchers of one device, the CPU emulation or a GPU: `make_launcher(block=64, max_blocks=3)`."""
    make: Any = request.param
    device = make()
    return lambda **options: Launcher(device, **options)


@pytest.fixture(scope="session")
def launcher(make_launcher: Callable[..., Launcher]) -> Launcher:
    """A launcher with the default block size."""
    return make_launcher()


ExpectFault = Callable[..., AbstractContextManager[Launcher]]


@pytest.fixture
def expect_fault(request: pytest.FixtureRequest) -> ExpectFault:
    """`with expect_fault("__trap") as launcher: launcher.launch(...)`: on the CPU, whatever else the tests run on."""

    def expect(match: str, device: HostDevice | None = None) -> AbstractContextManager[Launcher]:
        return expected_fault(match, device or emulation(), request.node)

    return expect


@pytest.fixture
def nvrtc() -> None:
    """Skips the test where there is no NVRTC. It is looked for when the test runs: CuPy takes whichever NVRTC is loaded
    first for its own, of another CUDA version too, and nothing may be loaded before it by a look at the tests."""
    reason = _nvrtc.missing_nvrtc()
    if reason:
        pytest.skip(reason)
