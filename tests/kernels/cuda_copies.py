"""Kernels launched on a GPU over host arrays, so that tests written for the CPU emulation run on a GPU as they are."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._kernel_source import Instance, Kernel
from fcnn_gpu.backend._kernels import Argument
from tests.cuda_on_cpu.host_device import Region, merged_regions

RED_ZONE = 256
"""Bytes before and after every argument that a kernel must leave alone, a multiple of what a device aligns to."""

_UNTOUCHED = 0xA5


class Memory(Protocol):
    """Device memory as arrays of bytes with CuPy's `set` (copy from the host) and `get` (copy to it)."""

    red_zone: int

    def empty(self, n_bytes: int) -> Array:
        """So many bytes of the device, aligned to 256."""

    def synchronize(self) -> None:
        """Wait for the device; raises what a launch went wrong with."""


class PooledMemory:
    """CuPy's memory pool, with red zones around each argument: a write beside an array shows."""

    red_zone = RED_ZONE

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def empty(self, n_bytes: int) -> Array:
        return self._cupy.empty(n_bytes, np.uint8)

    def synchronize(self) -> None:
        self._cupy.cuda.runtime.deviceSynchronize()


class ExactMemory(PooledMemory):
    """An allocation for each argument, as long as it is: compute-sanitizer then sees reads and writes beside it."""

    red_zone = 0

    def empty(self, n_bytes: int) -> Array:
        cuda = self._cupy.cuda
        return self._cupy.ndarray((n_bytes,), np.uint8, memptr=cuda.MemoryPointer(cuda.Memory(max(1, n_bytes)), 0))


class ContextBroken(RuntimeError):
    """An earlier launch left the CUDA context unusable; the message names it."""


class CopiesOnDevice:
    """A `Device` of the launcher over NumPy arrays: copied to `memory`, handed to `device`, copied back.

    Arrays that overlap on the host overlap on the device. After a launch it raises AssertionError where a const array
    changed or something was written beside an array.
    """

    array_type: type = np.ndarray

    def __init__(self, device: Any, memory: Memory) -> None:
        self._device, self._memory = device, memory
        self._broken = ""

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def prepare(self, kernel: Kernel, instance: Instance) -> None:
        self._device.prepare(kernel, instance)

    def run(
        self, kernel: Kernel, instance: Instance, grid: int, block: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        if self._broken:
            raise ContextBroken(self._broken)
        arrays = [argument for argument in arguments if isinstance(argument.value, np.ndarray)]
        copies = [_Copy(region, self._memory) for region in merged_regions(arrays)]
        there = [_on_device(argument, copies) for argument in arguments]
        try:
            self._device.run(kernel, instance, grid, block, shared, there)
            self._memory.synchronize()
        except Exception as error:
            if "CUDARuntimeError" in type(error).__name__:
                self._broken = f"{instance.expression} broke the CUDA context before ({error}): nothing runs after it."
            raise
        for copy in copies:
            copy.bring_back(instance.expression)


class _Copy:
    """A stretch of host memory on the device, with red zones around it."""

    def __init__(self, region: Region, memory: Memory) -> None:
        self._region = region
        self.begin, self.end = region.begin, region.end
        self._zone = memory.red_zone
        # The first byte is as far from an aligned address as on the host: vector accesses meet the same alignment.
        self.first = self._zone + region.alignment_offset
        self._host = _bytes_at(region.begin, region.end - region.begin)
        self._before = np.full(self.first + self._host.size + self._zone, _UNTOUCHED, np.uint8)
        self._before[self.first : self.first + self._host.size] = self._host
        self.bytes = memory.empty(self._before.size)
        self.bytes.set(self._before)

    def holds(self, argument: Argument) -> bool:
        """Whether the argument's array lies here; an empty one has no bytes that could tell."""
        begin = argument.value.ctypes.data
        return argument.parameter.name in self._region.names and self.begin <= begin <= self.end

    def bring_back(self, who: str) -> None:
        after = self.bytes.get()
        inside = slice(self.first, self.first + self._host.size)
        names = " and ".join(dict.fromkeys(self._region.names))
        changed = np.flatnonzero(after != self._before)
        outside = changed[(changed < inside.start) | (changed >= inside.stop)]
        if outside.size:
            raise AssertionError(
                f"{who} wrote beside {names}: {outside.size} bytes, the first at byte {outside[0] - inside.start} of "
                f"{self._host.size}."
            )
        if self._region.writable:
            self._host[:] = after[inside]
        elif changed.size:
            first = changed[0] - inside.start
            raise AssertionError(f"{who} changed {names}, which it declares const, at byte {first}.")


def _bytes_at(address: int, n_bytes: int) -> HostArray:
    if not n_bytes:
        return np.empty(0, np.uint8)
    memory: Any = (ctypes.c_ubyte * n_bytes).from_address(address)
    return np.frombuffer(memory, np.uint8)


def _on_device(argument: Argument, copies: list[_Copy]) -> Argument:
    """The argument with its array replaced by the bytes of its copy. What they mean the kernel knows by itself."""
    if not isinstance(argument.value, np.ndarray):
        return argument
    array = argument.value
    begin = array.ctypes.data
    copy = next(copy for copy in copies if copy.holds(argument))
    first = copy.first + begin - copy.begin
    return Argument(argument.parameter, copy.bytes[first : first + _extent(array)])


def _extent(array: HostArray) -> int:
    """Bytes from the first element to the end of the last."""
    if not array.size:
        return 0
    return sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize
