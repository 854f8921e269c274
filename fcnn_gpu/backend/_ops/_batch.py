"""Getting a batch out of a data set and results back, by positions that live in arrays."""

from __future__ import annotations

from ..._types import Array
from . import _numpy as np
from ._array import ArrayOps
from ._tape import every_step


class BatchOps(ArrayOps):
    @every_step
    def gather_rows(
        self, X: Array, order: Array, cursor: Array, out: Array, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        """out[j] = scale·X[order[cursor + j]] + shift, cast to out's dtype.

        X (n_samples, ...) C-ordered, out (batch, ...) C-ordered; order int64 (n_samples,), a permutation checked on
        the host; cursor int64 (1,). Rows of integers into integers (labels) are copied exactly, unscaled.
        """
        start = int(cursor[0])
        index = order[start : start + out.shape[0]]
        if X.dtype == out.dtype:
            X.take(index, 0, out, "clip")  # any other mode makes NumPy buffer the output
        else:
            rows = self.scratch("rows", out.size, X.dtype).reshape(out.shape)
            X.take(index, 0, rows, "clip")
            np.copyto(out, rows, casting="same_kind" if X.dtype.kind == out.dtype.kind else "unsafe")
        if scale != 1.0:
            np.multiply(out, scale, out=out)
        if shift != 0.0:
            np.add(out, shift, out=out)

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
        """All that begins a training pass: X, targets and weights of the batch at `cursor`, and what counts steps.

        `sources` and `outs` are (X, targets, weights or None), gathered as by `gather_rows`, X with scale and shift.
        counter int64 (1,) += 1, unless it is None. `rates` (table, position, rate), all three float64 but for the
        position, int64 (1,): rate takes the table's next number, the last again once it is at its end.
        """
        if counter is not None:
            self.advance(counter, 1)
        if rates is not None:
            self._take_next(*rates)
        for i, (source, out) in enumerate(zip(sources, outs, strict=True)):
            if source is not None:
                self.gather_rows(source, order, cursor, out, *((scale, shift) if i == 0 else ()))

    @every_step
    def _take_next(self, table: Array, position: Array, out: Array) -> None:
        """out[0] = table[position], position ← position + 1; the last number again once the table is at its end."""
        i = int(position[0])
        out[0] = table[min(i, table.size - 1)]
        position[0] = i + 1

    @every_step
    def store_rows(self, rows: Array, cursor: Array, out: Array) -> None:
        """out[cursor + j] = rows[j]: rows (batch, n) and out (n_samples, n) C-ordered, cursor int64 (1,)."""
        start = int(cursor[0])
        np.copyto(out[start : start + rows.shape[0]], rows)
