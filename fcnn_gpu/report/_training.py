"""How the training went: curves over its epochs."""

from __future__ import annotations

from ._chart import Axes, Line, lines
from ._page import charts
from ._reported import ReportedRun

_NOT_DRAWN = {"epoch", "seconds", "samples_per_second", "penalty", "loss_scale", "skipped_steps", "network"}


def curves(run: ReportedRun) -> str:
    """A chart for each column of the history, training and validation together."""
    found = [history for history in run.histories if len(next(iter(history.values()), ()))]
    if not found:
        return ""
    columns = [name for name in found[0] if name not in _NOT_DRAWN and not name.startswith("val_")]
    return charts(*(_curve(run, name) for name in columns if _varies(run, name)))


def _varies(run: ReportedRun, name: str) -> bool:
    """A learning rate that is the same all the time is no picture."""
    return name != "learning_rate" or any(len(set(history[name])) > 1 for history in run.histories if name in history)


def _curve(run: ReportedRun, name: str) -> str:
    series = []
    several = len(run.histories) > 1
    for i, history in enumerate(run.histories):
        for column, kind, dashed in ((name, "training", False), (f"val_{name}", "validation", True)):
            if column in history:
                said = kind if i == 0 else ""
                series.append(Line(said, history["epoch"], history[column], int(dashed), dashed))
    kept = run.best_epoch is not None and not several
    marks = [(float(run.best_epoch or 0), f"weights of epoch {run.best_epoch}")] if kept else []
    unit = f" ({run.units[name]})" if name in run.units else ""
    return lines(series, Axes("epoch", name.replace("_", " ") + unit, marks=marks))
