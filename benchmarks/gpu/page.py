"""A GPU report as a Markdown page that can be committed as it is."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from fcnn_gpu.bench import _numbers as show
from fcnn_gpu.bench._case_tables import case_section
from fcnn_gpu.bench._render import markdown_section
from fcnn_gpu.bench._table import NOTHING, Cell, Column, Section, Table, cells
from fcnn_gpu.bench._tables import crossover_table
from fcnn_gpu.bench.results import CaseResult, Ceilings, Crossover

from .catalogue import ALL
from .goals import targets_table
from .outcome import Outcome, Report, Run
from .results import (
    Choice,
    Compilation,
    Fact,
    Fault,
    Fit,
    FusedTiming,
    Goal,
    KernelTiming,
    KernelUse,
    LargeProduct,
    ProductTiming,
    PytestRun,
    StepTiming,
)


def to_markdown(report: Report) -> str:
    """The page: what it ran on, the targets, then part by part when and how it was measured and what was found."""
    shown = report.shown()
    order = {name: i for i, name in enumerate(ALL)}
    shown.sort(key=lambda pair: order.get(pair[1].part.name, len(order)))  # stable: an older outcome comes first
    sections = [_in_short(report, [outcome for _, outcome in shown])]
    sections += [_section(report, run, outcome) for run, outcome in shown]
    last = report.runs[-1]
    parts = [f"# GPU report: {last.setting.device}, {last.created[:10]}"]
    for section in sections:
        parts += markdown_section(section)
    return "\n\n".join(parts) + "\n"


def _in_short(report: Report, shown: list[Outcome]) -> Section:
    last = report.runs[-1]
    text = ["report.json holds every single time; benchmarks/README.md says how they are measured. Times are UTC."]
    if last.setting.is_software:
        text.append(
            "The device is a program that computes on the CPU under CUDA's names: nothing here says anything about a "
            "GPU, neither its numbers nor what passes."
        )
    if last.plan.quick:
        text.append("A quick run: few and short rounds, not to be quoted.")
    text += [f"{outcome.part.title}: {fault}." for outcome in shown for fault in _at_most(outcome.faults, 5)]
    for run in report.runs:
        if run.ended:
            text.append(f"Run {_number(report, run)} did not come to its end: {run.ended}.")
        if run.not_reached:
            text.append(f"Run {_number(report, run)} did not begin: {', '.join(run.not_reached)}.")
    targets = [] if last.setting.is_software else [targets_table(shown)]
    return Section("In short", text, [*targets, _runs_table(report)])


def _runs_table(report: Report) -> Table:
    names = ("run", "command", "began", "took", "device", "code")
    rows = []
    for i, run in enumerate(report.runs):
        setting = run.setting
        code = f"{setting.code}{f' (commit {setting.commit})' if setting.commit else ''}"
        device = f"{setting.device}, {setting.compute_capability}, {setting.uuid}"
        rows.append(cells(str(i + 1), run.command, run.created, show.duration(run.seconds), device, code))
    versions = report.runs[-1].setting.versions
    below = [f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}."] if versions else []
    for i, run in enumerate(report.runs[:-1]):
        different = report.runs[-1].setting.differences(run.setting)
        if different:
            below.append(f"Run {i + 1} was made on other software or another device: {'; '.join(different)}.")
    return Table("Runs", [Column(name, True) for name in names], rows, below)


def _number(report: Report, run: Run) -> int:
    return next(i for i, other in enumerate(report.runs) if other is run) + 1


def _section(report: Report, run: Run, outcome: Outcome) -> Section:
    """One part. Each kind of result has its tables; notes stand above them."""
    notes = [result for result in outcome.results if isinstance(result, str)]
    measured = f"Measured in run {_number(report, run)}, {outcome.created}, in {outcome.seconds:.0f} s."
    again = report.times(outcome.part.name)
    if again > 1:
        measured += f" It was measured {again} times; report.json has them all."
    text = [*outcome.part.explains, measured]
    if outcome.load is not None:
        text.append(outcome.load.sentence())
    text += notes
    text += [f"Failed: {fault.what}: {fault.message}." for fault in outcome.of(Fault)]
    if outcome.failure:
        text.append(f"This part ended early after {outcome.seconds:.0f} s: {outcome.failure}.")
    elif not outcome.results:
        text.append("Nothing was found.")
    tables = [table for kind, make in _TABLES.items() if (found := outcome.of(kind)) for table in make(found)]
    cases = [result.case if isinstance(result, Goal) else result for result in outcome.of(Goal, CaseResult)]
    ceilings = outcome.of(Ceilings)
    if ceilings:
        tables.insert(0, _ceiling_table(ceilings))
    if cases:
        contested = case_section(cases, ceilings)
        text, tables = [*text, *contested.text], [*tables, *contested.tables]
    return Section(outcome.part.title, text, tables)


# One table for each kind of result


def _facts(facts: list[Fact]) -> list[Table]:
    return [Table("Where it ran", [Column("", True), Column("", True)], [cells(f.name, f.value) for f in facts])]


def _compilations(found: list[Compilation]) -> list[Table]:
    columns = [Column("kernel instances"), Column("processes"), Column("time"), Column("failed")]
    rows = [
        cells(str(c.n_instances), str(c.n_processes), show.duration(c.seconds), str(len(c.failures))) for c in found
    ]
    below = [f"Kept in {c.folder}." for c in found if c.folder]
    return [Table("Compilation", columns, rows, below + _at_most([failure for c in found for failure in c.failures]))]


def _test_runs(runs: list[PytestRun]) -> list[Table]:
    columns = [Column("file", True), *(Column(name) for name in ("passed", "failed", "skipped", "time"))]
    tables = []
    for run in runs:
        rows = [cells(f.file, *_counts(f.passed, f.failed, f.skipped), show.duration(f.seconds)) for f in run.files]
        rows.append(cells("all", *_counts(run.passed, run.failed, run.skipped), show.duration(run.seconds)))
        processes = f"{run.n_processes} process{'es' if run.n_processes > 1 else ''} of pytest"
        below = [f"Exit status {run.exit_status}; {processes}{f'; {run.fault}' if run.fault else ''}."]
        below += _at_most([f"Failed: {failure.test}: {failure.message[:300]}" for failure in run.failures])
        below += [f"Skipped: {n} ({reason})" for reason, n in sorted(run.skips.items())]
        below += [line for line in run.last_lines.splitlines() if line.strip()]
        tables.append(Table(run.command, columns, rows, below))
    return tables


def _at_most(lines: list[str], n: int = 40) -> list[str]:
    """The first of them: report.json has all."""
    return lines if len(lines) <= n else [*lines[:n], f"... and {len(lines) - n} more."]


def _counts(*numbers: int) -> list[str]:
    return [f"{n:,}" if n else "—" for n in numbers]


def _ceiling_table(ceilings: list[Ceilings]) -> Table:
    columns = [
        Column("precision", True),
        Column("TFLOP/s"),
        Column("product", True),
        Column("copy, GB/s"),
        Column("copied"),
    ]
    rows = [
        cells(
            c.dtype,
            show.three_digits(c.product_flops_per_second / 1e12),
            c.product_shape,
            show.giga(c.copy_bytes_per_second),
            f"{c.copy_bytes / 2**20:,.0f} MiB",
        )
        for c in ceilings
    ]
    return Table("Measured ceilings", columns, rows)


def _kernel_tables(timings: list[KernelTiming]) -> list[Table]:
    columns = [
        Column("operation", True),
        Column("shape", True),
        *(Column(name) for name in ("time", "GB/s", "floor", "share", "regs", "local")),
        Column("kernels", True),
        Column("timed as", True),
    ]
    by_group: dict[tuple[str, str], list[KernelTiming]] = {}
    for timing in timings:
        by_group.setdefault((timing.dtype, timing.size), []).append(timing)
    return [
        Table(f"{dtype}, {size}", columns, [_kernel_row(timing) for timing in group])
        for (dtype, size), group in by_group.items()
    ]


def _kernel_row(timing: KernelTiming) -> list[Cell]:
    return cells(
        timing.operation,
        timing.shape,
        show.duration(timing.median),
        show.giga(timing.bytes / timing.median),
        show.duration(timing.floor_seconds),
        show.share(timing.share),
        _largest(timing.kernels, lambda use: use.registers),
        _largest(timing.kernels, lambda use: use.local_bytes),
        ", ".join(dict.fromkeys(use.expression for use in timing.kernels)),
        timing.timed_as,
    )


def _largest(kernels: list[KernelUse], of: Callable[[KernelUse], int | None]) -> Cell:
    known = [value for use in kernels if (value := of(use)) is not None]
    return Cell(str(max(known))) if known else NOTHING


def _product_tables(timings: list[ProductTiming]) -> list[Table]:
    columns = [
        Column("product", True),
        *(Column(name) for name in ("m", "n", "k", "time", "TFLOP/s", "of the ceiling")),
        Column("timed as", True),
    ]
    by_precision: dict[str, list[ProductTiming]] = {}
    for timing in timings:
        by_precision.setdefault(timing.precision, []).append(timing)
    return [
        Table(f"Products of the nets, {precision}", columns, [_product_row(timing) for timing in group])
        for precision, group in by_precision.items()
    ]


def _product_row(timing: ProductTiming) -> list[Cell]:
    return cells(
        timing.what,
        *(f"{size:,}" for size in (timing.m, timing.n, timing.k)),
        show.duration(statistics.median(timing.seconds)),
        show.three_digits(timing.flops_per_second / 1e12),
        show.share(timing.flops_per_second / timing.ceiling_flops_per_second),
        timing.timed_as,
    )


def _choices(found: list[Choice]) -> list[Table]:
    columns = [Column("layer", True), Column("chosen", True), Column("times", True)]
    rows = [cells(choice.layer, choice.chosen, choice.times or "—") for choice in found]
    return [Table("What the autotuner took for the layers", columns, rows)]


def _step_tables(timings: list[StepTiming]) -> list[Table]:
    columns = [
        Column("net, batch", True),
        Column("queued as", True),
        *(Column(name) for name in ("step", "host", "device", "samples/s", "times as fast as eager")),
    ]
    eager = {(t.net, t.batch): statistics.median(t.seconds) for t in timings if t.steps_per_graph == 0}
    rows = []
    for timing in timings:
        seconds = statistics.median(timing.seconds)
        base = eager.get((timing.net, timing.batch))
        steps = timing.steps_per_graph
        rows.append(
            cells(
                f"{timing.net}, {timing.batch}",
                f"graph of {steps} step{'s' if steps > 1 else ''}" if steps else "eager",
                show.duration(seconds),
                show.share(min(1.0, statistics.median(timing.host_seconds) / seconds)),
                show.duration(statistics.median(timing.device_seconds)),
                show.rate(timing.batch / seconds),
                NOTHING if base is None else show.times(base / seconds),
            )
        )
    return [Table("Eager steps and graphs, float32", columns, rows)]


def _fused_tables(timings: list[FusedTiming]) -> list[Table]:
    columns = [
        Column("net, batch", True),
        Column("precision", True),
        *(Column(name) for name in ("one kernel", "layer by layer", "times as fast")),
    ]
    rows = []
    for timing in timings:
        fused, separate = statistics.median(timing.fused_seconds), statistics.median(timing.separate_seconds)
        texts = (show.duration(fused), show.duration(separate), show.times(separate / fused))
        rows.append(cells(f"{timing.net}, {timing.batch}", timing.precision, *texts))
    return [Table("One kernel against layer by layer", columns, rows)]


def _large_tables(found: list[LargeProduct]) -> list[Table]:
    columns = [
        Column("precision", True),
        *(Column(name) for name in ("m × n × k", "of the device", "tile", "in", "out", "time", "predicted")),
        *(Column(name) for name in ("arithmetic", "transfer", "share")),
    ]
    rows = [
        cells(
            x.precision,
            f"{x.m:,} × {x.n:,} × {x.k:,}",
            f"{x.memory_limit / 1e9:g} GB",
            " × ".join(f"{size:,}" for size in x.tile),
            f"{x.bytes_in / 1e9:.1f} GB",
            f"{x.bytes_out / 1e9:.1f} GB",
            show.duration(statistics.median(x.seconds)),
            show.duration(x.predicted_seconds),
            show.duration(x.arithmetic_seconds),
            show.duration(x.transfer_seconds),
            show.share(x.share),
        )
        for x in found
    ]
    return [Table("Products in chunks", columns, rows)]


def _fit_tables(found: list[Fit]) -> list[Table]:
    columns = [
        Column("data", True),
        Column("net, batch", True),
        *(Column(name) for name in ("epochs", "samples", "first fit", "later fits", "one epoch", "test accuracy")),
    ]
    rows = [
        cells(
            fit.data,
            f"{fit.net}, {fit.batch}",
            str(fit.epochs),
            f"{fit.n_samples:,}",
            show.duration(fit.first_seconds),
            show.duration(statistics.median(fit.seconds)),
            show.duration(statistics.median(fit.epoch_seconds)),
            NOTHING if fit.accuracy is None else f"{fit.accuracy:.2%}",
        )
        for fit in found
    ]
    return [Table("Trainer.fit", columns, rows)]


_TABLES: dict[type, Callable[[list[Any]], list[Table]]] = {
    Fact: _facts,
    Compilation: _compilations,
    PytestRun: _test_runs,
    ProductTiming: _product_tables,
    Choice: _choices,
    StepTiming: _step_tables,
    FusedTiming: _fused_tables,
    LargeProduct: _large_tables,
    Fit: _fit_tables,
    KernelTiming: _kernel_tables,
    Crossover: lambda crossovers: [crossover_table(crossover) for crossover in crossovers],
}
