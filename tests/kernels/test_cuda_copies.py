"""The copies behind the GPU form of the kernel tests: with memory that imitates a device's, and the CPU emulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_source import Instance, Kernel
from fcnn_gpu.backend._kernels import Argument, Launcher

from .conftest import emulation
from .cuda_copies import RED_ZONE, ContextBroken, CopiesOnDevice
from .helpers import BFLOAT16


class Bytes(np.ndarray[Any, Any]):
    """Bytes with CuPy's two copies."""

    def set(self, x: HostArray) -> None:
        self[:] = x

    def get(self) -> HostArray:
        return np.array(self)


class ImitatedMemory:
    def __init__(self, red_zone: int) -> None:
        self.red_zone = red_zone
        self.waits = 0

    def empty(self, n_bytes: int) -> Bytes:
        return np.full(n_bytes, 0xFF, np.uint8).view(Bytes)

    def synchronize(self) -> None:
        self.waits += 1


@pytest.fixture(params=[RED_ZONE, 0], ids=["red zones", "exact"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    return Launcher(CopiesOnDevice(emulation(), ImitatedMemory(request.param)))


def gather(launcher: Launcher, X: HostArray, order: HostArray, cursor: HostArray, out: HostArray) -> None:
    arguments = [*X.shape, order.size, len(out), X, order, cursor, out]
    launcher.launch("gather", "gather_rows", (X.dtype,), arguments, threads=out.size)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BFLOAT16, np.dtype(np.uint8)], ids=str)
def test_what_the_kernel_writes_comes_back(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    X = np.arange(35).reshape(7, 5).astype(dtype)
    order = np.array([6, 0, 3])
    whole = np.full((6, 5), 9).astype(dtype)
    gather(launcher, X, order, np.array([1]), whole[2:4])
    expected = np.full((6, 5), 9).astype(dtype)
    expected[2:4] = X[[0, 3]]
    np.testing.assert_array_equal(whole, expected)


def test_arrays_that_overlap_stay_one(launcher: Launcher) -> None:
    flat = np.arange(24.0)
    A, before = flat[8:16], flat.copy()
    mask = np.ones(8, np.uint8)
    launcher.launch("dropout", "dropout_backward", (np.float64, False), [8, 0, 0.75, None, None, A, mask, A], threads=8)
    before[8:16] *= 4
    np.testing.assert_array_equal(flat, before)


def test_empty_arrays_and_null_pointers(launcher: Launcher) -> None:
    out = np.ones((2, 3), np.float32, order="F")
    arguments = [2, 3, 0.0, None, out, out]
    launcher.launch("bias_activation", "bias_activation", (np.float32, "RELU"), arguments, threads=6)
    launcher.launch("check_finite", "accumulate_sum", (np.float64,), [0, np.zeros(0), np.zeros(1)], blocks=1)
    np.testing.assert_array_equal(out, 1)


class Writes:
    """A device that adds one to every byte of the array of this name, and of `beside` bytes more on both sides."""

    def __init__(self, name: str, beside: int) -> None:
        self.name, self.beside = name, beside

    def run(
        self, kernel: Kernel, instance: Instance, grid: int, block: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        view = next(a.value for a in arguments if a.parameter.name == self.name)
        whole = view.base
        while whole.base is not None and isinstance(whole.base, Bytes):
            whole = whole.base
        first = view.ctypes.data - whole.ctypes.data
        whole[first - self.beside : first + view.size + self.beside] += 1


def launch_through(device: Any) -> None:
    X, out = np.ones((4, 2), np.uint8), np.ones((3, 2), np.uint8)
    launcher = Launcher(CopiesOnDevice(device, ImitatedMemory(RED_ZONE)))
    gather(launcher, X, np.arange(4), np.array([0]), out)
    np.testing.assert_array_equal(out, 2)


def test_a_write_beside_an_array_is_found() -> None:
    launch_through(Writes("out", 0))
    with pytest.raises(AssertionError, match=r"gather_rows<unsigned char> wrote beside out: 2 bytes, .* byte -1 of 6"):
        launch_through(Writes("out", 1))


def test_a_write_to_a_const_array_is_found() -> None:
    with pytest.raises(AssertionError, match=r"changed X, which it declares const, at byte 0"):
        launch_through(Writes("X", 0))


class CUDARuntimeError(RuntimeError):
    """As CuPy calls it."""


def test_the_launch_that_broke_the_context_is_named() -> None:
    class Broken:
        def run(self, *arguments: Any) -> None:
            raise CUDARuntimeError("cudaErrorIllegalAddress")

    launcher = Launcher(CopiesOnDevice(Broken(), ImitatedMemory(RED_ZONE)))
    with pytest.raises(CUDARuntimeError):
        launcher.launch("check_finite", "advance", (), [1, np.array([0])], threads=1)
    with pytest.raises(ContextBroken, match=r"advance broke the CUDA context before \(cudaErrorIllegalAddress\)"):
        launcher.launch("check_finite", "accumulate_sum", (np.float64,), [0, np.zeros(0), np.zeros(1)], blocks=1)
