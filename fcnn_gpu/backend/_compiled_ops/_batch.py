"""Batches out of a data set."""

from __future__ import annotations

import numpy as np

from ..._types import Array
from ._array import SOURCES, CompiledArrays


class CompiledBatch(CompiledArrays):
    def gather_rows(
        self, X: Array, order: Array, cursor: Array, out: Array, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        copied = X.dtype == out.dtype and scale == 1.0 and shift == 0.0
        if not copied and (out.dtype.kind != "f" or out.itemsize < 4 or X.dtype.name not in SOURCES):
            super().gather_rows(X, order, cursor, out, scale, shift)
            return
        batch = out.shape[0]
        self._issue(
            "gather_rows",
            out.dtype if out.dtype.kind == "f" and out.itemsize >= 4 else np.float32,
            batch=batch,
            n=out.size // max(1, batch),
            row_bytes=X.nbytes // max(1, X.shape[0]),
            source=SOURCES.index("copied" if copied else X.dtype.name),
            scale=scale,
            shift=shift,
            X=X,
            order=order,
            cursor=cursor,
            out=out,
        )

    def _take_next(self, table: Array, position: Array, out: Array) -> None:
        self._issue("take_next", np.float64, n=table.size, table=table, position=position, out=out)

    def store_rows(self, rows: Array, cursor: Array, out: Array) -> None:
        if rows.dtype != out.dtype or not (rows.flags.c_contiguous and out.flags.c_contiguous):
            super().store_rows(rows, cursor, out)
            return
        batch = rows.shape[0]
        row_bytes = rows.nbytes // max(1, batch)
        self._issue("store_rows", np.float64, batch=batch, row_bytes=row_bytes, X=rows, cursor=cursor, out=out)
