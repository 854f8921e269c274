"""A plan: how a product is cut into tiles, what that takes, and how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._html import ShownAsText
from .._types import DType
from ..memory import human
from ._placement import Layout
from ._rates import Rates
from ._table import aligned, byte_rate, duration, flop_rate


@dataclass(frozen=True)
class Problem:
    """out = f(A·B + bias): where the matrices lie, and what else the plan depends on.

    Attributes:
        A, B, out: the layouts.
        bias: whether there is one.
        activation: f's name.
        on_device: whether the product is a device's, so that what streams also goes through page-locked host memory.
        fixed: bytes that are needed beside the buffers.
        cores: that copies and products share; 0 where products are a device's.
        device: where it is computed, for the table.
    """

    A: Layout
    B: Layout
    out: Layout
    bias: bool = False
    activation: str = "identity"
    on_device: bool = False
    fixed: int = 0
    cores: int = 1
    device: str = "the CPU"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(m, n, k)"""
        return self.A.rows, self.B.columns, self.A.columns

    @property
    def flops(self) -> int:
        m, n, k = self.shape
        return 2 * m * n * k

    def operands(self) -> dict[str, Layout]:
        return {"A": self.A, "B": self.B, "out": self.out}


@dataclass(frozen=True)
class Cut:
    """One way to go about it.

    Attributes:
        tile: (rows of out, columns of out, of the inner dimension) of one product at most.
        kept: the operand of which a row (A) or column (B) of tiles stays for all products that need it; None: both
            stream for each tile of out.
        by_rows: whether tiles of out follow each other along its rows.
        buffers: of A, B and out, each for one tile; 0 of what the product works on where it lies.
    """

    tile: tuple[int, int, int]
    kept: Literal["A", "B"] | None
    by_rows: bool
    buffers: tuple[int, int, int]


@dataclass(frozen=True)
class Costs:
    """What a cut moves and takes.

    Attributes:
        moved: bytes of A, B and out that are copied between where they lie and where they are multiplied.
        read_seconds, write_seconds, arithmetic_seconds: each by itself, at the rates.
        seconds: of all, reading, multiplying and writing at the same time as far as the buffers allow.
    """

    moved: tuple[int, int, int]
    read_seconds: float
    write_seconds: float
    arithmetic_seconds: float
    seconds: float

    @property
    def transfer_seconds(self) -> float:
        """The larger of reading and writing, which go on at a time."""
        return max(self.read_seconds, self.write_seconds)


