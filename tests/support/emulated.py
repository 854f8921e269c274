"""`CupyOps` on a machine without a GPU: the same launches, with each kernel's text executed on the CPU.

`DeviceArray` stands for a CuPy array. It refuses what CuPy arrays lack or what would quietly leave the device: NumPy
functions and operators on it (a primitive must launch a kernel instead), and turning it into a Python number. The
matrix products go through the package's binding of cuBLAS into a library of the same functions that computes on the
CPU (tests/cublas_on_cpu).

A graph is a list of what would have been queued, in order: while one is recorded nothing is executed, and what a CUDA
stream capture forbids (allocating, copying from or to the host, waiting) is an error.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._cublas import CublasProducts
from fcnn_gpu.backend._cupy import CupyOps
from fcnn_gpu.backend._kernel_ops._device import WARP, native
from fcnn_gpu.backend._kernel_source import Instance, Kernel
from fcnn_gpu.backend._kernels import Argument, Launcher
from fcnn_gpu.backend._staging import Staging
from tests.cublas_on_cpu import cublas_on_cpu
from tests.cuda_on_cpu import HostDevice
from tests.support.foreign_arrays import from_dlpack, from_interface
from tests.support.late_copies import ComputeClock, LateSideStream, compute_begins

STAGING_BYTES = 2**16  # of a buffer: larger arrays go in several pieces
CURRENT_STREAM = 1  # what CuPy passes on for the default stream


class CaptureFault(Exception):
    """Something that a CUDA stream capture does not allow happened within one."""


class _Recording(threading.local):
    graph: list[Callable[[], object]] | None = None


_recording = _Recording()


def queued(work: Callable[[], object]) -> None:
    """Do `work` as the device would: now, or, while this thread records a graph, when that is launched."""
    if _recording.graph is None:
        compute_begins()
        work()
    else:
        _recording.graph.append(work)


def recorded(fn: Callable[[], None]) -> list[Callable[[], object]]:
    """What `fn` queues, in order, none of it done."""
    assert _recording.graph is None
    graph: list[Callable[[], object]] = []
    _recording.graph = graph
    try:
        fn()
    finally:
        _recording.graph = None
    return graph


def forbidden_in_capture(what: str) -> None:
    if _recording.graph is not None:
        raise CaptureFault(f"{what} while a graph was being recorded.")


class DeviceArray(np.ndarray[Any, Any]):
    """An array that only kernels and the emulated library may look into."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        raise TypeError(f"np.{ufunc.__name__} was called on a device array: launch a kernel instead.")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"np.{func.__name__} was called on a device array: launch a kernel instead.")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.view(np.ndarray).__array_interface__, "version": 3, "stream": None}

    def __float__(self) -> float:
        raise TypeError("A device array was turned into a float: that waits for the device.")

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)) and self.ndim == 1:
            raise TypeError("An element of a device array was read on the host: that waits for the device.")
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray):
            raise TypeError("A host array was assigned to a device array: CuPy refuses that.")
        target = super().__getitem__(key) if key is not Ellipsis else self
        queued(partial(np.copyto, on_host(target), on_host(value) if isinstance(value, np.ndarray) else value))

    def fill(self, value: Any) -> None:
        queued(partial(on_host(self).fill, value))

    def copy(self, order: Any = "C") -> Any:
        forbidden_in_capture("An array was copied into new memory")
        compute_begins()
        return super().copy(order)


def on_host(x: Array) -> HostArray:
    """The memory of a device array as a plain NumPy array."""
    return x.view(np.ndarray) if isinstance(x, DeviceArray) else np.asarray(x)


