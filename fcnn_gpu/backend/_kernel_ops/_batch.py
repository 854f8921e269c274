"""Batches out of a data set and results back."""

from __future__ import annotations

import math
from typing import Any

from ..._types import Array
from ._device import DeviceOps, thread_count, vector_threads, vector_width


class BatchKernels(DeviceOps):
    def gather_rows(
        self, X: Array, order: Array, cursor: Array, out: Array, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        n_samples, batch = X.shape[0], out.shape[0]
        n_columns = math.prod(X.shape[1:])
        arrays = [X.reshape(n_samples, n_columns), order, cursor, out.reshape(batch, n_columns)]
        sizes: list[Any] = [n_samples, n_columns, order.size, batch]
        threads = thread_count(out.size)
        if n_columns % vector_width(X.dtype, out.dtype) == 0:  # else rows begin between two 16-byte boundaries
            threads = vector_threads(out.size, X.dtype, out.dtype)
        if X.dtype == out.dtype and scale == 1.0 and shift == 0.0:
            self._launcher.launch("gather", "gather_rows", (X.dtype,), [*sizes, *arrays], threads=threads)
        else:
            arguments = [*sizes, scale, shift, *arrays]
            template = (X.dtype, out.dtype)
            self._launcher.launch("gather", "gather_rows_scaled", template, arguments, threads=threads)

    def take_next(self, table: Array, position: Array, out: Array) -> None:
        arguments = [table.size, table, position, out]
        self._launcher.launch("take_next", "take_next", (table.dtype,), arguments, threads=1)

    def store_rows(self, rows: Array, cursor: Array, out: Array) -> None:
        batch, n_samples = rows.shape[0], out.shape[0]
        n_columns = math.prod(out.shape[1:])
        self._launcher.launch(
            "store_rows",
            "store_rows",
            (rows.dtype, out.dtype),
            [
                batch,
                n_columns,
                n_samples,
                cursor,
                rows.reshape(batch, n_columns),
                out.reshape(n_samples, n_columns),
            ],
            threads=vector_threads(rows.size, rows.dtype, out.dtype),
        )
