"""Products with sparse samples."""

from __future__ import annotations

from typing import Any

from ..._types import Array
from .._ops import SparseColumns
from ._device import WARP, DeviceOps

_WARPS_PER_SAMPLE = 16
"""That take turns at the numbers of a sample (sparse.cu)."""


class SparseKernels(DeviceOps):
    def sparse_product(self, W: Array, A0: SparseColumns, out: Array, gain: float = 1.0) -> None:
        arguments = [*_sizes(W, A0, gain), W, *_places(A0), out]
        self._launcher.launch("sparse", "sparse_product", (out.dtype,), arguments, threads=out.size)

    def sparse_gradient(
        self, dZ: Array, A0: SparseColumns, dW: Array, gain: float = 1.0, add_to_dW: bool = False
    ) -> None:
        if not add_to_dW:
            self.fill(dW, 0.0)
        arguments = [*_sizes(dW, A0, gain), dZ, *_places(A0), dW]
        threads = len(A0.samples) * _WARPS_PER_SAMPLE * WARP
        self._launcher.launch("sparse", "sparse_gradient", (dZ.dtype,), arguments, threads=threads)


def _sizes(W: Array, A0: SparseColumns, gain: float) -> list[Any]:
    rows = A0.samples
    return [*W.shape, len(rows), rows.values.size, gain * rows.scale]


def _places(A0: SparseColumns) -> list[Array]:
    return [A0.samples.extents, A0.samples.columns, A0.samples.values]
