"""CuPy as the device under `KernelOps`: memory, copies, streams and the current device."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .._types import Array, HostArray
from ._cublas import CublasProducts, load_cublas
from ._errors import BackendError
from ._interchange import on_cuda
from ._kernel_ops import KernelOps
from ._kernel_ops._device import native
from ._kernels import CudaDevice, Launcher
from ._probe import failing_link, probe_links
from ._side_stream import CudaSideStream
from ._staging import CudaTransfers, Staging
from ._threads import LentToThreads

_NEGLIGIBLE = 64
"""Blocks that the pool keeps count as free from this part of the rest on: then they are given back first."""

Method = TypeVar("Method", bound=Callable[..., Any])


class CupyRuntime:
    """CuPy on one device."""

    def __init__(self, cupy: Any, device: int) -> None:
        self.xp = cupy
        self.name = f"cupy:{device}"
        self.number = device
        self._device = cupy.cuda.Device(device)
        self._current: Callable[[], int] = cupy.cuda.runtime.getDevice
        self._recording = threading.local()
        self._staging = Staging(CudaTransfers(cupy))
        # Of each thread that records, for good: its cuBLAS handle goes on naming the stream that it recorded on last.
        self._capture_streams = LentToThreads[Any](lambda: cupy.cuda.Stream(non_blocking=True))

    def is_current(self) -> bool:
        return self._current() == self.number

    def activate(self) -> Any:
        return self._device

    def is_device_array(self, x: Any) -> bool:
        return isinstance(x, self.xp.ndarray) or on_cuda(x)

    @property
    def page_locked_bytes(self) -> int:
        return self._staging.n_bytes

    def to_device(self, x: Any, dtype: Any = None) -> Array:
        if isinstance(x, self.xp.ndarray):
            return self.xp.asarray(x)  # from another device, too
        if on_cuda(x):
            return self.adopt(x)[0]
        host = np.asarray(x)
        wanted = native(host.dtype if dtype is None else dtype)
        if host.flags.f_contiguous and not host.flags.c_contiguous:
            out = self.xp.empty(host.shape[::-1], wanted).T
        else:
            out = self.xp.empty(host.shape, wanted)
        self.upload(host, out)
        return out

    def upload(self, x: HostArray, out: Array) -> None:
        if self.is_recording():
            raise RuntimeError(
                f"A host array of shape {x.shape} was to be copied to the device while a CUDA graph was being "
                "recorded: the graph would copy anew each time, from memory that holds something else by then. Copy it "
                "before."
            )
        self._staging.copy(x, out)

    def adopt(self, x: Any) -> tuple[Array, int]:
        if isinstance(x, self.xp.ndarray):
            array = x
        elif hasattr(type(x), "__dlpack_device__"):
            array = self.xp.from_dlpack(x)  # the current stream waits for the producer's
        else:
            array = self.xp.asarray(x)  # waits for the stream that the interface names
        return array, int(array.device.id)

    def to_host(self, x: Array) -> HostArray:
        return self.xp.asnumpy(x, order="A")

    def copy(self, x: Array, out: Array) -> None:
        if out.size:
            out.data.copy_from_device_async(x.data, out.nbytes)

    def synchronize(self) -> None:
        # Not the device: waiting for all its streams breaks off a graph that another thread is recording on one.
        with self._device:
            self.xp.cuda.get_current_stream().synchronize()

    def side_stream(self) -> CudaSideStream:
        return CudaSideStream(self.xp, self._device)

    def free_memory(self) -> int:
        pool = self.xp.get_default_memory_pool()
        with self._device:
            free = self._unallocated()
            # What the pool keeps lies in pieces, some beside arrays that live: only what goes back to the device can be
            # had in one piece. Where that is little it stays, because giving back waits for the device.
            if pool.free_bytes() > free // _NEGLIGIBLE and not self.is_recording():
                pool.free_all_blocks()
                free = self._unallocated()
            return free

    def _unallocated(self) -> int:
        """Bytes that neither the pool has nor anybody else, as far as the pool's limit allows."""
        pool = self.xp.get_default_memory_pool()
        free, limit = int(self.xp.cuda.runtime.memGetInfo()[0]), int(pool.get_limit())
        return min(free, max(0, limit - int(pool.total_bytes()))) if limit else free

    def release_memory(self) -> None:
        with self._device:
            self._staging.release()
            self.xp.get_default_memory_pool().free_all_blocks()

    def stopwatch(self) -> Callable[[], float]:
        cuda = self.xp.cuda
        stream = cuda.get_current_stream()  # of this device: the caller has activated it
        start = cuda.Event()
        start.record(stream)

        def seconds() -> float:
            with self._device:
                end = cuda.Event()
                end.record(stream)
                end.synchronize()
                return 1e-3 * float(cuda.get_elapsed_time(start, end))

        return seconds

    def stream_address(self) -> int:
        return int(self.xp.cuda.get_current_stream().ptr)

    def current_stream(self) -> Any:
        return self.xp.cuda.get_current_stream()

    def allocate(self, n_bytes: int) -> Array:
        return self.xp.empty(n_bytes, "uint8")  # CuPy's memory begins at multiples of 512

    def address(self, x: Array) -> int:
        return int(x.data.ptr)

    def hardware(self) -> str:
        name: bytes = self.xp.cuda.runtime.getDeviceProperties(self.number)["name"]
        return name.decode()

    def compute_capability(self) -> int:
        return int(self._device.compute_capability)

    def is_recording(self) -> bool:
        return getattr(self._recording, "active", False)

    def record(self, fn: Callable[[], None]) -> Callable[[], None]:
        cuda = self.xp.cuda
        with self._device:
            stream = self._capture_streams.current()  # the default stream cannot be captured
            with stream, _refusing_allocations(cuda):
                try:
                    stream.begin_capture()
                    self._recording.active = True
                    fn()
                    graph = stream.end_capture()
                except BaseException:  # Ctrl-C at any place: the stream is this thread's for good
                    with contextlib.suppress(cuda.runtime.CUDARuntimeError):  # it may have ended by the error itself
                        stream.end_capture()
                    raise
                finally:
                    self._recording.active = False

        def launch() -> None:
            if self.is_current():
                graph.launch(cuda.get_current_stream())
            else:
                with self._device:
                    graph.launch(cuda.get_current_stream())

        return launch

    def describe(self) -> str:
        properties = self.xp.cuda.runtime.getDeviceProperties(self.number)
        gib = properties["totalGlobalMem"] / 2**30
        return f"{properties['name'].decode()} (device {self.number}, {gib:.0f} GiB, CuPy {self.xp.__version__})"