class _Library:
    """The few functions of `cupy` that primitives use, on `DeviceArray`."""

    def __init__(self, clock: ComputeClock) -> None:
        self._clock = clock

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        forbidden_in_capture("Device memory was allocated")
        out = np.empty(shape, dtype)
        out.reshape(-1).view(np.uint8)[:] = 0xFF  # what a fresh device array holds is nobody's zero
        self._clock.allocated(out)
        return out.view(DeviceArray)

    def zeros(self, shape: Any, dtype: Any) -> DeviceArray:
        forbidden_in_capture("Device memory was allocated")
        out = np.zeros(shape, dtype)
        self._clock.allocated(out)
        return out.view(DeviceArray)

    def ones(self, shape: Any, dtype: Any) -> DeviceArray:
        forbidden_in_capture("Device memory was allocated")
        out = np.ones(shape, dtype)
        self._clock.allocated(out)
        return out.view(DeviceArray)

    def ascontiguousarray(self, x: Array, dtype: Any = None) -> DeviceArray:
        forbidden_in_capture("Device memory was allocated")
        compute_begins()
        with np.errstate(over="ignore"):  # a device warns of nothing
            return np.ascontiguousarray(on_host(x), dtype).view(DeviceArray)


class EmulatedTransfers:
    """Copies that are done when they are queued: the emulated kernels behind them run at once."""

    def page_locked(self, n_bytes: int) -> HostArray:
        return np.empty(n_bytes, np.uint8)

    def queue(self, source: HostArray, out: Array, offset: int) -> None:
        out.view(np.ndarray).reshape(-1).view(np.uint8)[offset : offset + source.size] = source

    def stream(self) -> object:
        return self

    def mark(self, earlier: object) -> object:
        return earlier

    def wait(self, mark: object) -> None:
        pass

    def wait_for_all(self) -> None:
        pass


class EmulatedRuntime:
    """The counterpart of `CupyRuntime`; `current` is the device that calls of this process go to."""

    current: ClassVar[int] = 0

    def __init__(self, device: int = 0) -> None:
        self.number = device
        self.streams_waited_for: list[int | None] = []
        self.name = f"cupy:{device}"
        self.switches = 0
        self.released = 0
        self.graph_sizes: list[int] = []
        self.clock = ComputeClock()
        self.xp: Any = _Library(self.clock)
        self.free = 2**40
        """What `free_memory` answers."""
        self.launches = 0
        self.staging = Staging(EmulatedTransfers(), STAGING_BYTES)
        self.page_locked_bytes = self.staging.n_bytes

    def is_current(self) -> bool:
        return EmulatedRuntime.current == self.number

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        before, EmulatedRuntime.current = EmulatedRuntime.current, self.number
        self.switches += 1
        try:
            yield
        finally:
            EmulatedRuntime.current = before

    def is_device_array(self, x: Any) -> bool:
        return isinstance(x, DeviceArray)

    def to_device(self, x: Any, dtype: Any = None) -> Array:
        if isinstance(x, DeviceArray):
            return x
        host = np.asarray(x)
        is_f = host.flags.f_contiguous and not host.flags.c_contiguous
        out = self.xp.empty(host.shape[::-1] if is_f else host.shape, native(dtype or host.dtype))
        self.upload(host, out.T if is_f else out)
        return out.T if is_f else out

    def upload(self, x: HostArray, out: Array) -> None:
        forbidden_in_capture("A host array was copied to the device")
        self.staging.copy(x, out)

    def adopt(self, x: Any) -> tuple[Array, int]:
        if isinstance(x, DeviceArray):
            return x, self.number
        if hasattr(type(x), "__dlpack_device__"):
            memory, device = from_dlpack(x, CURRENT_STREAM)
            return memory.view(DeviceArray), device
        memory, stream = from_interface(x)
        self.streams_waited_for.append(stream)
        return memory.view(DeviceArray), self.number

    def to_host(self, x: Array) -> HostArray:
        forbidden_in_capture("A device array was copied to the host")
        self.clock.host_waits()
        return np.array(on_host(x), order="A")

    def copy(self, x: Array, out: Array) -> None:
        assert (x.dtype, x.shape) == (out.dtype, out.shape)
        assert (x.flags.c_contiguous and out.flags.c_contiguous) or (x.flags.f_contiguous and out.flags.f_contiguous)
        queued(partial(np.copyto, on_host(out), on_host(x)))

    def synchronize(self) -> None:
        forbidden_in_capture("The device was waited for")
        self.clock.host_waits()  # a kernel on the CPU has ended when its launch returns

    def stream_address(self) -> int:
        return 0 if _recording.graph is None else 7  # a graph is recorded on a stream of its own

    def current_stream(self) -> object:
        return self.stream_address()

    def allocate(self, n_bytes: int) -> Array:
        memory: Array = self.xp.empty(n_bytes + 256, np.uint8)
        return memory[-memory.ctypes.data % 256 :][:n_bytes]

    def address(self, x: Array) -> int:
        return int(x.ctypes.data)

    def hardware(self) -> str:
        return "CPU"

    def compute_capability(self) -> int:
        return 80

    def is_recording(self) -> bool:
        return _recording.graph is not None

    def record(self, fn: Callable[[], None]) -> Callable[[], None]:
        graph = recorded(fn)
        self.graph_sizes.append(len(graph))

        def launch() -> None:
            self.launches += 1
            compute_begins()
            for work in graph:
                work()

        return launch

    def side_stream(self) -> LateSideStream:
        return LateSideStream(self.clock, on_host)

    def free_memory(self) -> int:
        return self.free

    def release_memory(self) -> None:
        self.released += 1

    def stopwatch(self) -> Callable[[], float]:
        forbidden_in_capture("A stopwatch was started")
        start = time.perf_counter()
        return lambda: time.perf_counter() - start

    def describe(self) -> str:
        return "CUDA kernels executed on the CPU"


