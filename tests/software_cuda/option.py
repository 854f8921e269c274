"""`pytest --software-cuda`: the tests marked gpu, on the real CuPy over software CUDA."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.measured_cases import without_news

from .build import NotBuildable
from .environment import install, is_installed


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--software-cuda",
        action="store_true",
        help="run what is marked gpu on the real CuPy over software CUDA (tests/software_cuda), without a GPU",
    )


def configure(config: pytest.Config) -> None:
    """Put software CUDA under this run, before anything imports CuPy."""
    if not config.getoption("--software-cuda"):
        return
    os.environ.setdefault("SOFTWARE_CUDA_DEVICES", "2")  # a test of two devices has two
    try:
        built = install()
    except NotBuildable as reason:
        raise pytest.UsageError(str(reason)) from reason
    config.pluginmanager.register(_Faults(ctypes.CDLL(str(built.libraries[0]))))
    config.pluginmanager.register(FewerOfKernels())


KERNELS = Path(__file__).parents[1] / "kernels"


class FewerOfKernels:
    """Of the kernels' own tests, the cases that have something new.

    Net 2 executes the kernels' text in all of them, and watches it for races. What is new here is how CuPy compiles and
    launches a kernel, and g++ takes a quarter of a second for each instance.
    """

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        on_gpu = [item for item in items if item.get_closest_marker("gpu") and KERNELS in item.path.parents]
        left = set(without_news(on_gpu))
        if left:
            config.hook.pytest_deselected(items=[item for item in items if item in left])
            items[:] = [item for item in items if item not in left]


class _Faults:
    """A kernel that breaks the device is the failure of one test here: the device is mended for the next.

    What a test leaves in the queues is done when it ends: nobody else waits for it, perhaps, and a fault in it would
    stay hidden, or be the failure of the next test that waits.
    """

    def __init__(self, driver: ctypes.CDLL) -> None:
        self._driver = driver
        driver.software_cuda_fault.restype = ctypes.c_char_p

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        try:
            yield
        finally:  # what it has queued goes on, as late as before
            fault = self._mend()
        _fail(fault)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._driver.software_cuda_finish()
            fault = self._mend()
        _fail(fault)

    pytest_runtest_teardown = pytest_runtest_call

    def _mend(self) -> str:
        """The fault of the devices, which forget it."""
        fault: bytes = self._driver.software_cuda_fault()
        self._driver.software_cuda_forget_fault()
        return fault.decode()


def _fail(fault: str) -> None:
    if fault:
        pytest.fail(f"A kernel has broken the device: {fault}")


def smaller(size: int, on_software: int) -> int:
    """`size`, which is meant for a GPU, or `on_software` where each thread of a kernel is executed in turn."""
    return on_software if is_installed() else size
