"""page.md: what was wanted, what was reached, and every table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..page import MINUS, rows_of, signed
from ..paired import standard_error
from .measurement import Measurement
from .models import MODELS
from .setting import Setting
from .summary import Pair, Summary, mean_error, median
from .tables import TABLES

PRESETS = tuple(f"fcnn_gpu {preset}" for preset in ("best", "default", "fast"))
TREES = ("LightGBM", "XGBoost", "CatBoost")
FIT_GOAL = 4.0
"""How many times as fast as pytabkit's ours is to fit."""
_TD = tuple(f"{name} TD" for name in TREES)
RANKS = {
    "Presets, and boosted trees by default": (*PRESETS, *TREES),
    "Presets, and boosted trees with both settings": (*PRESETS, *TREES, "HistGradientBoosting", *_TD),
    "With other networks": (
        *PRESETS,
        "fcnn_gpu FCNN",
        "scikit-learn MLP",
        "pytabkit RealMLP-TD",
        *TREES,
        "HistGradientBoosting",
        *_TD,
    ),
    "With both TabMs": (*PRESETS, "fcnn_gpu tabm", "pytabkit RealMLP-TD", "pytabkit TabM", *TREES, *_TD),
}
"""Whose mean ranks are given together."""
METHOD = (
    "A seed draws 64 % of a table to train on, 16 % to validate and 20 % to test, and starts the models. Presets and "
    "pytabkit's networks choose their epoch by the validation part, and boosted trees their number; scikit-learn's "
    "models, FCNNClassifier and FCNNRegressor train on both parts, and so does the preset best, which makes parts of "
    "its own. Errors are 1 − accuracy, or the RMSE of values that the training part standardizes; ± is the standard "
    "error over the seeds, and of a difference that of the same splits. Each measurement is a process of its own, "
    "which has imported what it needs before the clock starts. {times} Prediction is of the whole test part. Size is "
    "that of the model's file; memory is the most that fit and prediction took beyond what the process had with its "
    "imports and the data. TD are the settings of trees that Holzmüller et al. (2024) found best over many tables. "
    "pytabkit RealMLP-TD is the compact module of that package, which computes the same as its estimator."
)
CLOCK = "Times are seconds on the clock, medians over the seeds."
PROCESSOR = (
    "Times are seconds of the processor, medians over the seeds: other work on the machine has less part in them than "
    "in those on the clock, which are in results.jsonl."
)
FOUNDATION_MODELS = (
    "Foundation models, which were trained on other tables beforehand, take no part here. On TabArena's public "
    "leaderboard they lead: version 1.6 gives TabFM an Elo of 1791, and RealMLP 1480."
)


@dataclass(frozen=True)
class Goal:
    """What is wanted of a comparison on each table, and the number that says how far it is reached."""

    text: str
    is_reached: Callable[[Pair], bool]
    number: Callable[[Pair], str]
    of_seeds: bool = False
    """Whether it is about a standard error, which one seed has not."""


@dataclass(frozen=True)
class Comparison:
    """Two models, table by table."""

    heading: str
    ours: str
    theirs: str
    goals: tuple[Goal, ...]


def _difference(pair: Pair) -> str:
    return f"{signed(pair.difference)}{_plus_minus(pair.error)}"


def _times(pair: Pair) -> str:
    return f"{pair.times:.2f}×"


SAME = Goal(
    "the same error within one standard error", lambda pair: not pair.is_worse and not pair.is_better, _difference, True
)
NOT_WORSE = Goal("no higher error beyond one standard error", lambda pair: not pair.is_worse, _difference, True)
LOWER = Goal("a lower error", lambda pair: pair.difference < 0, _difference)
FASTER = Goal(f"at least {FIT_GOAL:g} times as fast to fit", lambda pair: pair.times >= FIT_GOAL, _times)
AS_FAST = Goal("at most its time to fit", lambda pair: pair.times >= 1, _times)

COMPARISONS = (
    Comparison("RealMLP-TD", "fcnn_gpu default", "pytabkit RealMLP-TD", (SAME, NOT_WORSE, FASTER)),
    Comparison("TabM", "fcnn_gpu tabm", "pytabkit TabM", (SAME, NOT_WORSE, FASTER)),
    Comparison("The fast preset", "fcnn_gpu fast", "scikit-learn MLP", (LOWER, AS_FAST)),
    Comparison(
        "FCNNClassifier and FCNNRegressor, equal settings",
        "fcnn_gpu FCNN equal",
        "scikit-learn MLP equal",
        (NOT_WORSE,),
    ),
    Comparison("FCNNClassifier and FCNNRegressor, each by default", "fcnn_gpu FCNN", "scikit-learn MLP", (NOT_WORSE,)),
)


