"""Batches out of a data set and results back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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

    def gather_batch(
        self,
        sources: tuple[Array, Array, Array | None],
        order: Array,
        cursor: Array,
        outs: tuple[Array, Array, Array | None],
        counter: Array | None,
        scale: float = 1.0,
        shift: float = 0.0,
        rates: tuple[Array, Array, Array] | None = None,
    ) -> None:
        X, targets, weights = sources
        out, out_targets, out_weights = outs
        n_samples, n_features = X.shape
        batch, template = out.shape[0], (X.dtype, out.dtype)
        if X.dtype == out.dtype == np.int64:  # where sparse samples lie: the pass over inputs computes in floats
            self.gather_rows(X, order, cursor, out)
            X = out = None
            n_features, template = 0, (np.dtype(np.float32),) * 2
        table, position, rate = (None, None, None) if rates is None else rates
        words = [_words(x) for x in (targets, weights, out_targets, out_weights)]
        threads = thread_count(batch * n_features)
        if n_features % vector_width(*template) == 0:  # else rows begin between two 16-byte boundaries
            threads = vector_threads(batch * n_features, *template)
        sizes = [n_samples, n_features, *(0 if x is None else x.shape[1] for x in words[:2])]
        self._launcher.launch(
            "gather_batch",
            "gather_batch",
            template,
            [
                *sizes,
                order.size,
                0 if table is None else table.size,
                batch,
                scale,
                shift,
                X,
                *words[:2],
                order,
                cursor,
                table,
                out,
                *words[2:],
                counter,
                position,
                rate,
            ],
            threads=max(1, threads),
        )

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


def _words(x: Array | None) -> Array | None:
    """Rows of 4- or 8-byte elements as rows of 32-bit words."""
    return None if x is None else x.reshape(len(x), math.prod(x.shape[1:])).view(np.uint32)