@dataclass(frozen=True)
class MatmulPlan(ShownAsText):
    """How `chunked_matmul` computes a product. `print` it for a table.

    Attributes:
        problem: the matrices, as their layouts.
        cut: tile sizes, order and buffers.
        costs: bytes moved and predicted seconds.
        rates: what the prediction counts on.
        memory_limit: bytes that buffers may take: of the device on a GPU, else of the host.
        memory_used: bytes that they take.
        page_locked: bytes of page-locked host memory on a GPU, at most `memory_limit`, too.
        minimum: the smallest memory_limit with which this product can be computed.
    """

    problem: Problem
    cut: Cut
    costs: Costs
    rates: Rates
    memory_limit: int
    memory_used: int
    page_locked: int
    minimum: int

    @property
    def tile(self) -> tuple[int, int, int]:
        """Rows of out, columns of out and inner dimension of one product."""
        return self.cut.tile

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many tiles along m, n and k."""
        m, n, k = (-(-size // step) if size else 0 for size, step in zip(self.problem.shape, self.tile, strict=True))
        return m, n, k

    @property
    def n_products(self) -> int:
        m, n, k = self.counts
        return m * n * k

    @property
    def flops(self) -> int:
        """2mnk."""
        return self.problem.flops

    @property
    def bound(self) -> Literal["arithmetic", "transfer"]:
        """Which of the two takes longer."""
        return "arithmetic" if self.costs.arithmetic_seconds >= self.costs.transfer_seconds else "transfer"

    @property
    def ceiling_seconds(self) -> float:
        """The shortest time that the rates allow: of the larger of arithmetic and transfer, undisturbed."""
        return max(self.flops / self.rates.arithmetic, self.costs.transfer_seconds)

    @property
    def seconds(self) -> float:
        """Predicted."""
        return self.costs.seconds

    def __str__(self) -> str:
        return "\n".join([*tiles_of(self), *_prediction(self)])


def buffer_bytes(problem: Problem, cut: Cut, align: int) -> int:
    """What the buffers of a cut take, each of them rounded up to a multiple of `align`."""
    tm, tn, tk = cut.tile
    sizes = tm * tk * problem.A.dtype.itemsize, tk * tn * problem.B.dtype.itemsize, tm * tn * problem.out.dtype.itemsize
    total = sum(n * -(-size // align) * align for n, size in zip(cut.buffers, sizes, strict=True))
    return total + -(-ones_bytes(problem, tn) // align) * align


def ones_bytes(problem: Problem, columns: int) -> int:
    """A row of ones, with which a bias is added to C-ordered tiles of a device: bias·1ᵀ is a product."""
    needed = problem.on_device and problem.bias and problem.out.block_order == "C"
    width = columns if problem.out.streams else problem.out.columns
    return width * problem.out.dtype.itemsize if needed else 0


def dtype_of_sums(dtype: DType, on_device: bool) -> str:
    """The dtype that products of this one are added up in."""
    return "float32" if on_device and dtype.itemsize == 2 else dtype.name


def tiles_of(plan: MatmulPlan) -> list[str]:
    """What is computed and how it is cut, line by line."""
    return [*_matrices(plan), *_cut(plan)]


def _matrices(plan: MatmulPlan) -> list[str]:
    problem, (m, n, k) = plan.problem, plan.problem.shape
    f = "" if problem.activation == "identity" else problem.activation
    inner = f"A*B{' + bias' if problem.bias else ''}"
    lines = [
        f"out = {f}({inner})" if f else f"out = {inner}",
        f"({m:,} x {n:,}) = ({m:,} x {k:,})*({k:,} x {n:,}) on {problem.device}",
        "",
    ]
    tm, tn, tk = plan.tile
    shapes = {"A": (tm, tk), "B": (tk, tn), "out": (tm, tn)}
    rows = [("", "lies in", "size", "tile", "buffers", "moved")]
    for (name, layout), buffers, moved in zip(
        problem.operands().items(), plan.cut.buffers, plan.costs.moved, strict=True
    ):
        times = moved / layout.nbytes if layout.nbytes else 0
        where = layout.describe() + (f", {layout.dtype.name}" if layout.dtype.name != "float32" else "")
        rows.append(
            (
                name,
                where,
                human(layout.nbytes),
                "{:,} x {:,}".format(*shapes[name]),
                str(buffers) if buffers else "in place",
                (human(moved) + (f" ({times:g} times)" if times > 1 else "")) if buffers else "-",
            )
        )
    return lines + aligned(rows, left=(0, 1))


def _cut(plan: MatmulPlan) -> list[str]:
    along = " x ".join(f"{count:,}" for count in plan.counts)
    how = {
        None: "both operands stream for each tile of out",
        "A": "a row of tiles of A stays for all products that need it",
        "B": "a column of tiles of B stays for all products that need it",
    }[plan.cut.kept]
    if not any(plan.cut.buffers[:2]):
        how = "both operands are multiplied where they lie"
    elif plan.cut.kept is None and not all(plan.cut.buffers[:2]):
        how = f"{'A' if plan.cut.buffers[0] else 'B'} streams"
    lines = ["", f"products  {plan.n_products:,} ({along}): {how}"]
    locked = f", and {human(plan.page_locked)} of page-locked host memory" if plan.problem.on_device else ""
    lines.append(
        f"memory    {human(plan.memory_used)} of {human(plan.memory_limit)}{locked} "
        f"(the smallest that works: {plan.minimum:,} bytes)"
    )
    return lines


def _prediction(plan: MatmulPlan) -> list[str]:
    costs, rates = plan.costs, plan.rates
    amount = f"{plan.flops / 1e9:,.1f} GFLOP" if plan.flops >= 1e9 else f"{plan.flops / 1e6:,.3g} MFLOP"
    about = f"{amount} at {flop_rate(rates.arithmetic)}"
    rows = [("arithmetic", duration(costs.arithmetic_seconds), about)]
    moved_in = costs.moved[0] + costs.moved[1]
    if moved_in:
        about = f"{human(moved_in)} at {byte_rate(moved_in, costs.read_seconds)}"
        rows.append(("reading", duration(costs.read_seconds), about))
    if costs.moved[2]:
        about = f"{human(costs.moved[2])} at {byte_rate(costs.moved[2], costs.write_seconds)}"
        rows.append(("writing", duration(costs.write_seconds), about))
    rows.append(("all of it", duration(costs.seconds), f"bound by {plan.bound}"))
    return ["", *aligned(rows, left=(0, 2))]
