"""How good predicted values are: beside the true ones, and their errors."""

from __future__ import annotations

from ._chart import Axes, histogram, points
from ._page import charts, text
from ._reported import Measured, ReportedRun

_MOST_TARGETS = 6


def values(run: ReportedRun, measured: Measured) -> str:
    """Predicted values over true ones, and a histogram of the errors, of each target."""
    y = measured.y.reshape(len(measured.y), -1)
    P = measured.predictions
    if P.shape != y.shape:
        return text(f"The network has {P.shape[1]} outputs for {y.shape[1]} targets: quantiles, which are not drawn.")
    names = list(run.target_names or ()) if run.target_names and len(run.target_names) == y.shape[1] else []
    names = names or (["target"] if y.shape[1] == 1 else [f"target {i}" for i in range(y.shape[1])])
    drawn = []
    for i, name in enumerate(names[:_MOST_TARGETS]):
        drawn.append(points(y[:, i], P[:, i], Axes(f"true {name}", "predicted")))
        drawn.append(histogram(P[:, i] - y[:, i], Axes(f"predicted − true {name}", "samples")))
    more = len(names) - _MOST_TARGETS
    return charts(*drawn) + (text(f"{more} more targets are not drawn.") if more > 0 else "")
