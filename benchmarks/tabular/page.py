"""report.md: what was measured, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .command import NAME as COMMAND
from .contest import TEST_SHARE, Outcome
from .models import HIDDEN, LARGEST_BATCH, OURS, RATE, RIVAL
from .paired import standard_error
from .report import TIME_GOAL, Comparison, Report, comparisons

MINUS = "−"


def to_markdown(report: Report) -> str:
    """The page."""
    plan, machine = report.plan, report.machine
    last = plan.first_seed + plan.n_seeds - 1
    seeds = f"seed {last}" if plan.n_seeds == 1 else f"seeds {plan.first_seed} to {last}"
    threads = "one thread" if plan.n_threads == 1 else f"{plan.n_threads} threads"
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [
        f"# Tables, {report.created[:10]}",
        "",
        f"Measured on {report.created} by: `{report.command}`",
        "",
        f"{machine['cpu']}, {machine['physical_cores']} cores, {threads} for every library; {versions}.",
        "",
        *[line for note in report.notes for line in (f"Note: {note}", "")],
        f"Mean over {seeds}, each of which splits a table anew, {1 - TEST_SHARE:.0%} to train on and the rest to test,",
        "and starts the models. Features are standardized, and the values of a regression. Scores are accuracy of",
        "classes and R² of values, ± their standard error; the difference is that of the same splits, ± its own. A",
        "time is that of one `fit`, all models in turn, after one that is not timed; short ones are repeated, and the",
        "median counts. What misses a goal is bold.",
        "",
        *_section(
            report,
            "equal",
            "Equal settings",
            f"The same network {HIDDEN} with ReLU, Adam with {RATE:g}, batches of {LARGEST_BATCH} or of all samples if "
            f"they are fewer, {plan.epochs} epochs without an early end, no penalty. Each starts as by default.",
        ),
        *_section(report, "default", "Each library's defaults", "Nothing is said but the seed."),
        *_missing(report),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(report: Report, rules: str, heading: str, text: str) -> list[str]:
    outcomes = [outcome for outcome in report.outcomes if outcome.rules == rules]
    if not outcomes:
        return []
    pairs = comparisons(report, rules)
    lines = [f"## {heading}", "", text, ""]
    if pairs:
        rows = [_row(pair) for pair in pairs]
        head = ["table", "samples × features", "score of", OURS, RIVAL, "difference", "epochs", "seconds", "time ratio"]
        lines += [*rows_of(head, rows), "", *_goals(pairs), ""]
    lines += _of_the_command(comparisons(report, rules, COMMAND))
    others = [outcome for outcome in outcomes if outcome.model not in (OURS, COMMAND, RIVAL)]
    if others:
        head = ["table", "model", "score", "seconds"]
        lines += [*rows_of(head, [[o.table, o.model, _score(o), f"{np.median(o.seconds):.3g}"] for o in others]), ""]
    return lines


def _of_the_command(pairs: Sequence[Comparison]) -> list[str]:
    if not pairs:
        return []
    head = ["table", COMMAND, RIVAL, "difference", "seconds, with the process and its files"]
    rows = [
        [
            pair.ours.table,
            _score(pair.ours),
            _score(pair.rival),
            _difference(pair),
            f"{np.median(pair.ours.seconds):.3g}",
        ]
        for pair in pairs
    ]
    told = "`fcnn-gpu train --data FILE.csv` on the same samples, with its own defaults:"
    return [told, "", *rows_of(head, rows), "", _as_good(pairs), ""]


def _row(pair: Comparison) -> list[str]:
    ours, rival = pair.ours, pair.rival
    ratio = f"{pair.time_ratio:.2f}"
    return [
        ours.table,
        f"{ours.n_samples:,} × {ours.n_features}",
        "classes" if ours.task == "classification" else "values",
        _score(ours),
        _score(rival),
        _difference(pair),
        f"{np.median(ours.epochs):.0f} / {np.median(rival.epochs):.0f}",
        f"{np.median(ours.seconds):.3g} / {np.median(rival.seconds):.3g}",
        ratio if pair.is_fast else f"**{ratio}**",
    ]


def _difference(pair: Comparison) -> str:
    difference = f"{signed(pair.difference)} ± {pair.error:.4f}"
    return difference if pair.is_as_good else f"**{difference}**"


def _as_good(pairs: Sequence[Comparison]) -> str:
    worse = [
        f"{pair.ours.table} ({signed(pair.difference)} ± {pair.error:.4f})" for pair in pairs if not pair.is_as_good
    ]
    return f"- Not worse than {RIVAL} beyond one standard error: " + (
        f"all {len(pairs)}." if not worse else f"{len(pairs) - len(worse)} of {len(pairs)}; not {', '.join(worse)}."
    )


def _goals(pairs: Sequence[Comparison]) -> list[str]:
    slow = [f"{pair.ours.table} ({pair.time_ratio:.2f})" for pair in pairs if not pair.is_fast]
    unfinished = {o.model: o.unfinished for pair in pairs for o in (pair.ours, pair.rival)}
    for model in unfinished:
        unfinished[model] = sum(o.unfinished for pair in pairs for o in (pair.ours, pair.rival) if o.model == model)
    n = sum(len(pair.ours.scores) for pair in pairs)
    return [
        _as_good(pairs),
        f"- At most {TIME_GOAL} of its time: "
        + (f"all {len(pairs)}." if not slow else f"{len(pairs) - len(slow)} of {len(pairs)}; not {', '.join(slow)}."),
        "- Fits that said they had not converged: "
        + ", ".join(f"{model} {count} of {n}" for model, count in unfinished.items())
        + ".",
    ]


def _missing(report: Report) -> list[str]:
    if not report.missing:
        return []
    return ["## Missing", "", *(f"- {name}: {reason}" for name, reason in report.missing.items())]


def _score(outcome: Outcome) -> str:
    return f"{np.mean(outcome.scores):.4f} ± {standard_error(outcome.scores):.4f}".replace("-", MINUS)


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", MINUS)


def rows_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "| " + " | ".join("---" if i == 0 else "---:" for i in range(len(head))) + " |"
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]