def to_markdown(measurements: Sequence[Measurement], settings: Sequence[Setting], text: str = "") -> str:
    """The page of measurements, at least one. `text` is what a person has to say about them, below the first lines."""
    summary = Summary(measurements)
    lines = [
        *_head(measurements, settings),
        *([text.strip(), ""] if text.strip() else []),
        *_wanted(summary),
        *_ranks(summary),
        *_others_ahead(summary),
        *(line for comparison in COMPARISONS for line in _compared(summary, comparison)),
        "## Every table",
        "",
        *(line for table in summary.tables for line in _table(summary, table)),
        *_not_measured(summary, settings),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(measurements: Sequence[Measurement], settings: Sequence[Setting]) -> list[str]:
    times = sorted(one.created for one in measurements)
    seeds = sorted({one.seed for one in measurements})
    versions = {name: version for one in measurements for name, version in one.versions.items()}
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    n_threads = measurements[0].n_threads
    lines = [
        f"# The field on tables, {times[0][:10]}",
        "",
        f"Measured from {times[0]} to {times[-1]}, seeds {', '.join(map(str, seeds))}; {named}.",
        "",
    ]
    if settings:
        machine = settings[-1].machine
        threads = "one thread" if n_threads == 1 else f"{n_threads} threads"
        n_cores = machine["physical_cores"]
        cores = f"{n_cores} core{'' if n_cores == 1 else 's'}"
        lines += [f"{machine['cpu']}, {cores}, {threads} for every library.", ""]
        lines += [line for note in settings[-1].notes for line in (f"Note: {note}", "")]
    method = METHOD.format(times=PROCESSOR if n_threads == 1 else CLOCK)
    return [*lines, *textwrap.wrap(method, 120), ""]


def _wanted(summary: Summary) -> list[str]:
    """Each goal, on how many tables it is reached, and the numbers where it is not."""
    head = ["wanted", "reached", "not reached", "one seed, no verdict"]
    rows = _better_ranks(summary)
    for comparison in COMPARISONS:
        pairs = summary.pairs(comparison.ours, comparison.theirs)
        for goal in comparison.goals:
            judged = [pair for pair in pairs if not (goal.of_seeds and np.isnan(pair.error))]
            missed = [pair for pair in judged if not goal.is_reached(pair)]
            others = [pair for pair in pairs if pair not in judged]
            count = f"{len(judged) - len(missed)} of {len(judged)}"
            rows.append(
                [
                    f"{comparison.ours} beside {comparison.theirs}: {goal.text}",
                    count if judged else "no verdict" if pairs else "not measured",
                    *(", ".join(f"{pair.table} {goal.number(pair)}" for pair in some) for some in (missed, others)),
                ]
            )
    told = f"Wanted on all {len(TABLES)} tables and over five seeds; measured on {len(summary.tables)}."
    return ["## What was wanted", "", told, "", *rows_of(head, rows), ""]


def _better_ranks(summary: Summary) -> list[list[str]]:
    """Of "best" beside each library's trees; of "default" too, for comparison."""
    rows = []
    for preset in ("fcnn_gpu best", "fcnn_gpu default"):
        ranks = summary.ranks((preset, *TREES))
        text = f"{preset}: a better mean rank than {', '.join(TREES)}, each by default"
        if preset not in ranks.by_model:
            rows.append([text, "not measured", "", ""])
            continue
        mine = ranks.by_model[preset]
        ahead = {name: rank for name, rank in ranks.by_model.items() if name != preset}
        missed = [f"{name} {rank:.2f}" for name, rank in ahead.items() if rank <= mine]
        reached = f"{len(ahead) - len(missed)} of {len(ahead)}: {mine:.2f} on {', '.join(ranks.tables)}"
        rows.append([text, reached, ", ".join(missed), ""])
    return rows


def _compared(summary: Summary, comparison: Comparison) -> list[str]:
    pairs = summary.pairs(comparison.ours, comparison.theirs)
    if not pairs:
        return []
    head = ["table", "seeds", comparison.ours, comparison.theirs, "difference", "fit, s", "theirs, s", "theirs / ours"]
    rows = []
    for pair in pairs:
        means = [f"{mean_error(found):.4f}" for found in (pair.ours, pair.theirs)]
        fits = [_number(median(found, "fit_time")) for found in (pair.ours, pair.theirs)]
        difference = f"**{_difference(pair)}**" if pair.is_worse else _difference(pair)
        rows.append([pair.table, str(len(pair.ours)), *means, difference, *fits, f"{pair.times:.2f}"])
    return [f"## {comparison.heading}", "", *rows_of(head, rows), ""]


def _ranks(summary: Summary) -> list[str]:
    lines = ["## Mean ranks", ""]
    for heading, names in RANKS.items():
        ranks = summary.ranks(names)
        absent = [name for name in names if name not in summary.models]
        if not ranks.by_model:
            continue
        ordered = sorted(ranks.by_model.items(), key=lambda item: item[1])
        over = ", ".join(f"{table} ({n})" for table, n in ranks.tables.items())
        lines += [f"{heading}, over the tables that all of them have (seeds in brackets): {over}."]
        lines += [f"Not measured: {', '.join(absent)}."] if absent else []
        lines += ["", *rows_of(["model", "mean rank"], [[name, f"{rank:.2f}"] for name, rank in ordered]), ""]
    return lines


def _others_ahead(summary: Summary) -> list[str]:
    """Tables on which another's model has a lower mean error than the best preset."""
    of_others = [name for name, model in MODELS.items() if model.package != "fcnn_gpu"]
    said = []
    for table in summary.tables:
        seeds = summary.shared_seeds(table, PRESETS)
        ours, theirs = (
            summary.lowest(table, (*PRESETS, "fcnn_gpu tabm"), seeds),
            summary.lowest(table, of_others, seeds),
        )
        if ours is not None and theirs is not None and theirs[1] < ours[1]:
            said.append(f"- {table}: {theirs[0]} {theirs[1]:.4f}; the best of ours, {ours[0]}, {ours[1]:.4f}.")
    of = f"{len(said)} of {len(summary.tables)} tables"
    head = f"Another's mean error is the lowest on {of}, over the seeds that all of our presets have there."
    return [
        "## Where others are better",
        "",
        head,
        *([""] if said else []),
        *said,
        "",
        *textwrap.wrap(FOUNDATION_MODELS, 120),
        "",
    ]


def _table(summary: Summary, table: str) -> list[str]:
    found = {model: of for model in summary.models if (of := summary.of(table, model))}
    first = next(iter(found.values()))[0]
    kind = "classes" if first.task == "classification" else "values"
    ours = median(found["fcnn_gpu default"], "fit_time") if "fcnn_gpu default" in found else None
    rows = []
    for model, of in sorted(found.items(), key=lambda item: mean_error(item[1])):
        fit, losses = median(of, "fit_time"), [one.log_loss for one in of if one.log_loss is not None]
        rows.append(
            [
                model,
                str(len(of)),
                f"{mean_error(of):.4f}{_plus_minus(standard_error([one.error for one in of]))}",  # type: ignore[misc]
                f"{np.mean(losses):.3f}" if losses else "",
                _number(fit),
                f"{fit / ours:.2f}" if fit and ours else "",
                _number(median(of, "predict_time"), 1e3),
                _number(median(of, "model_bytes"), 1e-3),
                _number(median(of, "peak_bytes"), 1e-6),
            ]
        )
    head = ["model", "seeds", "error", "log loss", "fit, s", "× default", "predict, ms", "size, kB", "memory, MB"]
    return [f"### {table}: {first.n_samples:,} × {first.n_features}, {kind}", "", *rows_of(head, rows), ""]


def _not_measured(summary: Summary, settings: Sequence[Setting]) -> list[str]:
    lines = [
        f"- {one.table}, seed {one.seed}, {one.model}: "
        + (f"more than {one.stopped_after:.0f} s." if one.stopped_after is not None else f"failed: {one.failed}")
        for one in summary.without_numbers
    ]
    reasons = {name: reason for setting in settings for name, reason in setting.missing.items()}
    for name in (*TABLES, *MODELS):
        if name not in summary.tables and name not in summary.models:
            lines.append(f"- {name}: {reasons.get(name, 'no run has come to it.')}")
    partial = {model: [t for t in summary.tables if not summary.of(t, model)] for model in summary.models}
    lines += [f"- {model}: not yet on {', '.join(tables)}." for model, tables in partial.items() if tables]
    return ["## Not measured", "", *lines] if lines else []


def _plus_minus(error: float) -> str:
    return "" if np.isnan(error) else f" ± {error:.4f}"


def _number(value: float | None, times: float = 1.0) -> str:
    if value is None:
        return ""
    value *= times
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}".replace("-", MINUS)
