"""Arrays of other libraries: on the host, or in the memory of a CUDA device, asked without importing anybody.

DLPack goes before `__cuda_array_interface__`: it knows host from device for every library, and PyTorch's makes our
stream wait for the tensor's, which the interface of its version 2 does not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

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


def library_of(x: Any) -> str:
    """The name of an array's type with its library: "torch.Tensor", "jaxlib.ArrayImpl".

    >>> library_of(np.zeros(1))
    'numpy.ndarray'
    """
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"


def as_array(x: Any, what: str) -> HostArray:
    """`x` (an array, a list, a pandas object, a tensor) as a NumPy array, or an error that says what is wrong."""
    if hasattr(x, "tocsr"):
        raise TypeError(f"{what} must be dense, got the sparse {type(x).__name__}. Pass its toarray().")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(f"{what} has {np.ma.count_masked(x)} masked values. Remove or impute them.")
    try:
        return np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{what} cannot be made an array. Do all rows have the same length? ({error})") from error
    except (TypeError, RuntimeError, BufferError) as error:  # what the other library refuses to hand out
        raise TypeError(
            f"{what}, a {library_of(x)}, cannot be read as a NumPy array: {str(error).rstrip('.')}. Convert it first: "
            "X.detach() where it records gradients, X.float() where NumPy lacks its dtype."
        ) from error


class _Device(Protocol):
    def adopt(self, x: Any, what: str) -> Array | None: ...
    def to_numpy(self, x: Array) -> HostArray: ...


def on_host(ops: _Device, x: Any, what: str) -> Any:
    """`x` itself, or a copy on the host if it is an array on the device of `ops`."""
    array = ops.adopt(x, what)
    return x if array is None else ops.to_numpy(array)
