"""The targets of the CUDA path beside what a run measured of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from fcnn_gpu.bench import _numbers as show
from fcnn_gpu.bench._table import Column, Table, cells
from fcnn_gpu.bench.libraries.pytorch import CUDA_GRAPH
from fcnn_gpu.bench.results import Timing

from . import contest, fits
from .outcome import Outcome
from .results import Fit, Goal, KernelTiming, LargeProduct, PytestRun

COPY_SHARE_WANTED = 0.85
"""Of the measured copy bandwidth, for the passes over arrays several times as large as the caches."""
LARGE_SHARE_WANTED = 0.85
"""Of the slower of the two ceilings, for products of operands in host memory."""
EAGER = ("foreach", "fused")
"""PyTorch's variants that are neither compiled nor captured."""

Row = tuple[str, str, str, str]


def targets_table(outcomes: list[Outcome]) -> Table:
    """What is wanted, what was reached, and whether that is enough; "not measured" where nothing was."""
    columns = [Column("target", True), Column("wanted"), Column("reached", True), Column("", True)]
    measured = (_tests, _contests, _fits, _kernels, _large)
    rows = [cells(*row) for rows_of in measured for row in rows_of(outcomes)]
    return Table("Targets", columns, rows)


def _results(outcomes: list[Outcome], kind: type) -> list[object]:
    return [result for outcome in outcomes for result in outcome.of(kind)]


def _met(reached: bool) -> str:
    return "met" if reached else "not met"


def _tests(outcomes: list[Outcome]) -> Iterator[Row]:
    runs = [run for run in _results(outcomes, PytestRun) if isinstance(run, PytestRun)]
    if not runs:
        yield "pytest -m gpu", "all pass", "—", "not measured"
    for run in runs:
        reached = f"{run.passed} passed, {run.failed} failed, {run.skipped} skipped"
        verdict = "not measured" if " -k " in run.command and not run.fault else _met(not run.fault)
        yield run.command, "all pass", f"{reached}; {run.fault}" if run.fault else reached, verdict


def _contests(outcomes: list[Outcome]) -> Iterator[Row]:
    goals = {
        (goal.case.net, goal.case.batch, goal.case.dtype): goal
        for goal in _results(outcomes, Goal)
        if isinstance(goal, Goal)
    }
    for wanted in contest.CONTESTS:
        name = f"{wanted.net}, {wanted.batch}, {wanted.precision}"
        goal = goals.get((wanted.net.name, wanted.batch, wanted.precision))
        if wanted.best_wanted is not None:
            yield _ratio_row(f"{name}: training against the best peer", wanted.best_wanted, goal, eager=False)
        if wanted.eager_wanted is not None:
            yield _ratio_row(f"{name}: training against PyTorch's eager mode", wanted.eager_wanted, goal, eager=True)
        if wanted.product_share_wanted is not None:
            title, share = f"{name}: share of a large product's FLOP/s", wanted.product_share_wanted
            if goal is None:
                yield title, f"≥ {show.share(share)}", "—", "not measured"
            else:
                reached = goal.case.flops / goal.case.ours.warm.median / goal.product_ceiling
                yield title, f"≥ {show.share(share)}", show.share(reached), _met(reached >= share)


def _ratio_row(title: str, wanted: float, goal: Goal | None, eager: bool) -> Row:
    peers = [] if goal is None else [p for p in goal.case.peers if not eager or is_eager(p)]
    if goal is None or not peers:
        return title, f"≥ {wanted:g}×", "—", "not measured"
    best = fastest(peers)
    ratio = goal.case.ratio(best)
    reached = f"{show.times(ratio.median)} ({show.quartiles(ratio)}; {best.label})"
    if not eager and best.variant == CUDA_GRAPH:
        others = [peer for peer in peers if peer.variant != CUDA_GRAPH]
        if others:
            second = fastest(others)
            reached += f"; without steps captured by hand {show.times(goal.case.ratio(second).median)} ({second.label})"
    return title, f"≥ {wanted:g}×", reached, _met(ratio.median >= wanted)


def is_eager(timing: Timing) -> bool:
    """Whether it is PyTorch as a user's loop runs it."""
    return timing.library == "PyTorch" and timing.variant in EAGER


def fastest(timings: list[Timing]) -> Timing:
    """The one with the smallest median."""
    return min(timings, key=lambda timing: timing.warm.median)


def _fits(outcomes: list[Outcome]) -> Iterator[Row]:
    title = f"full MNIST, {fits.NET}, {fits.EPOCHS} epochs"
    wanted = f"< {fits.WANTED_SECONDS:g} s, ≥ {fits.WANTED_ACCURACY:.0%} right"
    found = [fit for fit in _results(outcomes, Fit) if isinstance(fit, Fit) and fit.seconds]
    if not found:
        yield title, wanted, "—", "not measured"
    for fit in found:
        median = statistics.median(fit.seconds)
        reached = f"{show.duration(median)} (first call {show.duration(fit.first_seconds)})"
        if fit.data != "MNIST" or fit.epochs != fits.EPOCHS:
            yield title, wanted, f"{reached}, but {fit.epochs} epochs of {fit.data}", "not measured"
        else:
            right = 0.0 if fit.accuracy is None else fit.accuracy
            met = median < fits.WANTED_SECONDS and right >= fits.WANTED_ACCURACY
            yield title, wanted, f"{reached}, {right:.2%} right", _met(met)


def _kernels(outcomes: list[Outcome]) -> Iterator[Row]:
    large = [
        timing
        for timing in _results(outcomes, KernelTiming)
        if isinstance(timing, KernelTiming) and timing.size == "large"
    ]
    title, wanted = "passes over large arrays: share of the copy bandwidth", f"≥ {show.share(COPY_SHARE_WANTED)}"
    if not large:
        yield title, wanted, "—", "not measured"
        return
    behind = [timing for timing in large if timing.share < COPY_SHARE_WANTED]
    reached = f"{len(large) - len(behind)} of {len(large)}"
    if behind:
        worst = min(behind, key=lambda timing: timing.share)
        reached += f"; the least {show.share(worst.share)} ({worst.operation}, {worst.dtype})"
    yield title, wanted, reached, _met(not behind)


def _large(outcomes: list[Outcome]) -> Iterator[Row]:
    title = "products of matrices in host memory: share of the slower ceiling"
    wanted = f"≥ {show.share(LARGE_SHARE_WANTED)}"
    found = [product for product in _results(outcomes, LargeProduct) if isinstance(product, LargeProduct)]
    if not found:
        yield title, wanted, "—", "not measured"
        return
    least = min(found, key=lambda product: product.share)
    reached = f"the least {show.share(least.share)} ({least.precision}, {least.m:,} × {least.n:,} × {least.k:,})"
    yield title, wanted, reached, _met(least.share >= LARGE_SHARE_WANTED)
