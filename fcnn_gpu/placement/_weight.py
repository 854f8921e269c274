"""One layer's stored weights: its products tile by tile, and the gradient as its two factors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .._types import Array, DType, HostArray
from ..backend import FlatParameters, Ops, Segment
from ..layers import BatchPart
from ._matrix import LazyMatrix, StoredMatrix
from ._store import Rows
from ._tiles import Tiles


class StoredWeight:
    """W (n_out, n_in), C-ordered, in row tiles; what a `Dense` layer calls in place of the primitives.

    Args:
        ops: the device's primitives.
        name: the layer's path and the parameter's name, "0.W".
        rows: where the weights lie.
        tile_rows: rows of a tile.
        compute_dtype: what products read; a tile is rounded to it on the device if it is not that of the weights.
        l1, l2: the layer's penalties.
        gain: the layer computes with gain·W.
    """

    def __init__(
        self,
        ops: Ops,
        tiles: Tiles,
        name: str,
        rows: Rows,
        tile_rows: int,
        compute_dtype: DType,
        l1: float,
        l2: float,
        gain: float = 1.0,
    ) -> None:
        self.ops, self.name, self.rows, self.tile_rows = ops, name, rows, tile_rows
        self.shape, self.dtype, self.compute_dtype = rows.shape, rows.dtype, compute_dtype
        self.l1, self.l2, self.gain = l1, l2, gain
        self._tiles = tiles
        self.matrix = StoredMatrix(rows)
        self.gradient = FactoredGradient(self)
        self.factors: tuple[Array, Array] | None = None
        """(dZ, A₀) of the last step, (n_out, batch) and (n_in, batch): ∂L/∂W = gain·dZ·A₀ᵀ."""
        self.frozen = False
        """Whether no update changes it, so that there is no gradient."""
        self._inputs: Array | None = None

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.shape[0] * self.shape[1]

    def cut(self) -> list[slice]:
        """The row tiles, in order."""
        n_out = self.shape[0]
        return [slice(start, min(start + self.tile_rows, n_out)) for start in range(0, n_out, self.tile_rows)]

    def forward(self, A0: Array, Z: Array) -> None:
        """Z = gain·W·A₀, each row with its whole sum in one product."""
        with self._tiles.reading([self.rows], self.cut()) as tiles:
            for rows, (W,) in tiles:
                part = self._part(rows, Z.shape[1])
                self.ops.gemm(self._rounded(W), A0, part, self.gain)
                self.ops.assign(Z[rows], part)

    def backward(self, dZ: Array, dA0: Array) -> None:
        """dA₀ = Σ over tiles of gain·W[rows]ᵀ·dZ[rows]."""
        with self._tiles.reading([self.rows], self.cut()) as tiles:
            for rows, (W,) in tiles:
                part = self._part_of(dZ, rows)
                self.ops.gemm(self._rounded(W).T, part, dA0, self.gain, 0.0 if rows.start == 0 else 1.0)

    def forget_factors(self) -> None:
        """A new step begins: the last one's gradient is gone."""
        self.factors = None

    def release(self) -> None:
        """Let go of what can be made anew."""
        self.factors = self._inputs = None

    def keep_factors(self, dZ: Array, A0: Array, part: BatchPart) -> None:
        """∂L/∂W = gain·dZ·A₀ᵀ, to be computed when it is needed; see `layers.StoredProducts`."""
        batch = A0.shape[1]
        if batch == part.whole:
            self.factors = dZ, A0
            return
        n = A0.shape[0] * part.whole
        if self._inputs is None or self._inputs.size < n:
            self._inputs = None  # before the new one is made
            self._inputs = self.ops.empty(n, A0.dtype)
        whole = self._inputs[:n].reshape(part.whole, A0.shape[0]).T
        self.ops.assign(whole[:, part.first : part.first + batch], A0)
        self.factors = dZ, whole

    def gradient_tile(self, rows: slice) -> Array:
        """∂L/∂W[rows] = gain·dZ[rows]·A₀ᵀ, C-ordered; it lasts until the next is asked for."""
        dZ, A0 = self._require_factors()
        shape = rows.stop - rows.start, self.shape[1]
        out = self.ops.scratch("stored gradient", math.prod(shape), self.dtype).reshape(shape)
        self.ops.gemm(self._part_of(dZ, rows), A0.T, out, self.gain)
        return out

    def _require_factors(self) -> tuple[Array, Array]:
        if self.factors is None:
            raise RuntimeError(
                f"There is no gradient of {self.name}, whose weights are on {self.rows.place}: it is computed from the "
                "last training pass when it is asked for. Call model.forward(X, training=True) and backward first."
            )
        return self.factors

    def flat_tile(self, values: Array, gradient: Array, rate: float = 1.0, decay: float = 1.0) -> FlatParameters:
        """A tile as an optimizer takes it, with its factors of learning rate and weight decay."""
        segment = Segment(0, values.size, self.l1, self.l2, decay, rate)
        return FlatParameters(values.reshape(-1), gradient.reshape(-1), (segment,))

    def penalty(self, total: Array) -> float:
        """λ₁Σ|w| + λ₂Σw²; total float64 (1,) is scratch."""
        if not (self.l1 or self.l2):
            return 0.0
        found = 0.0
        with self._tiles.reading([self.rows], self.cut()) as tiles:
            for _, (W,) in tiles:
                self.ops.penalty(self.flat_tile(W, W), total)
                found += float(self.ops.to_numpy(total)[0])
        return found

    def gradient_bound(self, total: Array) -> float:
        """An upper bound of ‖∂L/∂W‖, by Cauchy and Schwarz: gain·‖dZ‖·‖A₀‖. NaN or ∞ bound nothing."""
        return self.gain * math.prod(math.sqrt(self.square(x, total)) for x in self._require_factors())

    def gradient_square(self, rows: slice, total: Array, inverse: float = 1.0) -> float:
        """‖inverse·∂L/∂W[rows]‖², each block of it summed in the weights' dtype; `inverse`: of the loss scale."""
        tile = self.gradient_tile(rows)
        if inverse != 1.0:
            self.ops.scale(tile, inverse, tile)
        return self.square(tile, total)

    def square(self, x: Array, total: Array) -> float:
        """‖x‖², each block of it summed in the weights' dtype; total float64 (1,) is scratch."""
        flat = (x if x.flags.c_contiguous else x.T).reshape(-1)
        if flat.dtype != self.dtype:  # 16 bits
            cast = self.ops.scratch("stored factor", flat.size, self.dtype)
            self.ops.cast(flat, cast)
            flat = cast
        whole = (Segment(0, flat.size, l2=1.0),)
        self.ops.penalty(FlatParameters(flat, flat, whole), total)
        return float(self.ops.to_numpy(total)[0])

    def _part(self, rows: slice, batch: int) -> Array:
        """Scratch for the rows of a tile of a batch, F-ordered."""
        shape = batch, rows.stop - rows.start
        return self.ops.scratch("stored part", math.prod(shape), self.compute_dtype).reshape(shape).T

    def _part_of(self, Z: Array, rows: slice) -> Array:
        """Rows of Z (n_out, batch), contiguous."""
        if rows == slice(0, Z.shape[0]):
            return Z
        part = self._part(rows, Z.shape[1])
        self.ops.assign(part, Z[rows])
        return part

    def _rounded(self, W: Array) -> Array:
        """What products read of a tile."""
        if W.dtype == self.compute_dtype:
            return W
        low = self.ops.scratch("stored low", W.size, self.compute_dtype).reshape(W.shape)
        self.ops.cast(W, low)
        return low


