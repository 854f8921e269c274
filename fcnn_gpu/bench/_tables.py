"""What a report says, section by section."""

from __future__ import annotations

from . import _numbers as show
from ._case_tables import case_section
from ._reading import absences_in, achieved, best_of, case_name, ceilings_for, libraries_in, place_of, verdict
from ._set_up_tables import set_up_section
from ._table import NOTHING, Cell, Column, Section, Table, cells
from .results import OURS, Ceilings, Crossover, EpochResult, OperationResult, Report, Spread, Timing

_HOW_TO_READ_OPERATIONS = [
    "of peak: achieved FLOP/s beside the large product's; of copy: bytes per second, each array counted once, beside a "
    f"copy of as many. A library's number is its time over ours: above 1, {OURS} is faster.",
]
_HOW_TO_READ_EPOCHS = [
    "fit: an epoch of Trainer.fit with metrics, validation and progress on. fit costs: what it takes beyond the bare "
    "steps, epoch by epoch, the validation passes left out; with validation: the same with them. once per fit: what a "
    "call takes outside its epochs."
]

_HOW_TO_READ_CROSSOVERS = ["ratio: the CPU's time over the GPU's; above 1, the GPU is faster."]


def sections(report: Report) -> list[Section]:
    """Everything in the report, in reading order; what was not measured has no section."""
    found = [set_up_section(report)]
    if report.cases:
        found.append(case_section(report.cases, report.ceilings))
    if report.operations:
        tables = _operations(report.operations, report.ceilings)
        found.append(Section("Single operations", _HOW_TO_READ_OPERATIONS, tables))
    if report.epochs:
        found.append(Section("A whole epoch", _HOW_TO_READ_EPOCHS, [_epochs(report.epochs)]))
    if report.crossovers:
        found.append(
            Section(
                "CPU against GPU",
                _HOW_TO_READ_CROSSOVERS,
                [crossover_table(crossover) for crossover in report.crossovers],
            )
        )
    return found


def _operations(operations: list[OperationResult], ceilings: list[Ceilings]) -> list[Table]:
    by_device: dict[str, list[OperationResult]] = {}
    for operation in operations:
        by_device.setdefault(place_of(operation), []).append(operation)
    return [_operation_table(place, found, ceilings) for place, found in by_device.items()]


def _operation_table(place: str, operations: list[OperationResult], ceilings: list[Ceilings]) -> Table:
    libraries = libraries_in(operations)
    columns = [
        Column("operation", True, keeps=22),
        Column("shape", True, keeps=14),
        Column("dtype", True, optional=3 if len({o.dtype for o in operations}) == 1 else 0),
        Column("time"),
        Column("GFLOP/s", optional=4),
        Column("of peak", optional=1),
        Column("GB/s", optional=4),
        Column("of copy", optional=1),
        Column("cold", optional=5),
        *(Column(library, optional=2) for library in libraries),
        Column("bound by", True),
        Column("because", True, optional=6),
        Column("deviation", optional=7),
    ]
    rows = []
    for result in operations:
        seconds = result.warm.median
        ceiling = ceilings_for(result, ceilings)
        peers = [best_of(library, result) for library in libraries]
        rows.append(
            cells(
                result.operation,
                result.shape,
                result.dtype,
                show.duration(seconds),
                *achieved(result.flops, result.bytes, seconds, ceiling),
                show.duration(result.cold_seconds),
                *(_peer_cell(result, peer) for peer in peers),
                result.bound,
                result.bound_because,
                show.small(result.deviation),
            )
        )
    below = absences_in({f"{result.operation} {result.shape}": result.absent for result in operations})
    return Table(f"Operations, {place}", columns, rows, below)


def _peer_cell(result: OperationResult, peer: Timing | None) -> Cell:
    if peer is None:
        return NOTHING
    ratio = result.ratio(peer)
    return Cell(show.times(ratio.median), verdict(ratio))


def _epochs(epochs: list[EpochResult]) -> Table:
    columns = [
        Column("net, batch", True, keeps=22),
        Column("device", True, optional=2),
        Column("samples", optional=1),
        Column("fit"),
        Column("validation", optional=1),
        Column("bare steps"),
        Column("fit costs"),
        Column("quartiles", optional=3),
        Column("with validation"),
        Column("once per fit", optional=1),
    ]
    rows = []
    for epoch in epochs:
        fit, bare = Spread.of(epoch.fit_seconds).median, Spread.of(epoch.bare_seconds).median
        overhead = epoch.overhead
        rows.append(
            cells(
                case_name(epoch),
                place_of(epoch),
                f"{epoch.n_samples:,}",
                show.duration(fit),
                show.duration(Spread.of(epoch.validation_seconds).median),
                show.duration(bare),
                show.signed_share(overhead.median),
                f"{show.signed_share(overhead.low)} to {show.signed_share(overhead.high)}",
                show.signed_share(epoch.overhead_with_validation.median),
                show.duration(Spread.of(epoch.preparation_seconds).median),
            )
        )
    return Table("One epoch of Trainer.fit against its bare steps", columns, rows)


def crossover_table(crossover: Crossover) -> Table:
    """CPU and GPU point by point, and where the GPU overtakes."""
    columns = [
        Column(crossover.axis),
        Column("CPU" if crossover.threads is None else f"CPU, {show.threads(crossover.threads)}"),
        Column("GPU"),
        Column("CPU samples/s", optional=1),
        Column("GPU samples/s", optional=1),
        Column("ratio"),
    ]
    rows = []
    for point in crossover.points:
        ratio = point.cpu_seconds / point.gpu_seconds
        rows.append(
            cells(
                f"{point.batch if crossover.axis == 'batch' else point.width:,}",
                show.duration(point.cpu_seconds),
                show.duration(point.gpu_seconds),
                show.rate(point.batch / point.cpu_seconds),
                show.rate(point.batch / point.gpu_seconds),
                show.times(ratio),
            )
        )
    return Table(
        f"Training step by {crossover.axis}: {crossover.fixed}",
        columns,
        rows,
        [f"{crossover.conclusion[0].upper()}{crossover.conclusion[1:]}."],
    )
