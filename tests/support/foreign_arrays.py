"""Stand-ins for CUDA arrays of other libraries, in the memory of the CPU that plays the device (emulated.py)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fcnn_gpu._types import HostArray


class DlpackTensor:
    """A CUDA tensor with both protocols, like PyTorch's: DLPack, and the interface in version 2, without a stream."""

    def __init__(self, memory: HostArray, device: int = 0, kind: int = 2, refuses: str = "", versioned: bool = True):
        self.memory, self._device, self._kind, self._refuses, self._versioned = memory, device, kind, refuses, versioned
        self.asked: list[dict[str, Any]] = []
        """The arguments of each export."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.memory.shape

    def __len__(self) -> int:
        return len(self.memory)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, self._device

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        if not self._versioned and options:
            raise TypeError("__dlpack__() got an unexpected keyword argument")
        self.asked.append({"stream": stream, **options})
        if self._refuses:
            raise BufferError(self._refuses)
        return self.memory.__dlpack__(**options)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self._refuses:
            raise RuntimeError(self._refuses)
        return interface(self.memory) | {"version": 2}

    def __array__(self, *args: Any, **options: Any) -> HostArray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")


class InterfaceArray:
    """A CUDA array with `__cuda_array_interface__` alone, like Numba's, in version 3: `stream` was used last."""

    def __init__(self, memory: HostArray, stream: int | None = 7, **changes: Any) -> None:
        self.memory, self._extra = memory, {"stream": stream, **changes}

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return interface(self.memory) | self._extra


def interface(memory: HostArray) -> dict[str, Any]:
    return {
        "shape": memory.shape,
        "typestr": memory.dtype.str,
        "data": (memory.ctypes.data, False),
        "strides": None if memory.flags.c_contiguous else memory.strides,
        "version": 3,
    }


class _OnCpu:
    """What NumPy takes a DLPack capsule from."""

    def __init__(self, tensor: Any, options: dict[str, Any]) -> None:
        self._tensor, self._options = tensor, options

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor.__dlpack__(**self._options)


def from_dlpack(tensor: Any, stream: int) -> tuple[HostArray, int]:
    """As `cupy.from_dlpack`: (the tensor's memory, the number of its device); it waits on our `stream`."""
    try:
        array = np.from_dlpack(_OnCpu(tensor, {"stream": stream, "max_version": (1, 0), "copy": None}))
    except TypeError:
        array = np.from_dlpack(_OnCpu(tensor, {"stream": stream}))
    return array, int(tensor.__dlpack_device__()[1])


def from_interface(x: Any) -> tuple[HostArray, int | None]:
    """As `cupy.asarray` of a foreign array: (its memory, the stream that is waited for)."""
    described = x.__cuda_array_interface__
    if described.get("mask") is not None:
        raise ValueError("CuPy currently does not support masked arrays.")
    dtype = np.dtype(described["typestr"])
    shape, strides = described["shape"], described.get("strides")
    size = int(np.prod(shape)) if strides is None else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    n_bytes = size * dtype.itemsize if strides is None else size - 1 + dtype.itemsize
    memory = (ctypes.c_char * n_bytes).from_address(described["data"][0])
    memory._owner = x  # as CuPy's unowned memory keeps the object that it belongs to
    return np.ndarray(shape, dtype, memory, strides=strides), described.get("stream")
