"""Whole networks: how fast in each library, where our time goes, and what a first step costs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from . import _numbers as show
from ._reading import (
    JOBS,
    absences_in,
    achieved,
    best_of,
    case_name,
    ceilings_for,
    groups,
    libraries_in,
    place_of,
    verdict,
)
from ._table import NOTHING, Cell, Column, Section, Table, cells
from .results import OURS, CaseResult, Ceilings, Spread, Timing

_HOW_TO_READ_CASES = [
    "A library counts by its fastest variant in each case, ours too. ratio: the best peer's time over ours, round by "
    f"round, median and quartiles; above 1, {OURS} is faster.",
    "products: our matrix products alone, the floor for all that is around them. calls: the same step on layers of one "
    "unit, which is the interpreter and the calls alone. of peak: achieved FLOP/s beside the large product's; of copy: "
    "the least bytes that must move per second beside a copy of as many.",
]


_NAME = 22
"""Characters: "784-2048-2048-10, 512" stays in one line, and a longer name is broken."""


def case_section(results: list[CaseResult], ceilings: list[Ceilings]) -> Section:
    """For every device, number type and job: speed, parts of our time, first steps; then every timing for files."""
    tables = [table for cases in groups(results) for table in _case_tables(cases, ceilings)]
    return Section("Networks", _HOW_TO_READ_CASES, [*tables, _every_timing(results)])


def _case_tables(cases: list[CaseResult], ceilings: list[Ceilings]) -> Iterator[Table]:
    yield _speed(cases)
    yield _where_the_time_goes(cases, ceilings)
    yield _cold(cases)


def _title(cases: list[CaseResult], what: str) -> str:
    return f"{JOBS[cases[0].job]}, {place_of(cases[0])}, {cases[0].dtype}: {what}"


def _has_variants(cases: list[CaseResult]) -> bool:
    """Whether there is more to say of ours than its name."""
    return any(case.ours.variant for case in cases)


def _speed(cases: list[CaseResult]) -> Table:
    libraries = libraries_in(cases)
    columns = [Column("net, batch", True, keeps=_NAME), Column(OURS), *(Column(name, optional=1) for name in libraries)]
    below = _verdicts(cases) + absences_in({case_name(case): case.absent for case in cases}) + _agreement(cases)
    rows = []
    if libraries:
        columns += [Column("ratio"), Column("quartiles", optional=2)]
        columns += [Column("ours", True, optional=3)] if _has_variants(cases) else []
        columns += [Column("against", True, optional=3)]
    for case in cases:
        best_times = [best_of(library, case) for library in (OURS, *libraries)]
        fastest = min(timing.warm.median for timing in best_times if timing is not None)
        row = cells(case_name(case), *(_speed_cell(case, timing, fastest) for timing in best_times))
        rows.append(row + (_ratio_cells(case, _has_variants(cases)) if libraries else []))
    return Table(_title(cases, "samples per second"), columns, rows, below)


def _speed_cell(case: CaseResult, timing: Timing | None, fastest: float) -> Cell:
    if timing is None:
        return NOTHING
    median = timing.warm.median
    return Cell(show.rate(case.batch / median), "fastest" if median == fastest else "")


def _ratio_cells(case: CaseResult, has_variants: bool) -> list[Cell]:
    best = case.best_peer
    variant = cells(case.ours.variant) if has_variants else []
    if best is None:
        return [NOTHING] * 2 + variant + [NOTHING]
    ratio = case.ratio(best)
    return cells(Cell(show.times(ratio.median), verdict(ratio)), show.quartiles(ratio), *variant, best.label)


def _verdicts(cases: list[CaseResult]) -> list[str]:
    """How often ours is ahead, and the mean ratio."""
    ratios = [case.ratio(best) for case in cases if (best := case.best_peer) is not None]
    if not ratios:
        return []
    marks = [verdict(ratio) for ratio in ratios]
    mean = math.exp(sum(math.log(ratio.median) for ratio in ratios) / len(ratios))
    return [
        f"{OURS} is ahead in {marks.count('ahead')} of {len(marks)} cases, level in {marks.count('level')} (the "
        f"quartiles enclose 1), behind in {marks.count('behind')}; geometric mean {show.times(mean)}.",
    ]


def _agreement(cases: list[CaseResult]) -> list[str]:
    compared = [(case, agreement) for case in cases for agreement in case.agreements]
    if not compared:
        return []
    case, worst = max(compared, key=lambda pair: pair[1].deviation / pair[1].limit)
    label = f"{worst.library} {worst.variant}".strip()
    return [
        f"Compared with {OURS} before timing: of {len(compared)} deviations the largest, measured by its limit of "
        f"{show.small(worst.limit)}, is {show.small(worst.deviation)} ({label}, {case_name(case)})."
    ]


def _where_the_time_goes(cases: list[CaseResult], ceilings: list[Ceilings]) -> Table:
    has_transfers = any(case.ours.transfer_seconds for case in cases)
    columns = [
        Column("net, batch", True, keeps=_NAME),
        *([Column("variant", True, optional=3)] if _has_variants(cases) else []),
        Column("time"),
        *([Column("with transfers", optional=4)] if has_transfers else []),
        Column("products", optional=1),
        Column("share"),
        Column("calls", optional=2),
        Column("GFLOP/s", optional=3),
        Column("of peak"),
        Column("GB/s", optional=5),
        Column("of copy", optional=4),
        Column("bound by", True),
        Column("because", True, optional=6),
    ]
    rows = []
    for case in cases:
        seconds = case.ours.warm.median
        ceiling = ceilings_for(case, ceilings)
        row = cells(
            case_name(case),
            *([case.ours.variant] if _has_variants(cases) else []),
            show.duration(seconds),
            *([_median(case.ours.transfer_seconds)] if has_transfers else []),
            show.duration(case.products_seconds),
            show.share(case.products_seconds / seconds),
            NOTHING if math.isnan(case.hollow_seconds) else show.share(case.hollow_seconds / seconds),
            *achieved(case.flops, case.bytes, seconds, ceiling),
            case.bound,
            case.bound_because,
        )
        rows.append(row)
    return Table(_title(cases, f"where the time of {OURS} goes"), columns, rows)


def _median(seconds: list[float] | None) -> str:
    return show.duration(Spread.of(seconds).median) if seconds else NOTHING.text


def _cold(cases: list[CaseResult]) -> Table:
    labels = list(dict.fromkeys(timing.label for case in cases for timing in case.timings))
    rows = []
    for case in cases:
        cold = {timing.label: Cell(show.duration(timing.cold_seconds)) for timing in case.timings}
        rows.append([Cell(case_name(case)), *(cold.get(label, NOTHING) for label in labels)])
    columns = [Column("net, batch", True, keeps=_NAME)]
    columns += [Column(label, optional=0 if i == 0 else 1) for i, label in enumerate(labels)]
    return Table(_title(cases, "cold, the first in its process"), columns, rows)


def _every_timing(cases: list[CaseResult]) -> Table:
    """Medians and quartiles of every variant, for those who check the summary."""
    has_transfers = any(timing.transfer_seconds for case in cases for timing in case.timings)
    has_events = any(timing.device_seconds for case in cases for timing in case.timings)
    several_types = len({case.dtype for case in cases}) > 1
    types = ["dtype"] if several_types else []
    columns = [Column(name, True) for name in ("device", "job", *types, "net, batch", "library")]
    columns += [Column(name) for name in ("median", "quartiles")]
    columns += [Column("device events")] if has_events else []
    columns += [Column("with transfers")] if has_transfers else []
    columns += [Column(name) for name in ("cold", f"{OURS} is faster by", "deviation", "limit")]
    rows = [
        _timing_row(case, timing, several_types, has_events, has_transfers)
        for group in groups(cases)
        for case in group
        for timing in case.timings
    ]
    return Table("Every timing", columns, rows, files_only=True)


def _timing_row(case: CaseResult, timing: Timing, has_types: bool, has_events: bool, has_transfers: bool) -> list[Cell]:
    warm = timing.warm
    types = [case.dtype] if has_types else []
    row = [place_of(case), case.job, *types, case_name(case), timing.label, show.duration(warm.median)]
    row.append(f"{show.duration(warm.low)} – {show.duration(warm.high)}")
    row += [_median(timing.device_seconds)] if has_events else []
    row += [_median(timing.transfer_seconds)] if has_transfers else []
    row.append(show.duration(timing.cold_seconds))
    if timing is case.ours:
        row.append("—")
    else:
        ratio = case.ratio(timing)
        row.append(f"{show.times(ratio.median)} ({show.quartiles(ratio)})")
    key = (timing.library, timing.variant)
    agreement = next((a for a in case.agreements if (a.library, a.variant) == key), None)
    row += ["—", "—"] if agreement is None else [show.small(agreement.deviation), show.small(agreement.limit)]
    return cells(*row)
