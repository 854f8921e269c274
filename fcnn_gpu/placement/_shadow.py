"""Stored weights on arrays without memory: what their tiles, and they themselves, would take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._types import Array, DType, HostArray
from ..backend import Meter, Ops
from ._file_rows import FileRows
from ._network import StoredWeights
from ._store import HostStore, Rows
from ._tiles import READING, UPDATING, Arrived, Compute, Slot, Tiles, part_of
from ._weight import StoredWeight


def shadow_stored(stored: StoredWeights, ops: Ops, meter: Meter, memo: dict[int, Any]) -> StoredWeights:
    """`stored` on shadow arrays; `memo` maps what layers hold of it to what their shadows shall hold.

    What lies on the host beside a device is of the kind "page_locked", files are of the kind "disk".
    """
    tiles = _ShadowTiles(ops, meter)
    store: Any = _ShadowFolder(meter) if stored.store.place == "disk" else HostStore(tiles)
    weights = []
    for weight in stored.weights:
        with meter.kind("parameters"):
            rows = store.weight(weight.name, weight.shape, weight.dtype)
        options = weight.tile_rows, weight.compute_dtype, weight.l1, weight.l2, weight.gain
        shadow = StoredWeight(ops, tiles, weight.name, rows, *options)
        shadow.frozen = weight.frozen
        memo |= {id(weight): shadow, id(weight.matrix): shadow.matrix, id(weight.gradient): shadow.gradient}
        weights.append(shadow)
    return StoredWeights(ops, store, tiles, weights)


class _ShadowTiles(Tiles):
    """Passes over tiles that make the buffers of real ones, and move nothing."""

    def __init__(self, ops: Ops, meter: Meter) -> None:
        self._ops, self._meter = ops, meter
        self._slots = [Slot() for _ in range(max(READING, UPDATING))]
        self._side = self._back = None

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        if not self._ops.asynchronous:  # the host is the device
            return self._ops.empty(shape, dtype)
        with self._meter.kind("page_locked"):
            return self._ops.empty(shape, dtype)

    @contextmanager
    def reading(self, matrices: Sequence[Rows], tiles: Sequence[slice]) -> Iterator[Arrived]:
        yield self._pass(matrices, tiles, READING)

    def update(self, matrices: Sequence[Rows], tiles: Sequence[slice], compute: Compute) -> None:
        for tile, arrays in self._pass(matrices, tiles, UPDATING):
            compute(tile, arrays)

    def _pass(self, matrices: Sequence[Rows], tiles: Sequence[slice], n_slots: int) -> Arrived:
        in_place = not self._ops.asynchronous and matrices[0].view(0, 0) is not None
        slots = [] if in_place else self._reserve(matrices, tiles, n_slots)
        for i, tile in enumerate(tiles):
            if in_place:
                yield tile, [matrix.view(tile.start, tile.stop) for matrix in matrices]
            else:
                slot, height = slots[i % n_slots], tile.stop - tile.start
                memory = slot.device if self._ops.asynchronous else slot.host
                yield tile, [part_of(memory[j], (height, m.shape[1]), m.dtype) for j, m in enumerate(matrices)]

    def _slot_on_host(self, n_bytes: int) -> HostArray:
        with self._meter.kind("page_locked" if self._ops.asynchronous else "tiles"):
            return self._ops.empty(n_bytes, "uint8")

    def _slot_on_device(self, n_bytes: int) -> Array:
        with self._meter.kind("tiles"):
            return self._ops.empty(n_bytes, "uint8")


class _ShadowFolder:
    """Files that nobody makes."""

    place = "disk"

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def weight(self, name: str, shape: tuple[int, int], dtype: DType) -> _ShadowFile:
        return _ShadowFile(self._meter, shape, dtype)

    def moments(self, names: Iterable[str], shapes: dict[str, tuple[int, int]], dtype: DType) -> dict[str, _ShadowFile]:
        return {name: _ShadowFile(self._meter, shapes[name], dtype) for name in names}


class _ShadowFile(FileRows):
    """Two generations of a matrix, counted."""

    def __init__(self, meter: Meter, shape: tuple[int, int], dtype: DType) -> None:
        self.shape, self.dtype = shape, dtype
        with meter.kind("disk"):
            self._generations = [meter.array(shape, dtype, aligned=False) for _ in range(2)]