def _refusing_allocations(cuda: Any) -> Any:
    """Within, in this thread, an allocation of device memory raises RuntimeError."""

    class Refusing(cuda.MemoryHook):
        name = "fcnn_gpu: no allocation while a graph is recorded"

        def malloc_preprocess(self, device_id: int, size: int, mem_size: int) -> None:
            raise RuntimeError(
                f"{size} bytes of device memory were asked for while a CUDA graph was being recorded; the graph would "
                "go on using them after others have got them. Allocate before, or train with capture=False."
            )

    return Refusing()


def _on_device(method: Method) -> Method:
    """`method`, run while the ops' own device is the current one: threads and other models may have switched it."""

    @functools.wraps(method)
    def call(self: CupyOps, *args: Any, **kwargs: Any) -> Any:
        if self._runtime.is_current():
            return method(self, *args, **kwargs)
        with self._runtime.activate():
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class CupyOps(KernelOps):
    """All primitives on one CUDA device. `make_cupy_ops` makes one after probing the device.

    Every public method runs on the device that the runtime was made for, whichever is current in the calling thread.
    """


def _bind_device(cls: type[CupyOps]) -> None:
    """Let every public method of `cls` that touches the device, inherited ones included, run on its own device."""
    for name in dir(cls):
        method = getattr(cls, name)
        if callable(method) and not name.startswith("_") and name not in ("describe", "capture"):
            setattr(cls, name, _on_device(method))


_bind_device(CupyOps)


def make_cupy_ops(device: int) -> CupyOps:
    """The primitives on CUDA device number `device`.

    Probes the device from the package to a kernel's answer. Raises BackendError with one line that names the first
    link that fails and what mends it.
    """
    failed = failing_link(probe_links(device))
    if failed is not None:
        raise BackendError(failed.sentence())

    import cupy

    runtime = CupyRuntime(cupy, device)
    library = load_cublas(cupy.cuda.runtime.runtimeGetVersion() // 1000)
    return CupyOps(runtime, Launcher(CudaDevice(cupy)), CublasProducts(library, runtime))
