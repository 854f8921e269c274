"""Arrays of other libraries: on the host, or in the memory of a CUDA device, asked without importing anybody.

DLPack goes before `__cuda_array_interface__`: it knows host from device for every library, and PyTorch's makes our
stream wait for the tensor's, which the interface of its version 2 does not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .._arrays import as_array as as_array
from .._arrays import library_of as library_of
from .._types import Array, HostArray

_DLPACK_CUDA = {2, 13}
"""kDLCUDA and kDLCUDAManaged. Pinned host memory, kDLCUDAHost (3), is the host's: NumPy reads it."""


def on_cuda(x: Any) -> bool:
    """Whether `x` is an array in CUDA memory: CuPy's, PyTorch's, JAX's, Numba's or any other's that says so."""
    if isinstance(x, np.ndarray):
        return False
    if getattr(type(x), "__dlpack_device__", None) is not None:
        try:
            return int(x.__dlpack_device__()[0]) in _DLPACK_CUDA
        except Exception:  # "meta" tensors, arrays over several devices, ...: what they are shows when they are read
            pass
    try:
        return getattr(x, "__cuda_array_interface__", None) is not None
    except Exception:  # PyTorch has it, but refuses to give it for a CUDA tensor that records gradients
        return True


class _Device(Protocol):
    def adopt(self, x: Any, what: str) -> Array | None: ...
    def to_numpy(self, x: Array) -> HostArray: ...


def on_host(ops: _Device, x: Any, what: str) -> Any:
    """`x` itself, or a copy on the host if it is an array on the device of `ops`."""
    array = ops.adopt(x, what)
    return x if array is None else ops.to_numpy(array)
