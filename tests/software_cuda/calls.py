"""The software driver's functions through ctypes, without CuPy: for the driver's own tests."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from typing import Any

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
NON_BLOCKING = 1
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2

INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, OLD_DRIVER = 1, 2, 3, 35
NO_DEVICE, INVALID_DEVICE, INVALID_HANDLE, ILLEGAL_STATE, NOT_READY = 100, 101, 400, 401, 600
ILLEGAL_ADDRESS, LAUNCH_FAILURE, NOT_PERMITTED, NOT_SUPPORTED = 700, 719, 800, 801
UNSUPPORTED, INVALIDATED, MERGE, UNMATCHED, UNJOINED, ISOLATION, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = range(
    900, 909
)

HOST_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p)


class CudaError(Exception):
    """A call's status, other than success."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} gives {status}")
        self.status = status


class Memory:
    """Some bytes of the host or a device."""

    def __init__(self, address: int, n_bytes: int) -> None:
        self.address, self.n_bytes = address, n_bytes

    def write(self, value: int) -> None:
        """Every byte, by the host."""
        ctypes.memset(self.address, value, self.n_bytes)

    def bytes(self) -> bytes:
        return ctypes.string_at(self.address, self.n_bytes)

    def holds(self, value: int) -> bool:
        return self.bytes() == bytes([value]) * self.n_bytes


class Cuda:
    """The driver that SOFTWARE_CUDA_LIBRARIES names, loaded by the first use in this process."""

    def __init__(self) -> None:
        libraries = os.environ["SOFTWARE_CUDA_LIBRARIES"].split(os.pathsep)
        self.driver = ctypes.CDLL(libraries[0])
        self.nvrtc = ctypes.CDLL(next(path for path in libraries if "nvrtc" in path))
        self._kept: list[Any] = []

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.driver, name)(*arguments)
        if status:
            raise CudaError(name, status)

    def made(self, name: str, *arguments: Any) -> c_void_p:
        """What a function writes through its first argument."""
        out = c_void_p()
        self.call(name, byref(out), *arguments)
        return out

    # Memory

    def device(self, n_bytes: int = 4096) -> Memory:
        return Memory(self.made("cudaMalloc", c_size_t(n_bytes)).value or 0, n_bytes)

    def page_locked(self, n_bytes: int = 4096, value: int = 0) -> Memory:
        memory = Memory(self.made("cudaHostAlloc", c_size_t(n_bytes), c_uint(0)).value or 0, n_bytes)
        memory.write(value)
        return memory

    def pageable(self, n_bytes: int = 4096, value: int = 0) -> Memory:
        buffer = ctypes.create_string_buffer(n_bytes)
        self._kept.append(buffer)
        memory = Memory(ctypes.addressof(buffer), n_bytes)
        memory.write(value)
        return memory

    def copy(self, to: Memory, source: Memory, kind: int, stream: Any = None) -> None:
        """cudaMemcpyAsync"""
        self.call("cudaMemcpyAsync", c_void_p(to.address), c_void_p(source.address), c_size_t(to.n_bytes), kind, stream)

    def fill(self, memory: Memory, value: int, stream: Any = None) -> None:
        """cudaMemsetAsync"""
        self.call("cudaMemsetAsync", c_void_p(memory.address), value, c_size_t(memory.n_bytes), stream)

    def release(self, memory: Memory, name: str = "cudaFree") -> None:
        self.call(name, c_void_p(memory.address))

    # Streams and events

    def stream(self, flags: int = NON_BLOCKING) -> c_void_p:
        return self.made("cudaStreamCreateWithFlags", c_uint(flags))

    def recorded(self, stream: Any, event: c_void_p | None = None) -> c_void_p:
        event = event or self.made("cudaEventCreateWithFlags", c_uint(0))
        self.call("cudaEventRecord", event, stream)
        return event

    def waits(self, stream: Any, event: c_void_p) -> None:
        self.call("cudaStreamWaitEvent", stream, event, c_uint(0))

    def synchronize(self, stream: Any = None) -> None:
        self.call("cudaStreamSynchronize", stream)

    def host_function(self, stream: Any, function: Callable[[], object]) -> None:
        callback = HOST_FUNCTION(lambda _: function() and None)
        self._kept.append(callback)
        self.call("cudaLaunchHostFunc", stream, callback, None)

    def elapsed(self, start: c_void_p, end: c_void_p) -> float:
        milliseconds = c_float()
        self.call("cudaEventElapsedTime", byref(milliseconds), start, end)
        return milliseconds.value

    # Graphs

    def begin(self, stream: c_void_p, mode: int = RELAXED) -> None:
        self.call("cudaStreamBeginCapture", stream, mode)

    def end(self, stream: c_void_p) -> c_void_p:
        """The graph, ready to be launched."""
        graph = c_void_p()
        self.call("cudaStreamEndCapture", stream, byref(graph))
        return self.made("cudaGraphInstantiate", graph, ctypes.c_ulonglong(0))

    # Kernels

    def kernel(self, source: str, name: str) -> c_void_p:
        """A kernel that is declared extern "C", compiled and loaded."""
        program = c_void_p()
        self._compiler(
            "nvrtcCreateProgram", byref(program), c_char_p(source.encode()), c_char_p(b"test.cu"), 0, None, None
        )
        self._compiler("nvrtcCompileProgram", program, 1, (c_char_p * 1)(b"-arch=sm_80"))
        size = c_size_t()
        self._compiler("nvrtcGetCUBINSize", program, byref(size))
        image = ctypes.create_string_buffer(size.value)
        self._compiler("nvrtcGetCUBIN", program, image)
        module, function = c_void_p(), c_void_p()
        self.call("cuModuleLoadData", byref(module), image)
        self.call("cuModuleGetFunction", byref(function), module, c_char_p(name.encode()))
        return function

    def _compiler(self, name: str, *arguments: Any) -> None:
        status = getattr(self.nvrtc, name)(*arguments)
        if status:
            raise CudaError(name, status)

    def launch(self, kernel: c_void_p, memory: Memory, n: int, threads: int = 32, stream: Any = None) -> None:
        """kernel(n, pointer to memory) in one block."""
        values = (c_int(n), c_void_p(memory.address))
        pointers = (c_void_p * 2)(*(ctypes.addressof(value) for value in values))
        self.call("cuLaunchKernel", kernel, 1, 1, 1, threads, 1, 1, 0, stream, pointers, None)

    @property
    def fault(self) -> str:
        function = self.driver.software_cuda_fault
        function.restype = c_char_p
        return function().decode()


def status_of(function: Callable[..., object], *arguments: Any, **named: Any) -> int:
    """The status with which a call fails, or 0."""
    try:
        function(*arguments, **named)
    except CudaError as error:
        return error.status
    return 0
