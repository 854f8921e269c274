"""From layers to stored weights: the plan, the drawing of initial weights, and where they are put."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Ops, available_memory
from ..files import rows_of_block
from ..initializers import Draw, initial_values
from ..layers import Dense, Layer, Parameter
from ..memory import human
from ._folder import FolderStore
from ._network import StoredWeights
from ._opened import OpenedFolder
from ._plan import Plan, Precision, Weights, is_small, plan_placement, tile_rows
from ._storage import Storage
from ._store import HostStore, Rows
from ._tiles import Tiles
from ._weight import StoredWeight

_SHARE_OF_FREE = 0.5
"""Of the host's free memory, what drawing a whole matrix in float64 may take."""


class Placement:
    """Decides where the weights of built layers lie, and puts those that do not stay on the device there.

    Args:
        layers: all of them, those inside residual layers included.
        ops: the device.
        precision: the network's.
        limit: `Sequential(memory_limit)`.
        storage: `Sequential(storage)`.
        opened: the folder that the network was opened from, instead.
        like: those of another network of the same layers, whose places and tiles this one takes.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        ops: Ops,
        precision: Precision,
        limit: int | None,
        storage: Storage,
        opened: OpenedFolder | None = None,
        like: StoredWeights | None = None,
    ) -> None:
        self._limit, self.plan = limit, Plan((), 0)
        if (
            opened is None
            and like is None
            and limit is None
            and storage.folder is None
            and _stay_anyway(layers, precision)
        ):
            return
        self._dense = [layer for layer in layers if isinstance(layer, Dense)]
        self._ops, self._precision, self._storage, self._opened = ops, precision, storage, opened
        weights = [Weights(_asked_for(layer), layer.n_out, layer.n_in) for layer in self._dense]
        n_all = sum(parameter.initial.size for layer in layers for parameter in layer.parameters())
        forced, where = None, "disk" if like is None else like.store.place
        self._heights: dict[str, int] = {}
        if opened is not None:
            self._heights = opened.record.data["stored"]
            unknown = sorted(self._heights.keys() - {f"{layer.path}.W" for layer in self._dense})
            if unknown:
                raise opened.fault(f"it keeps {unknown[0]!r} on disk, and its network has no such weights")
        elif like is not None:
            self._heights = {weight.name: weight.tile_rows for weight in like.weights}
        if opened is not None or like is not None:
            stored = set(self._heights)
            forced = [f"{layer.path}.W" in stored for layer in self._dense]
        n_others = n_all - sum(w.size for w in weights)
        self.plan = plan_placement(weights, n_others, ops, precision, limit, forced, where=where)
        if storage.folder is not None and "disk" not in self.plan.places:
            raise ValueError(
                f"Sequential(storage={str(storage.folder)!r}) is for weights on disk, and all of this network's stay "
                "in memory. Leave storage out, or give a layer placement='disk' or the network a smaller memory_limit."
            )
        for layer, place in zip(self._dense, self.plan.places, strict=True):
            parameter = layer.weights
            if place == "device" and parameter.draw is not None:
                parameter.initial, parameter.draw = parameter.draw.whole(), None

    def store(self) -> StoredWeights | None:
        """Put the weights where the plan says; None where all stay on the device."""
        if not self.plan.stored:
            return None
        tiles = Tiles(self._ops)
        on_disk = "disk" in self.plan.places
        store = FolderStore(self._storage, self._opened) if on_disk else HostStore(tiles)
        try:
            weights = [
                self._stored(layer, layer.weights, store, tiles)
                for layer, place in zip(self._dense, self.plan.places, strict=True)
                if place != "device"
            ]
        except BaseException:
            if isinstance(store, FolderStore):
                store.discard()
            raise
        return StoredWeights(self._ops, store, tiles, weights)

    def _stored(self, layer: Dense, parameter: Parameter, store: Any, tiles: Tiles) -> StoredWeight:
        dtype, shape = self._precision.dtype, (layer.n_out, layer.n_in)
        rows: Rows = store.weight(f"{layer.path}.W", shape, dtype)
        if self._opened is None:
            _draw_into(rows, parameter)
        height = tile_rows(self.plan.tile_bytes, *shape, dtype.itemsize)
        before = self._heights.get(f"{layer.path}.W")
        if before is not None:  # the same sums in the same order as before, if there is room
            height = before if self._limit is None else min(height, before)
        weight = StoredWeight(
            self._ops,
            tiles,
            f"{layer.path}.W",
            rows,
            height,
            self._precision.compute_dtype,
            parameter.l1,
            parameter.l2,
            layer.gain,
        )
        parameter.stored, parameter.value, parameter.gradient = weight, weight.matrix, weight.gradient
        parameter.accumulates = True
        parameter.initial, parameter.draw = np.broadcast_to(np.float64(0), shape), None
        return weight


def _asked_for(layer: Dense) -> str:
    """Where its weights are to be. Those with limits stay on the device."""
    return layer.placement if layer.weights.limits is None else "device"


def _stay_anyway(layers: Sequence[Layer], precision: Precision) -> bool:
    """Whether all weights stay on the device whatever is free there: a small network does not pay for a plan."""
    size = 0
    for layer in layers:
        if isinstance(layer, Dense) and (layer.placement in ("host", "disk") or layer.weights.draw is not None):
            return False
        for parameter in layer.parameters():
            size += parameter.initial.size
    return is_small(size, precision)


def _draw_into(rows: Rows, parameter: Parameter) -> None:
    """Put a parameter's initial values where its rows lie, a block at a time where its initializer can do that."""
    height = rows_of_block(rows.shape, np.dtype(np.float64))
    draw = parameter.draw
    blocks = None if draw is None else draw.blocks(height)
    if blocks is None:
        whole = parameter.initial if draw is None else _whole(draw)
        blocks = (whole[start : start + height] for start in range(0, rows.shape[0], height))
    starts = range(0, rows.shape[0], height)
    for start, block in zip(starts, blocks, strict=True):
        rows.write(start, initial_values(block, rows.dtype))


def _whole(draw: Draw) -> Any:
    """All weights at once. ValueError where that takes more memory than there is."""
    needed, free = 8 * draw.n_out * draw.n_in, available_memory()
    if free is not None and needed > _SHARE_OF_FREE * free:
        raise ValueError(
            f"The initializer {type(draw.initializer).__name__} of {draw.who} draws all weights at once, which takes "
            f"{human(needed)} in float64 where {human(free)} are free. Use one that draws them row by row, such as "
            "init='he_normal' or 'xavier_uniform', or derive yours from ElementwiseInitializer."
        )
    return draw.whole()
