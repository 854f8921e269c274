"""The choice of tiles, order and buffers: of all cuts that fit the budget, the one predicted to take the least time.

A tile of out (m' × n') is the sum of k/k' products, which read m'k' numbers of A and k'n' of B and make 2m'n'k' FLOPs.
With both operands streaming, their transfer hides behind the arithmetic where 2m'n'/(m' + n') is at least bytes per
number × FLOP/s over bytes/s: the tile should be large. Where a row of tiles of A (m' × k), or a column of B, fits and
is kept, only the other operand is read again, once for each such row; where all of it fits, everything is read once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..backend import read_cpu
from ._placement import Layout
from ._plan import Costs, Cut, MatmulPlan, Problem, buffer_bytes, ones_bytes
from ._rates import Rates

ALIGN = {False: 64, True: 512}
"""Bytes that a buffer's size is rounded up to: a cache line of the host, a block of a device's memory."""
LARGEST_CHUNK = 2**27
"""Bytes of a chunk that goes through page-locked memory, of which there should not be too much."""
BAND = 2**24
"""Bytes of a finished tile that come back from a device at a time."""

_PIECE_SECONDS = {"file": 3e-6, "host": 2e-7, "device": 0.0}
"""What each contiguous stretch of a block costs beside its bytes."""
_CALL_SECONDS = {False: 2e-5, True: 6e-5}
"""What each product costs beside its arithmetic: on a device some copies, marks and launches."""
_EDGES = {False: (28.0, 64.0, 24.0), True: (64.0, 64.0, 64.0)}
"""A product of tiles t₁ × t₂ × t₃ takes 1 + Σ edge/t times as long as its part of a large one: t₁ and t₂ along the rows
and the columns of a C-ordered out (of an F-ordered one, the other way round), t₃ along the inner dimension."""
_NEW_MEMORY = 2e9
"""Bytes/s at which the system hands out memory that has not been touched, or locks its pages: a buffer that is larger
than it has to be takes time as well."""
_READING_AHEAD = {False: (2, 1), True: (3, 2, 1)}


class NotEnoughMemory(ValueError):
    """A budget below the smallest that works."""


def make_plan(problem: Problem, rates: Rates, memory_limit: int) -> MatmulPlan:
    """The plan for a budget. ValueError, with the smallest that works, for a lower one."""
    smallest = _smallest_cut(problem)
    align = ALIGN[problem.on_device]
    minimum = problem.fixed + buffer_bytes(problem, smallest, align)
    if memory_limit < minimum:
        raise NotEnoughMemory(
            f"chunked_matmul(memory_limit={memory_limit:,}) is too little for this product, whose smallest tiles take "
            f"{minimum:,} bytes. Give it memory_limit={minimum}, or far more: small tiles are slow."
        )
    best = _Candidate(smallest, estimate(problem, rates, smallest))
    for cut in _fitting_cuts(problem, rates, memory_limit):
        costs = estimate(problem, rates, cut)
        if costs.seconds < best.costs.seconds and fits(problem, cut, memory_limit):
            best = _Candidate(cut, costs)
    return MatmulPlan(
        problem=problem,
        cut=best.cut,
        costs=best.costs,
        rates=rates,
        memory_limit=memory_limit,
        memory_used=problem.fixed + buffer_bytes(problem, best.cut, align),
        page_locked=page_locked_bytes(problem, best.cut),
        minimum=minimum,
    )


def fits(problem: Problem, cut: Cut, memory_limit: int) -> bool:
    """Whether a cut's buffers, and on a GPU its page-locked memory as well, are within the budget."""
    used = problem.fixed + buffer_bytes(problem, cut, ALIGN[problem.on_device])
    return max(used, page_locked_bytes(problem, cut)) <= memory_limit


def page_locked_bytes(problem: Problem, cut: Cut) -> int:
    """Two chunks of each operand that streams to a device, and two bands of a tile that comes back."""
    return sum(number * size for number, size in page_locked_buffers(problem, cut).values())


