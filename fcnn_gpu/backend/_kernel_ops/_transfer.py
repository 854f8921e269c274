"""A second stream of the device, and its free memory."""

from __future__ import annotations

from .._ops._transfer import SideStream
from ._device import DeviceOps


class TransferKernels(DeviceOps):
    def side_stream(self) -> SideStream:
        return self._runtime.side_stream()

    def free_memory(self) -> int | None:
        return self._runtime.free_memory()

    @property
    def page_locked_bytes(self) -> int:
        return self._runtime.page_locked_bytes

    def release_memory(self) -> None:
        super().release_memory()
        self._runtime.release_memory()
