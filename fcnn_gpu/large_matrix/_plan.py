"""A plan: how a product is cut into tiles, what that takes, and how long; and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._types import DType
from ._placement import Layout
from ._rates import Rates


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
class MatmulPlan:
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
        from ._table import plan_table

        return plan_table(self)


@dataclass(frozen=True)
class MatmulReport:
    """What a run achieved, beside what was predicted. `print` it for a table.

    Attributes:
        plan: the plan that was followed.
        seconds: of the whole run.
        read_seconds: in which the reading thread was busy (on a GPU: with filling page-locked memory).
        write_seconds: in which the writing thread was.
        bytes_read, bytes_written: that were moved.
        products: how many there were.
    """

    plan: MatmulPlan
    seconds: float
    read_seconds: float
    write_seconds: float
    bytes_read: int
    bytes_written: int
    products: int

    @property
    def flops_per_second(self) -> float:
        return self.plan.flops / max(self.seconds, 1e-12)

    @property
    def bytes_per_second(self) -> float:
        """Of reading and writing together, over the whole time."""
        return (self.bytes_read + self.bytes_written) / max(self.seconds, 1e-12)

    @property
    def share(self) -> float:
        """Of the ceiling: the least time that the rates allow over the time that it took."""
        return self.plan.ceiling_seconds / max(self.seconds, 1e-12)

    def __str__(self) -> str:
        from ._table import report_table

        return report_table(self)


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
