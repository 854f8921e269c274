"""What comes from other libraries: arrays that lie on a device already, and the check of their numbers there."""

from __future__ import annotations

from typing import Any

from ..._arrays import surely_finite
from ..._types import Array
from .._interchange import library_of, on_cuda
from . import _numpy as np
from ._array import BLOCK, ArrayOps


class InterchangeOps(ArrayOps):
    def adopt(self, x: Any, what: str) -> Array | None:
        """`x` as an array of this device, without a copy, if it lies in CUDA memory; None if it lies on the host.

        `x` is an array of any library with DLPack or `__cuda_array_interface__`; dtype, shape and strides stay. Work
        that its library has queued on it comes first. `what` is its name in errors: TypeError where this backend cannot
        use it, ValueError if it lies on another device.
        """
        if on_cuda(x):
            raise TypeError(
                f"{what}, a {library_of(x)}, lies on a CUDA device, and this model computes on the CPU. Build the "
                "model with backend='cupy', or pass a copy on the host: X.get() of CuPy, X.cpu() of PyTorch, "
                "numpy.asarray(X) of JAX."
            )
        return None

    def count_nonfinite(self, x: Array, count: Array) -> None:
        """count += the number of elements of `x` that are NaN or infinite; count int64 (1,), x contiguous."""
        flat = x.reshape(-1, order="A")
        for start in range(0, flat.size, BLOCK):
            block = flat[start : start + BLOCK]
            if not surely_finite(block):
                np.add(count, block.size - np.count_nonzero(np.isfinite(block)), out=count)
