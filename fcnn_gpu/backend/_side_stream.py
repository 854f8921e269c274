"""A CUDA stream of its own for copies from and to page-locked memory, through CuPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._types import Array, HostArray
from ._ops._transfer import Mark
from ._queued_copies import QueuedCopies


class CudaSideStream(QueuedCopies):
    """A non-blocking stream: the default stream and it do not wait for each other but at marks, which are events.

    Args:
        cupy: the module.
        device: its `Device` that the stream belongs to.
    """

    def __init__(self, cupy: Any, device: Any) -> None:
        self._cuda = cupy.cuda
        self._device = device
        with device:
            self._stream = self._cuda.Stream(non_blocking=True)
        super().__init__(self._stream.synchronize)

    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        runtime = self._cuda.runtime
        try:
            with self._device:
                # Not from CuPy's pool, which would keep page-locked memory for good once the run is over.
                memory = self._cuda.PinnedMemory(n_bytes, runtime.hostAllocPortable)
        except runtime.CUDARuntimeError as error:
            raise MemoryError(
                f"{n_bytes:,} bytes of page-locked host memory, which data streams through, cannot be had: {error}. "
                "Free memory of the host, or pass a smaller memory_limit, which makes the chunks smaller."
            ) from error
        return np.frombuffer(self._cuda.PinnedMemoryPointer(memory, 0), np.uint8, n_bytes).view(dtype).reshape(shape)

    def _queue(self, host: HostArray, device: Array, arrives: bool) -> None:
        there, here, runtime = device.data.ptr, host.ctypes.data, self._cuda.runtime
        with self._device:
            if arrives:
                runtime.memcpyAsync(here, there, host.nbytes, runtime.memcpyDeviceToHost, self._stream.ptr)
            else:
                runtime.memcpyAsync(there, here, host.nbytes, runtime.memcpyHostToDevice, self._stream.ptr)

    def _record(self) -> Mark:
        with self._device:
            return self._recorded(self._stream)

    def record_compute(self) -> Mark:
        with self._device:
            return self._recorded(self._cuda.get_current_stream())

    def _recorded(self, stream: Any) -> Any:
        event = self._cuda.Event(block=True, disable_timing=True)  # who waits for it sleeps
        event.record(stream)
        return event

    def wait(self, mark: Mark) -> None:
        with self._device:
            self._stream.wait_event(mark)

    def compute_waits(self, mark: Mark) -> None:
        with self._device:
            self._cuda.get_current_stream().wait_event(mark)

    def _wait(self, mark: Mark) -> None:
        mark.synchronize()

    def _is_done(self, mark: Mark) -> bool:
        return bool(mark.done)
