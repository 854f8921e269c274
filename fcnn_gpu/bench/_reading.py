"""What tables and pictures read out of results: who was fastest, against which ceiling, in which group."""

from __future__ import annotations

from collections.abc import Iterable

from . import _numbers as show
from ._table import NOTHING, Cell, Mark
from .results import Absent, CaseResult, Ceilings, Crossover, EpochResult, OperationResult, Spread, Timing

JOBS = {"train": "Training step", "infer": "Inference"}


def groups(cases: Iterable[CaseResult]) -> list[list[CaseResult]]:
    """The cases that can stand in one table: same device, threads, number type and job."""
    found: dict[tuple[str, str, str], list[CaseResult]] = {}
    for case in cases:
        found.setdefault((place_of(case), case.dtype, case.job), []).append(case)
    return list(found.values())


def place_of(result: CaseResult | OperationResult | EpochResult | Ceilings) -> str:
    """The device and, of a CPU, how many threads computed there."""
    return result.device if result.threads is None else f"{result.device}, {show.threads(result.threads)}"


def case_name(case: CaseResult | EpochResult) -> str:
    """The net and the batch size, as in "784-128-10, 32"."""
    return f"{case.net}, {case.batch}"


def libraries_in(results: Iterable[CaseResult | OperationResult]) -> list[str]:
    """All that were timed beside ours, in the order in which they first appear."""
    return list(dict.fromkeys(timing.library for result in results for timing in result.peers))


def best_of(library: str, case: CaseResult | OperationResult) -> Timing | None:
    """The library's fastest variant in this case."""
    timings = case.timings if isinstance(case, CaseResult) else case.peers
    mine = [timing for timing in timings if timing.library == library]
    return min(mine, key=lambda timing: timing.warm.median, default=None)


def verdict(ratio: Spread) -> Mark:
    """Ahead or behind where both quartiles are, else level."""
    return "ahead" if ratio.low > 1 else "behind" if ratio.high < 1 else "level"


def ceilings_for(result: CaseResult | OperationResult, ceilings: Iterable[Ceilings]) -> Ceilings | None:
    """The ceilings that were measured where the result was, in its number type or, for short ones, in float32.

    A network on a CPU is every backend's: what the fastest of them reaches holds for it.
    """
    there = [c for c in ceilings if c.threads == result.threads]
    same = [c for c in there if c.device == result.device]
    if not same and result.device.startswith("CPU"):
        same = [c for c in there if c.device.startswith("CPU")]
    same.sort(key=lambda c: c.product_flops_per_second)
    found = {c.dtype: c for c in same}
    return found.get(result.dtype, found.get("float32"))


def roof_seconds(result: CaseResult | OperationResult, ceilings: Ceilings) -> float:
    """The least time that arithmetic and memory allow: max(FLOP / FLOP/s of a product, bytes / bytes/s of a copy)."""
    return max(result.flops / ceilings.product_flops_per_second, result.bytes / ceilings.copy_rate(result.bytes))


def achieved(flops: float, n_bytes: float, seconds: float, ceiling: Ceilings | None) -> list[Cell]:
    """GFLOP/s, its share of a large product's, GB/s, its share of a copy of as many bytes."""
    flop_rate, byte_rate = flops / seconds, n_bytes / seconds
    of_peak = NOTHING if ceiling is None else Cell(show.share(flop_rate / ceiling.product_flops_per_second))
    of_copy = NOTHING if ceiling is None else Cell(show.share(byte_rate / ceiling.copy_rate(n_bytes)))
    if not flops:
        return [NOTHING, NOTHING, Cell(show.giga(byte_rate)), of_copy]
    return [Cell(show.giga(flop_rate)), of_peak, Cell(show.giga(byte_rate)), of_copy]


def absences_in(absences: dict[str, list[Absent]]) -> list[str]:
    """Who was not timed and why, from what is absent by case; where it holds for some of them only, for which."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, absent in absences.items():
        for one in absent:
            found.setdefault((f"{one.library} {one.variant}".strip(), one.reason), []).append(name)
    sentences = []
    for (label, reason), names in found.items():
        where = "" if len(names) == len(absences) else f" ({'; '.join(names)})"
        sentences.append(f"Not timed: {label}{where}: {reason}")
    return sentences


def one_line(result: CaseResult | OperationResult | EpochResult | Crossover | Ceilings) -> str:
    """A result in one line, for a terminal that waits."""
    if isinstance(result, CaseResult):
        return _one_line_of_case(result)
    if isinstance(result, OperationResult):
        return f"{result.operation}, {result.shape}, {result.dtype}: {show.duration(result.warm.median)}"
    if isinstance(result, EpochResult):
        overhead = show.signed_share(result.overhead.median)
        what = f"epoch of {case_name(result)}: fit costs {overhead} over its bare steps, validation left out"
        return f"{what}; {place_of(result)}"
    if isinstance(result, Crossover):
        return f"{result.fixed}: {result.conclusion}"
    return (
        f"ceilings of {place_of(result)}, {result.dtype}: {show.giga(result.product_flops_per_second)} GFLOP/s, "
        f"{show.giga(result.copy_bytes_per_second)} GB/s, {show.duration(result.call_seconds)} per call"
    )


def _one_line_of_case(case: CaseResult) -> str:
    best, ours = case.best_peer, case.ours
    threads = "" if case.threads is None else f", {show.threads(case.threads)}"
    variant = f" ({ours.variant})" if ours.variant else ""
    words = f"{JOBS[case.job].lower()} {case_name(case)}{threads}: {show.duration(ours.warm.median)}{variant}"
    if best is not None:
        ratio = case.ratio(best)
        words += f", {show.times(ratio.median)} as fast as {best.label} ({show.quartiles(ratio)})"
    return f"{words}, bound by {case.bound}"
