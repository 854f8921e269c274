"""Arrays of other libraries on the device, and the check of their numbers there."""

from __future__ import annotations

from typing import Any

from ..._types import Array
from .._interchange import library_of, on_cuda
from ._device import DeviceOps, thread_count


class InterchangeKernels(DeviceOps):
    def adopt(self, x: Any, what: str) -> Array | None:
        if not (self._runtime.is_device_array(x) or on_cuda(x)):
            return None
        try:
            array, device = self._runtime.adopt(x)
        except (TypeError, ValueError, RuntimeError, BufferError, AttributeError) as error:  # NotImplementedError, too
            raise TypeError(
                f"{what}, a {library_of(x)} on a CUDA device, cannot be used in place: {error} Convert it first: "
                "X.detach() where it records gradients, X.float() where CuPy lacks its dtype, a dense copy where it is "
                "sparse."
            ) from error
        if device != self._runtime.number:
            raise ValueError(
                f"{what} lies on CUDA device {device}, the model on device {self._runtime.number}. Move it there, or "
                f"build the model with backend='cupy:{device}'."
            )
        return array

    def count_nonfinite(self, x: Array, count: Array) -> None:
        self._launcher.launch(
            "count_nonfinite", "count_nonfinite", (x.dtype,), [x.size, x, count], threads=thread_count(x.size)
        )
