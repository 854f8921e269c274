"""Which layers' weights lie elsewhere, and how many of their rows pass through the device at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .._types import DType
from ..backend import Ops, available_memory
from ._tiles import UPDATING

SMALL = 2**26
"""Bytes of parameters, gradients and moments up to which nobody asks what is free."""
_SHARE_OF_FREE = 0.9
"""Of the memory that is free, what parameters may take: activations need some as well."""
_COPIES = 4
"""Of every resident parameter: value, gradient, and Adam's two moments."""
_COPIES_TO_UNDO = 3
"""With weights on disk a step can be undone: copies of values and moments, on the host."""
_MOMENTS = 2
_TILE_BYTES = 2**25
"""Bytes of a tile at which a larger one no longer pays: it is read in milliseconds, begun in microseconds."""
_WHOLE_ROWS = 64
"""Tiles have multiples of so many rows where there is room: products take rows in groups."""


class MemoryLimitError(ValueError):
    """`Sequential(memory_limit)` allows less than the network needs at least."""


class Precision(Protocol):
    """What a network computes in, as far as it decides how many bytes weights take."""

    @property
    def dtype(self) -> DType: ...
    @property
    def compute_dtype(self) -> DType: ...
    @property
    def mixed(self) -> bool: ...


@dataclass(frozen=True)
class Weights:
    """The weights of one layer: where it is said to be, its inputs and outputs."""

    placement: str
    n_out: int
    n_in: int

    @property
    def size(self) -> int:
        """How many there are."""
        return self.n_out * self.n_in


@dataclass(frozen=True)
class Plan:
    """Where the weights of each layer lie, and the bytes that one tile may take."""

    places: tuple[str, ...]
    tile_bytes: int

    @property
    def stored(self) -> bool:
        """Whether any weights are not on the device."""
        return any(place != "device" for place in self.places)


def plan_placement(
    weights: Sequence[Weights],
    n_others: int,
    ops: Ops,
    precision: Precision,
    limit: int | None,
    forced: Sequence[bool] | None = None,
    free_on_host: Callable[[], int | None] = available_memory,
    where: str = "disk",
) -> Plan:
    """Where the weights of each layer lie so that what a network trains with has room on the device.

    "auto" layers go elsewhere, the largest first, until the rest fits, Adam's moments included.

    Args:
        weights: of each Dense layer.
        n_others: parameters that are no such weights and stay on the device.
        ops: the device.
        precision: of the network.
        limit: bytes that parameters, gradients, moments and tiles may take on the device; None: what is free there.
        forced: which of the layers lie elsewhere, decided by an earlier plan; the others are on the device.
        free_on_host: asks for the host's free memory.
        where: the forced ones lie, "host" or "disk".

    Raises ValueError where not even single rows fit into `limit`, or layers are to lie on the host and on disk.
    """
    item = precision.dtype.itemsize
    one = _COPIES * item + (precision.compute_dtype.itemsize if precision.mixed else 0)
    undone = 0 if ops.asynchronous or any(w.placement == "host" for w in weights) else _COPIES_TO_UNDO * item
    away = [w.placement in ("host", "disk") for w in weights] if forced is None else list(forced)
    room = limit
    if room is None and one * (n_others + sum(w.size for w in weights)) > SMALL:
        free = ops.free_memory() if ops.asynchronous else free_on_host()
        room = None if free is None else int(_SHARE_OF_FREE * free)

    def resident(moved: Sequence[bool]) -> int:
        size = n_others + sum(w.size for w, elsewhere in zip(weights, moved, strict=True) if not elsewhere)
        return size * (one + (undone if any(moved) else 0))

    def least(moved: Sequence[bool]) -> int:
        return resident(moved) + _tiles_at_least(weights, moved, precision)

    options = [away]
    if room is not None and forced is None:
        for i in sorted((i for i, w in enumerate(weights) if w.placement == "auto"), key=lambda i: -weights[i].size):
            options.append([moved or i == j for j, moved in enumerate(options[-1])])
    smallest = min(options, key=least)
    away = next((moved for moved in options if room is None or least(moved) <= room), smallest)
    if limit is not None and least(away) > limit:
        stays = resident(smallest)
        raise MemoryLimitError(
            f"Sequential(memory_limit) allows {limit:,} bytes, and the parameters that stay on the device take "
            f"{stays:,} with gradients and two moments, single rows of the others {least(smallest) - stays:,} on their "
            f"way through. Allow {least(smallest):,} bytes, or give more layers placement='auto'."
        )
    if not any(away):
        return Plan(("device",) * len(weights), 0)
    spare = _TILE_BYTES * _tile_copies(precision) if room is None else max(0, room - resident(away))
    tile = min(_TILE_BYTES, int(spare / _tile_copies(precision)))
    where = where if forced is not None else _elsewhere(weights, away, ops, item, free_on_host)
    return Plan(tuple(where if moved else "device" for moved in away), tile)


def is_small(size: int, precision: Precision) -> bool:
    """Whether so many parameters, with gradients and moments, stay where they are without a question."""
    return (_COPIES * precision.dtype.itemsize + precision.compute_dtype.itemsize) * size <= SMALL


def tile_rows(tile_bytes: int, n_out: int, n_in: int, itemsize: int) -> int:
    """Rows of a tile: at least one, and a multiple of 64 where there is room for that."""
    rows = max(1, tile_bytes // (n_in * itemsize))
    if rows > _WHOLE_ROWS:
        rows -= rows % _WHOLE_ROWS
    return min(rows, n_out)


def _tile_copies(precision: Precision) -> float:
    """How often a tile's bytes are on the device at most: weights and moments of each slot, gradient, 16-bit copy."""
    low = precision.compute_dtype.itemsize / precision.dtype.itemsize if precision.mixed else 0.0
    return UPDATING * (1 + _MOMENTS) + 1 + low


def _tiles_at_least(weights: Sequence[Weights], away: Sequence[bool], precision: Precision) -> int:
    """Bytes that tiles of single rows take."""
    widest = max((w.n_in for w, moved in zip(weights, away, strict=True) if moved), default=0)
    return int(widest * precision.dtype.itemsize * _tile_copies(precision))


def _elsewhere(
    weights: Sequence[Weights], away: Sequence[bool], ops: Ops, item: int, free_on_host: Callable[[], int | None]
) -> str:
    """ "host" or "disk", for all weights of a network that are not on the device."""
    named = {w.placement for w in weights} & {"host", "disk"}
    if len(named) == 2:
        raise ValueError(
            "Layers of one network have placement='host' and others placement='disk': what is on disk is always one "
            "whole step of the network, so all of its weights that are not on the device lie in one place. Choose one."
        )
    if named:
        return named.pop()
    if not ops.asynchronous:
        return "disk"
    needed = (1 + _MOMENTS) * item * sum(w.size for w, moved in zip(weights, away, strict=True) if moved)
    free = free_on_host()
    return "host" if free is not None and needed <= _SHARE_OF_FREE * free else "disk"
