"""Sparse samples, rows of which the numbers other than 0 are kept, and the products of a first layer with them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..._types import Array, HostArray
from . import _numpy as np
from ._array import ArrayOps
from ._tape import every_step


@dataclass(frozen=True)
class SparseRows:
    """X (n_samples, n_in), of which the numbers other than 0 are kept, row by row: `values`, and their `columns`.

    Row j has the places extents[j, 0] ... extents[j, 1] − 1 of both, its columns ascending and none of them twice. So
    other rows of the same numbers, those of a batch, are other extents, and no number moves. values (n_values,) are
    of the model's dtype, columns (n_values,) int32, extents (n_samples, 2) int64, all of one device. A value stands for
    scale·value.
    """

    values: Array
    columns: Array
    extents: Array
    n_in: int
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.extents)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.extents), self.n_in

    @property
    def T(self) -> SparseColumns:
        """The same with samples as columns."""
        return SparseColumns(self)

    @property
    def nbytes(self) -> int:
        """Of the three arrays."""
        return int(sum(array.nbytes for array in self.arrays()))

    def arrays(self) -> tuple[Array, Array, Array]:
        """The three."""
        return self.values, self.columns, self.extents

    def __getitem__(self, rows: slice | HostArray) -> SparseRows:
        """These rows, of the same numbers."""
        return self.at(self.extents[rows])

    def at(self, extents: Array) -> SparseRows:
        """The rows that lie there, of the same numbers."""
        return dataclasses.replace(self, extents=extents)

    def packed(self) -> SparseRows:
        """The same rows, of the host, with no other numbers than theirs, in their order."""
        extents = self.extents
        lengths = extents[:, 1] - extents[:, 0]
        ends = np.cumsum(lengths)
        places: Any
        if (extents[1:, 0] == extents[:-1, 1]).all():  # they lie so already
            places = slice(int(extents[0, 0]), int(extents[-1, 1])) if len(extents) else slice(0)
        else:
            places = np.repeat(extents[:, 0] - (ends - lengths), lengths) + np.arange(int(ends[-1]))
        now = np.stack([ends - lengths, ends], axis=1)
        return SparseRows(self.values[places], self.columns[places], now, self.n_in, self.scale)

    def on(self, ops: ArrayOps) -> SparseRows:
        """These rows of the host on the device of `ops`; on the host itself the same arrays."""
        rows = self.packed() if ops.asynchronous else self
        values, columns, extents = (ops.asarray(array) for array in rows.arrays())
        return SparseRows(values, columns, extents, self.n_in, self.scale)


@dataclass(frozen=True)
class SparseColumns:
    """A₀ (n_in, batch), sparse, which a first layer takes in the place of a matrix: its columns are `samples`' rows."""

    samples: SparseRows

    @property
    def shape(self) -> tuple[int, int]:
        return self.samples.n_in, len(self.samples)


class SparseOps(ArrayOps):
    @every_step
    def sparse_product(self, W: Array, A0: SparseColumns, out: Array, gain: float = 1.0) -> None:
        """out = gain·W·A₀: of each sample Σ_p gain·value_p·W[:, column_p], in the order of its columns.

        W (n_out, n_in) and out (n_out, batch) F-ordered: the sums are of contiguous columns. NumPy's allocates memory
        for the batch's numbers and for the product.
        """
        np.copyto(out.T, _matrix(A0, gain) @ W.T)

    @every_step
    def sparse_gradient(
        self, dZ: Array, A0: SparseColumns, dW: Array, gain: float = 1.0, add_to_dW: bool = False
    ) -> None:
        """dW = gain·dZ·A₀ᵀ: dW[:, i] = Σ_j gain·value·dZ_j over the samples j = 0, 1, 2, ... that have column i.

        The other columns are 0. dZ (n_out, batch) and dW (n_out, n_in) F-ordered. With `add_to_dW` it is added to what
        dW holds.
        """
        batch = _matrix(A0, gain)
        touched, places = np.unique(batch.indices, return_inverse=True)
        compact = type(batch)((batch.data, places, batch.indptr), shape=(batch.shape[0], len(touched)))
        sums = compact.T @ dZ.T  # SciPy goes through the samples in their order
        if add_to_dW:
            dW.T[touched] += sums
        else:
            dW.fill(0)
            dW.T[touched] = sums


def _matrix(A0: SparseColumns, gain: float) -> Any:
    """gain·A₀ᵀ (batch, n_in) as SciPy's."""
    from scipy.sparse import csr_array  # imported on first use: SciPy would double the time that importing takes

    rows = A0.samples.packed()
    starts = np.append(rows.extents[:, 0], len(rows.values))
    factor = gain * rows.scale
    return csr_array((rows.values * factor if factor != 1.0 else rows.values, rows.columns, starts), shape=rows.shape)