_WATCHED = 2
"""Launches of one kernel on arrays of the same shapes that are watched for data races."""


class QueueingDevice(HostDevice):
    """Kernels executed on the CPU: at once, or, while a graph is recorded, whenever it is launched."""

    def __init__(self, clock: ComputeClock) -> None:
        super().__init__()
        self._clock = clock
        self._n_launches: dict[Any, int] = {}

    def run(
        self,
        kernel: Kernel,
        instance: Instance,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        launch = partial(super().run, kernel, instance, grid, block, shared, list(arguments))
        queued(partial(self._execute, launch, [a.value for a in arguments if isinstance(a.value, DeviceArray)]))

    def _looks_for_races(self, instance: Instance, grid: int, block: int, arguments: Sequence[Argument]) -> bool:
        """The first launches of their shapes are watched: in the next ones the same threads do the same in the same
        order, and watching takes longer than all else. Tests of the kernels watch every launch."""
        shapes = tuple((a.value.shape, a.value.strides) for a in arguments if isinstance(a.value, np.ndarray))
        key = instance.expression, grid, block, shapes
        self._n_launches[key] = n = self._n_launches.get(key, 0) + 1
        return self.check_races and n <= _WATCHED

    def _execute(self, launch: Callable[[], None], arrays: list[DeviceArray]) -> None:
        launch()
        self._clock.kernel_ran(arrays)


class SmallBlocks(Launcher):
    """Launches blocks of two warps where a kernel takes any size. A block takes as long on the CPU as it has threads,
    most of which have nothing to do in networks as small as the tests'; tests of the kernels have blocks of every size.
    """

    def _block(self, where: str, kernel: Kernel, asked: int | None) -> int:
        return kernel.block or min(super()._block(where, kernel, asked), 2 * WARP)


class NotedProducts(CublasProducts):
    """Products by `gemm`, of whose matrices the clock hears, as it does of the kernels'."""

    clock: ComputeClock

    def gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        super().gemm(A, B, out, alpha, beta)
        queued(partial(self.clock.kernel_ran, [A, B, out]))

    def gemm_batched(self, A: Array, B: Array, out: Array, *options: Any) -> None:
        super().gemm_batched(A, B, out, *options)
        queued(partial(self.clock.kernel_ran, [A, B, out]))


def make_emulated_ops(device: int = 0, **launcher_options: Any) -> CupyOps:
    """`CupyOps` whose device is this CPU."""
    runtime = EmulatedRuntime(device)
    kernels = QueueingDevice(runtime.clock)
    kernels.array_type = DeviceArray  # a host array in a launch is an error, as on a GPU
    products = NotedProducts(cublas_on_cpu(queued), runtime)
    products.clock = runtime.clock
    return CupyOps(runtime, SmallBlocks(kernels, **launcher_options), products)
