"""Where each layer's arrays begin in memory that several layers, and training and inference, take in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Array, DType
from ..layers import BatchPart, Layer
from ._recompute import Segment

ALIGNED = 128
"""Elements, 256 bytes or more, between places at which the matrices of one buffer may begin."""

Sizes = dict[DType, int]
"""Elements of each dtype."""


def aligned(size: int) -> int:
    """Elements up to where the next array may begin."""
    return -(-size // ALIGNED) * ALIGNED


class _Tally:
    """A plan that counts what a layer asks for. Its arrays have a shape and a dtype, and no memory."""

    def __init__(self, capacity: int, whole: int, dtype: DType, statistics_dtype: DType) -> None:
        self.batch, self.part = capacity, BatchPart(whole)
        self.statistics_dtype = statistics_dtype
        self.sizes: Sizes = {}
        self._dtype = dtype

    def matrix(self, n: int, dtype: Any = None) -> Array:
        return self._count(n, self.batch, dtype)

    def whole_matrix(self, n: int, dtype: Any = None) -> Array:
        return self._count(n, self.part.whole, dtype)

    def column(self, n: int) -> Array:
        return self._count(n, 1, self.statistics_dtype)

    def scratch(self, slot: int, n: int) -> Array:
        return _nothing(n, self.batch, self._dtype)

    def _count(self, n: int, batch: int, dtype: Any) -> Array:
        dtype = np.dtype(self._dtype if dtype is None else dtype)
        self.sizes[dtype] = self.sizes.get(dtype, 0) + aligned(n * batch)
        return _nothing(n, batch, dtype)


def _nothing(n: int, batch: int, dtype: Any) -> Array:
    return np.broadcast_to(np.zeros((), dtype), (batch, n)).T


def needs_of(layer: Layer, capacity: int, whole: int, dtype: DType, statistics_dtype: DType, training: bool) -> Sizes:
    """What a layer of this package asks for at this batch size."""
    tally = _Tally(capacity, whole, dtype, statistics_dtype)
    cache = layer.allocate(tally, training)
    if training:
        layer.allocate_backward(tally, cache, 0)
    return tally.sizes


@dataclass(frozen=True)
class Layout:
    """Where in the buffers of each dtype things begin, in elements.

    Attributes:
        starts: the arrays of each layer; None for a layer that has buffers of its own.
        outputs: what is kept of each segment's output, in the dtype of activations; None where nothing is.
        scratch: the two scratch matrices for gradients, or at inference the network's input.
        sizes: of the buffers.
    """

    starts: Sequence[Sizes | None]
    outputs: Sequence[int | None]
    scratch: Sequence[int]
    sizes: Sizes

    @property
    def nbytes(self) -> int:
        """Of all buffers."""
        return sum(size * dtype.itemsize for dtype, size in self.sizes.items())


def lay_out_training(
    needs: Sequence[Sizes | None], segments: Sequence[Segment], widths: Sequence[int], widest: int, dtype: DType
) -> Layout:
    """What is kept comes first, one after the other, then in one place the segments that are recomputed.

    Args:
        needs: of each layer; None for one with buffers of its own.
        segments: those of the network.
        widths: elements of each layer's output.
        widest: elements of one of the two scratch matrices.
        dtype: of activations.
    """
    ends: Sizes = {dtype: 2 * aligned(widest)}
    starts: list[Sizes | None] = [None] * len(needs)
    outputs: list[int | None] = []
    for segment in segments:
        keeps = segment.recomputed and segment is not segments[-1]
        outputs.append(ends[dtype] if keeps else None)
        ends[dtype] += aligned(widths[segment.stop - 1]) if keeps else 0
        if not segment.recomputed:
            for i in segment.layers:
                starts[i] = _place(needs[i], ends)
    sizes = dict(ends)
    for segment in segments:
        if segment.recomputed:
            at = dict(ends)
            for i in segment.layers:
                starts[i] = _place(needs[i], at)
            sizes = {key: max(size, sizes.get(key, 0)) for key, size in at.items()} | {
                key: size for key, size in sizes.items() if key not in at
            }
    return Layout(starts, outputs, (0, aligned(widest)), sizes)


def lay_out_inference(needs: Sequence[Sizes | None], n_input: int, dtype: DType) -> Layout:
    """Two places, which consecutive layers take in turn, and one for the network's input.

    A layer that asks for nothing passes its input on, and has no turn.
    """
    largest: list[Sizes] = [{}, {}]
    turns: list[int] = []
    for need in needs:
        turns.append(turns[-1] if turns else 1)
        if need:
            turns[-1] = 1 - turns[-1]
        for key, size in (need or {}).items():
            largest[turns[-1]][key] = max(size, largest[turns[-1]].get(key, 0))
    ends: Sizes = {dtype: aligned(n_input)}
    places = [_place(sizes, ends) or {} for sizes in largest]
    starts = [None if need is None else dict(places[turn]) for need, turn in zip(needs, turns, strict=True)]
    return Layout(starts, (), (0,), ends)


def _place(need: Sizes | None, ends: Sizes) -> Sizes | None:
    """Where what is needed begins, behind what there is already."""
    if need is None:
        return None
    start = {key: ends.get(key, 0) for key in need}
    for key, size in need.items():
        ends[key] = ends.get(key, 0) + size
    return start


def best(layouts: dict[int, Layout]) -> int:
    """The key of the smallest layout; of several, the one with the largest key, which recomputes least."""
    smallest: Callable[[int], tuple[int, int]] = lambda key: (layouts[key].nbytes, -key)  # noqa: E731
    return min(layouts, key=smallest)