def page_locked_buffers(problem: Problem, cut: Cut) -> dict[str, tuple[int, int]]:
    """By matrix: how many page-locked buffers, and bytes of one."""
    if not problem.on_device:
        return {}
    tm, tn, tk = cut.tile
    n_a, n_b, n_out = cut.buffers
    found = {}
    if n_a:
        found["A"] = min(n_a, 2), tm * tk * problem.A.dtype.itemsize
    if n_b:
        found["B"] = min(n_b, 2), tk * tn * problem.B.dtype.itemsize
    if n_out and problem.out.place != "device":
        line = (tm if problem.out.block_order == "F" else tn) * problem.out.dtype.itemsize
        lines = tn if problem.out.block_order == "F" else tm
        band = line * min(lines, max(1, BAND // line))
        found["out"] = (1 if band == line * lines and n_out == 1 else 2), band
    return found


@dataclass(frozen=True)
class _Candidate:
    cut: Cut
    costs: Costs


def _smallest_cut(problem: Problem) -> Cut:
    m, n, k = problem.shape
    tile = min(m, 1), min(n, 1), min(k, 1)
    streams = tuple(int(layout.streams and bool(layout.nbytes)) for layout in problem.operands().values())
    return _free_of_what_lies_there(problem, Cut(tile, None, True, streams))  # type: ignore[arg-type]


def _free_of_what_lies_there(problem: Problem, cut: Cut) -> Cut:
    """Tiles as large as the matrix along what no buffer depends on."""
    m, n, k = problem.shape
    n_a, n_b, n_out = cut.buffers
    ones = ones_bytes(problem, 1) if problem.out.streams else 0
    tm, tn, tk = cut.tile
    return replace(cut, tile=(tm if n_a or n_out else m, tn if n_b or n_out or ones else n, tk if n_a or n_b else k))


def _fitting_cuts(problem: Problem, rates: Rates, memory_limit: int) -> Iterator[Cut]:
    """For each way to keep and buffer, the tile that is predicted best."""
    m, n, k = problem.shape
    if not m * n:
        return
    if not k:  # out = f(bias): the tiles of a product with operands that cost nothing
        empty_a, empty_b = replace(problem.A, columns=1, streams=False), replace(problem.B, rows=1, streams=False)
        for cut in _fitting_cuts(replace(problem, A=empty_a, B=empty_b), rates, memory_limit):
            yield replace(cut, tile=(*cut.tile[:2], 0))
        return
    streams_a, streams_b, streams_out = (layout.streams for layout in problem.operands().values())
    kept: list[Literal["A", "B"] | None] = [None]
    kept += ["A"] if streams_a else []
    kept += ["B"] if streams_b else []
    for keep in kept:
        for ahead in _READING_AHEAD[problem.on_device] if streams_a or streams_b else (1,):
            for extra in (1, 0) if keep else (0,):
                for n_out in (2, 1) if streams_out else (0,):
                    for by_rows in (True, False) if keep is None else (keep == "A",):
                        yield from _best_tile(problem, rates, memory_limit, keep, ahead, extra, n_out, by_rows)


def _best_tile(
    problem: Problem,
    rates: Rates,
    memory_limit: int,
    keep: Literal["A", "B"] | None,
    ahead: int,
    extra: int,
    n_out: int,
    by_rows: bool,
) -> Iterator[Cut]:
    """Over a grid of heights and depths, each with the widest tile that fits: the one that is predicted best."""
    m, n, k = problem.shape
    align = ALIGN[problem.on_device]
    sizes = [layout.dtype.itemsize for layout in problem.operands().values()]
    tm, tk = np.meshgrid(_ladder(m), _ladder(k), indexing="ij")
    deep = -(-k // tk)
    n_a = np.zeros_like(tm) if not problem.A.streams else deep + extra if keep == "A" else np.full_like(tm, ahead)
    n_b = np.zeros_like(tm) if not problem.B.streams else deep + extra if keep == "B" else np.full_like(tm, ahead)
    ones = ones_bytes(problem, 1) if problem.out.streams else 0
    left = memory_limit - problem.fixed - n_a * _up(tm * tk * sizes[0], align) - (ones_bytes(problem, n) - ones * n)
    slack = (n_b + n_out + (ones > 0)) * (align - 1)
    per_column = n_b * tk * sizes[1] + n_out * tm * sizes[2] + ones
    tn = np.where(per_column > 0, (left - slack) // np.maximum(per_column, 1), n)
    if problem.on_device:
        chunk_a = problem.A.streams * tm * tk * sizes[0]
        most_b = LARGEST_CHUNK // np.maximum(1, tk * sizes[1]) if problem.B.streams else n
        tn = np.where(chunk_a <= LARGEST_CHUNK, np.minimum(tn, most_b), 0)
    tn = np.minimum(tn, n)
    possible = (left >= 0) & (tn >= 1)
    if not possible.any():
        return
    tm, tk, tn, n_a, n_b = (x[possible] for x in (tm, tk, tn, n_a, n_b))
    tn = _even(n, tn)
    costs = _estimate(problem, rates, tm, tn, tk, keep, n_a, n_b, n_out)["seconds"]
    for i in np.argsort(costs, kind="stable")[:3]:
        tile = int(tm[i]), int(tn[i]), int(tk[i])
        cut = Cut(tile, keep, by_rows, (int(n_a[i]), int(n_b[i]), n_out))
        if fits(problem, cut, memory_limit):
            yield cut
            return


def _ladder(size: int) -> Any:
    """Steps that divide a size into about 1, 2, 3, 4, 6, 8, 12, ... equal parts, down to 1."""
    parts = sorted({min(size, math.ceil(2 ** (i / 2))) for i in range(2 * size.bit_length() + 1)})
    steps = {-(-size // part) for part in parts}
    rounded = {min(size, -(-step // 64) * 64) for step in steps if step > 128}
    return np.array(sorted(steps | rounded | {1}), np.int64)


def _even(size: int, step: Any) -> Any:
    """Steps no larger than these that cut the size into as many, nearly equal parts; multiples of 16 where they fit."""
    even = -(-size // -(-size // step))
    up = -(-even // 16) * 16
    return np.where(up <= step, up, even)


def _up(n_bytes: Any, align: int) -> Any:
    return -(-n_bytes // align) * align


def estimate(problem: Problem, rates: Rates, cut: Cut) -> Costs:
    """What a cut moves and takes at these rates."""
    tm, tn, tk = (np.int64(size) for size in cut.tile)
    n_a, n_b, n_out = cut.buffers
    m, n, k = problem.shape
    if not m * n:
        return Costs((0, 0, 0), 0.0, 0.0, 0.0, 0.0)
    if not k:
        seconds = problem.out.streams * float(_tile_seconds(problem.out, rates, problem.on_device, tm, tn, m, n))
        seconds *= -(-m // int(tm)) * -(-n // int(tn))
        return Costs((0, 0, problem.out.streams * problem.out.nbytes), 0.0, seconds, 0.0, seconds)
    found = _estimate(problem, rates, tm, tn, tk, cut.kept, n_a, n_b, n_out)
    wide_m, wide_n = -(-m // cut.tile[0]), -(-n // cut.tile[1])
    at_once = wide_m * wide_n == 1 and cut.tile[2] >= k
    times_a = 1 if at_once or cut.kept == "A" else wide_n
    times_b = 1 if at_once or cut.kept == "B" else wide_m
    moved = (
        problem.A.streams * times_a * problem.A.nbytes,
        problem.B.streams * times_b * problem.B.nbytes,
        problem.out.streams * problem.out.nbytes,
    )
    return Costs(moved, *(float(found[name]) for name in ("read", "write", "arithmetic", "seconds")))


def _estimate(
    problem: Problem,
    rates: Rates,
    tm: Any,
    tn: Any,
    tk: Any,
    keep: Literal["A", "B"] | None,
    n_a: Any,
    n_b: Any,
    n_out: int,
) -> dict[str, Any]:
    """`estimate` for arrays of tile sizes at once."""
    m, n, k = problem.shape
    on_device = problem.on_device
    wide_m, wide_n, wide_k = -(-m // tm), -(-n // tn), -(-k // tk)
    steps = 1.0 * wide_m * wide_n * wide_k
    along, across, deep = _EDGES[on_device]
    by_row, by_column = (along, across) if problem.out.block_order == "F" else (across, along)
    longer = 1 + by_row / tm + by_column / tn + deep / tk
    step_seconds = 2.0 * m * n * k / rates.arithmetic * longer / steps + _CALL_SECONDS[on_device]
    one_chunk = steps == 1.0  # in floating point: the product of the three may be beyond 64 bits
    loads_a = np.where(one_chunk, 1.0, 1.0 * wide_m * wide_k * (1 if keep == "A" else wide_n)) * problem.A.streams
    loads_b = np.where(one_chunk, 1.0, 1.0 * wide_n * wide_k * (1 if keep == "B" else wide_m)) * problem.B.streams
    chunk_a, chunk_b = (
        layout.streams * _chunk_seconds(layout, rates, on_device, rows, columns)
        for layout, rows, columns in ((problem.A, tm, tk), (problem.B, tk, tn))
    )
    # Chunks at the edges are smaller: what all of them hold is each operand, as often as it is read.
    part_a, part_b = 1.0 * m * k / (wide_m * wide_k * tm * tk), 1.0 * k * n / (wide_k * wide_n * tk * tn)
    chunk_a, chunk_b = chunk_a * part_a, chunk_b * part_b
    read = loads_a * chunk_a + loads_b * chunk_b
    write = problem.out.streams * wide_m * wide_n * _tile_seconds(problem.out, rates, on_device, tm, tn, m, n)

    both = np.minimum(loads_a, loads_b)  # products that wait for a chunk of each; with one operand in place, of it
    alone = np.maximum(loads_a, loads_b) - both
    often = np.where(loads_a > loads_b, chunk_a, chunk_b)
    serial_a, serial_b = (chunk * (n == 1) for chunk, n in ((chunk_a, n_a), (chunk_b, n_b)))
    serial_often = np.where(loads_a > loads_b, serial_a, serial_b)
    seconds = both * (serial_a + serial_b + np.maximum(step_seconds, chunk_a + chunk_b - serial_a - serial_b))
    seconds = seconds + alone * (serial_often + np.maximum(step_seconds, often - serial_often))
    seconds = seconds + (steps - both - alone) * step_seconds
    first = np.where(n_a > 1, chunk_a, 0) + np.where(n_b > 1, chunk_b, 0)
    seconds = seconds + first
    last = write / (wide_m * wide_n)
    seconds = np.maximum(seconds, write) + last if n_out == 2 else seconds + write
    if problem.cores:  # copies take a core from the products
        seconds = seconds + (read + write) / problem.cores
    seconds = seconds + 0.01 * (read + write)
    item_a, item_b, item_out = (layout.dtype.itemsize for layout in problem.operands().values())
    if on_device:
        n_a, n_b = np.minimum(n_a, 2), np.minimum(n_b, 2)
    touched = 1.0 * n_a * tm * tk * item_a + 1.0 * n_b * tk * tn * item_b
    touched = touched + n_out * (min(BAND, problem.out.nbytes) if on_device else 1.0 * tm * tn * item_out)
    seconds = seconds + touched / _NEW_MEMORY
    return {
        "read": read,
        "write": write,
        "arithmetic": steps * step_seconds,
        "seconds": seconds,
    }


def _chunk_seconds(layout: Layout, rates: Rates, on_device: bool, rows: Any, columns: Any) -> Any:
    """To bring one chunk from where it lies to where it is multiplied: on a GPU, reading and copying overlap."""
    n_bytes = 1.0 * rows * columns * layout.dtype.itemsize
    rate = rates.read if layout.place == "file" else rates.copy
    seconds = n_bytes / rate + _PIECE_SECONDS[layout.place] * layout.pieces(rows, columns)
    return np.maximum(seconds, n_bytes / rates.to_device) if on_device else seconds


def _tile_seconds(layout: Layout, rates: Rates, on_device: bool, tm: Any, tn: Any, m: int, n: int) -> Any:
    """To take one tile of out, of average size, to where it belongs."""
    part = 1.0 * m * n / (-(-m // tm) * -(-n // tn) * tm * tn)
    n_bytes = part * tm * tn * layout.dtype.itemsize
    if layout.place == "device":
        return 0.0 * n_bytes
    rate = rates.write if layout.place == "file" else rates.copy
    seconds = n_bytes / rate + _PIECE_SECONDS[layout.place] * layout.pieces(tm, tn)
    return np.maximum(seconds, n_bytes / rates.from_device) if on_device else seconds


def cores() -> int:
    """That products and copies share on this machine."""
    return max(1, read_cpu().cores)
