"""Plans and reports as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ._plan import MatmulPlan, MatmulReport


def plan_table(plan: MatmulPlan) -> str:
    """What is computed, how it is cut, what it moves, what bounds it and how long it should take."""
    return "\n".join([*_matrices(plan), *_cut(plan), *_predicted(plan)])


def report_table(report: MatmulReport) -> str:
    """The plan, and what the run achieved beside what was predicted."""
    plan = report.plan
    costs = plan.costs
    rows = [("", "predicted", "achieved")]
    rows.append(("time", _seconds(costs.seconds), _seconds(report.seconds)))
    if plan.flops:
        expected = plan.flops / max(costs.seconds, 1e-12)
        rows.append(("arithmetic", _flops(expected), _flops(report.flops_per_second)))
    for name, n_bytes, predicted, busy in (
        ("reading", report.bytes_read, costs.read_seconds, report.read_seconds),
        ("writing", report.bytes_written, costs.write_seconds, report.write_seconds),
    ):
        if n_bytes:
            rows.append((name, _rate(n_bytes, predicted), _rate(n_bytes, busy)))
    reached = f"Reached {100 * report.share:.0f} % of what the rates allow; bound by {plan.bound}."
    lines = [*_matrices(plan), *_cut(plan), "", *_columns(rows), "", reached]
    return "\n".join(lines)


def _matrices(plan: MatmulPlan) -> list[str]:
    problem, (m, n, k) = plan.problem, plan.problem.shape
    f = "" if problem.activation == "identity" else problem.activation
    inner = f"A·B{' + bias' if problem.bias else ''}"
    lines = [
        f"out = {f}({inner})" if f else f"out = {inner}",
        f"({m:,} × {n:,}) = ({m:,} × {k:,})·({k:,} × {n:,}) on {problem.device}",
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
                _bytes(layout.nbytes),
                "{:,} × {:,}".format(*shapes[name]),
                str(buffers) if buffers else "in place",
                (_bytes(moved) + (f" ({times:g} times)" if times > 1 else "")) if buffers else "—",
            )
        )
    return lines + _columns(rows, left=(0, 1))


def _cut(plan: MatmulPlan) -> list[str]:
    along = " × ".join(f"{count:,}" for count in plan.counts)
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
    locked = f", and {_bytes(plan.page_locked)} of page-locked host memory" if plan.problem.on_device else ""
    lines.append(
        f"memory    {_bytes(plan.memory_used)} of {_bytes(plan.memory_limit)}{locked} "
        f"(the smallest that works: {plan.minimum:,} bytes)"
    )
    return lines


def _predicted(plan: MatmulPlan) -> list[str]:
    costs, rates = plan.costs, plan.rates
    amount = f"{plan.flops / 1e9:,.1f} GFLOP" if plan.flops >= 1e9 else f"{plan.flops / 1e6:,.3g} MFLOP"
    about = f"{amount} at {_flops(rates.arithmetic)}"
    rows = [("arithmetic", _seconds(costs.arithmetic_seconds), about)]
    moved_in = costs.moved[0] + costs.moved[1]
    if moved_in:
        about = f"{_bytes(moved_in)} at {_rate(moved_in, costs.read_seconds)}"
        rows.append(("reading", _seconds(costs.read_seconds), about))
    if costs.moved[2]:
        about = f"{_bytes(costs.moved[2])} at {_rate(costs.moved[2], costs.write_seconds)}"
        rows.append(("writing", _seconds(costs.write_seconds), about))
    rows.append(("all of it", _seconds(costs.seconds), f"bound by {plan.bound}"))
    return ["", *_columns(rows, left=(0, 2))]


def _columns(rows: Sequence[tuple[str, ...]], left: tuple[int, ...] = (0,)) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if i in left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _bytes(n: float) -> str:
    from .._memory import human

    return human(n)


def _seconds(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.1f} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"


def _rate(n_bytes: float, seconds: float) -> str:
    return "—" if seconds <= 0 or math.isinf(seconds) else f"{n_bytes / seconds / 1e9:.3g} GB/s"
