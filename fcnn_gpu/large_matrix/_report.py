"""What came of a plan: a run, beside what was predicted."""

from __future__ import annotations

from dataclasses import dataclass

from .._html import ShownAsText
from ._plan import MatmulPlan, tiles_of
from ._table import aligned, byte_rate, duration, flop_rate


@dataclass(frozen=True)
class MatmulReport(ShownAsText):
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
        return "\n".join([*tiles_of(self.plan), *_outcome(self)])


def _outcome(report: MatmulReport) -> list[str]:
    plan, costs = report.plan, report.plan.costs
    rows = [("", "predicted", "achieved")]
    rows.append(("time", duration(costs.seconds), duration(report.seconds)))
    if plan.flops:
        expected = plan.flops / max(costs.seconds, 1e-12)
        rows.append(("arithmetic", flop_rate(expected), flop_rate(report.flops_per_second)))
    for name, n_bytes, predicted, busy in (
        ("reading", report.bytes_read, costs.read_seconds, report.read_seconds),
        ("writing", report.bytes_written, costs.write_seconds, report.write_seconds),
    ):
        if n_bytes:
            rows.append((name, byte_rate(n_bytes, predicted), byte_rate(n_bytes, busy)))
    reached = f"Reached {100 * report.share:.0f} % of what the rates allow; bound by {plan.bound}."
    return ["", *aligned(rows), "", reached]
