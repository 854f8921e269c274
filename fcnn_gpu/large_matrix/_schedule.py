"""The order of a plan's work: which chunk goes into which buffer, when it may, and which products come in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._plan import MatmulPlan


@dataclass(frozen=True)
class Load:
    """A chunk of an operand to be read.

    Attributes:
        operand: "A" or "B".
        buffer: number of the buffer that it goes into.
        after: how many products must be done before, because they work on what is in the buffer.
    """

    operand: str
    buffer: int
    after: int


@dataclass(frozen=True)
class Step:
    """One product: out[rows, columns] += A[rows, inner]·B[inner, columns].

    Attributes:
        rows, columns, inner: of the matrices; inner is empty where the whole inner dimension is.
        buffers: of A, B and out; −1 where the product works on the matrix itself.
        loads: what to read before it.
        is_first, is_last: of the products of its tile.
        tile: number of its tile, in the order in which tiles are finished.
    """

    rows: slice
    columns: slice
    inner: slice
    buffers: tuple[int, int, int]
    loads: tuple[Load, ...]
    is_first: bool
    is_last: bool
    tile: int


class _Ring:
    """The buffers of an operand in turn: which chunk each holds, and the products up to its last use."""

    def __init__(self, operand: str, n: int, keeps: bool) -> None:
        self.operand, self.n, self.keeps = operand, n, keeps
        self._holds: list[tuple[int, int] | None] = [None] * n
        self._busy_until = [0] * n
        self._where: dict[tuple[int, int], int] = {}
        self._next = 0

    def use(self, chunk: tuple[int, int], step: int) -> tuple[int, Load | None]:
        """The buffer with this chunk for product number `step`, and what must be loaded for it."""
        if not self.n:
            return -1, None
        load = None
        found = self._where.get(chunk) if self.keeps else None
        if found is None:
            found, self._next = self._next, (self._next + 1) % self.n
            load = Load(self.operand, found, self._busy_until[found])
            before = self._holds[found]
            if before is not None:
                self._where.pop(before, None)
            self._holds[found], self._where[chunk] = chunk, found
        self._busy_until[found] = step + 1
        return found, load


def steps_of(plan: MatmulPlan) -> Iterator[Step]:
    """All products of a plan, in order. Tiles whose inner dimension is empty have one step without loads."""
    (m, n, k), (tm, tn, tk), cut = plan.problem.shape, plan.tile, plan.cut
    wide_m, wide_n, wide_k = plan.counts
    only = wide_m * wide_n * wide_k == 1
    rings = (
        _Ring("A", cut.buffers[0] if k else 0, cut.kept == "A" or only),
        _Ring("B", cut.buffers[1] if k else 0, cut.kept == "B" or only),
    )
    number = 0
    for tile in range(wide_m * wide_n):
        i, j = divmod(tile, wide_n) if cut.by_rows else divmod(tile, wide_m)[::-1]
        rows, columns = slice(i * tm, min(m, (i + 1) * tm)), slice(j * tn, min(n, (j + 1) * tn))
        for p in range(max(1, wide_k)):
            buffer_a, load_a = rings[0].use((i, p), number)
            buffer_b, load_b = rings[1].use((p, j), number)
            yield Step(
                rows=rows,
                columns=columns,
                inner=slice(p * tk, min(k, (p + 1) * tk)),
                buffers=(buffer_a, buffer_b, tile % cut.buffers[2] if cut.buffers[2] else -1),
                loads=tuple(load for load in (load_a, load_b) if load is not None),
                is_first=p == 0,
                is_last=p == max(1, wide_k) - 1,
                tile=tile,
            )
            number += 1


def bytes_to_move(plan: MatmulPlan) -> tuple[int, int, int]:
    """Of A, B and out, counted step by step."""
    moved = {"A": 0, "B": 0, "out": 0}
    layouts = plan.problem.operands()
    for step in steps_of(plan):
        rows, columns, inner = (part.stop - part.start for part in (step.rows, step.columns, step.inner))
        sizes = {"A": rows * inner, "B": inner * columns}
        for load in step.loads:
            moved[load.operand] += sizes[load.operand] * layouts[load.operand].dtype.itemsize
        if step.is_last and step.buffers[2] >= 0:
            moved["out"] += rows * columns * layouts["out"].dtype.itemsize
    return moved["A"], moved["B"], moved["out"]