class FactoredGradient(LazyMatrix):
    """∂L/∂W of a layer whose weights are stored: never in memory as a whole, computed where it is read.

    It is that of the last backward pass, until the next training pass begins.
    """

    def __init__(self, weight: StoredWeight) -> None:
        self._weight = weight
        self.shape, self.dtype = weight.shape, weight.dtype

    def __repr__(self) -> str:
        return f"<gradient of {self._weight.name}, {self.shape[0]}×{self.shape[1]} {self.dtype}, as two factors>"

    def blocks(self) -> Iterator[tuple[slice, HostArray]]:
        for rows in self._weight.cut():
            yield rows, self._on_host(rows)

    def _rows(self, start: int, stop: int) -> HostArray:
        height = self._weight.tile_rows
        parts: list[Any] = []
        for rows in self._weight.cut()[start // height : -(-stop // height)]:
            tile = self._on_host(rows)
            parts.append(np.array(tile[max(0, start - rows.start) : stop - rows.start]))
        return np.concatenate(parts)

    def _each_row(self, rows: Iterable[int]) -> Iterator[HostArray]:
        cut, height, at, tile = self._weight.cut(), self._weight.tile_rows, -1, np.empty(0)
        for row in rows:
            if row // height != at:  # a tile is computed once for all of its rows
                at = row // height
                tile = self._on_host(cut[at])
            yield tile[row - cut[at].start]

    def _on_host(self, rows: slice) -> HostArray:
        return self._weight.ops.to_numpy(self._weight.gradient_tile(rows))
