"""Products with sparse samples: forward by samples, gradients by the columns of the weights."""

from __future__ import annotations

from ..._types import Array
from .._ops import SparseColumns
from ._array import CompiledArrays


class CompiledSparse(CompiledArrays):
    def sparse_product(self, W: Array, A0: SparseColumns, out: Array, gain: float = 1.0) -> None:
        rows = A0.samples
        self._issue(
            "sparse_product",
            out.dtype,
            batch=len(rows),
            n=out.shape[0],
            scale=gain * rows.scale,
            W=W,
            extents=rows.extents,
            columns=rows.columns,
            values=rows.values,
            out=out,
        )

    def sparse_gradient(
        self, dZ: Array, A0: SparseColumns, dW: Array, gain: float = 1.0, add_to_dW: bool = False
    ) -> None:
        rows = A0.samples
        self._issue(
            "sparse_gradient",
            dW.dtype,
            batch=len(rows),
            n=dW.shape[0],
            n_in=rows.n_in,
            accumulate=add_to_dW,
            scale=gain * rows.scale,
            dZ=dZ,
            extents=rows.extents,
            columns=rows.columns,
            values=rows.values,
            unsound=None,
            dW=dW,
        )
