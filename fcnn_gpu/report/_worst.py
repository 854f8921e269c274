"""The samples that the network is most wrong about: pictures, or rows with their columns."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from .._types import HostArray
from ..metrics import predicted_classes
from ..pages import number, picture
from ._page import grid, text
from ._reported import Measured, ReportedRun

_MOST = 16
_SMALLEST_IMAGE = 7
_MOST_COLUMNS = 12


def losses_of(run: ReportedRun, measured: Measured) -> tuple[HostArray, str]:
    """(how wrong the network is about each sample, what that number is)."""
    P, y = measured.predictions.astype(np.float64), measured.y
    least = np.finfo(np.float32).tiny
    if run.class_names is None:
        if P.size != y.size:  # quantiles
            return np.abs(P - y.reshape(len(y), -1)[:, :1]).mean(axis=1), "absolute error"
        error, spread = np.abs(P - y.reshape(P.shape)), y.reshape(P.shape).std(axis=0)
        if P.shape[1] == 1:
            return error[:, 0], "absolute error"
        relative = error / np.where(spread > 0, spread, 1.0)  # targets have units of their own
        return relative.mean(axis=1), "absolute error in standard deviations of each target"
    if run.multilabel or P.shape[1] == 1:
        truth = y.reshape(P.shape)
        return -np.log(np.maximum(np.where(truth == 1, P, 1 - P), least)).mean(axis=1), "−log p of the true labels"
    return -np.log(np.maximum(P[np.arange(len(y)), y], least)), "−log p of the true class"


def worst(run: ReportedRun, measured: Measured) -> str:
    """The worst ones, the worst first."""
    wrong, what = losses_of(run, measured)
    order = np.argsort(-wrong, kind="stable")[: min(_MOST, len(wrong))]
    said = text(f"Those with the largest {what}. Samples are numbered from 0.")
    side = _side(measured)
    return said + (_images(run, measured, wrong, order, side) if side else _rows(run, measured, wrong, order, what))


def _side(measured: Measured) -> int:
    """Pixels of a row, where samples are square images: as many numbers, none negative, that have no names."""
    n = measured.X.shape[1]
    side = math.isqrt(n)
    is_image = measured.values is None and side * side == n and side >= _SMALLEST_IMAGE and measured.X.min() >= 0
    return side if is_image else 0


def _said(run: ReportedRun, measured: Measured, i: int) -> tuple[str, str]:
    """(the truth, what is predicted) of sample i, in words."""
    p, y = measured.predictions[i], measured.y[i]
    names = run.class_names
    if names is None:
        return "; ".join(map(number, np.atleast_1d(y))), "; ".join(map(number, np.atleast_1d(p)))
    if run.multilabel:
        shown = [", ".join(n for n, has in zip(names, row, strict=True) if has) or "none" for row in (y, p >= 0.5)]
        return shown[0], shown[1]
    [predicted] = predicted_classes(measured.predictions[i : i + 1], run.model.signature.threshold)
    if len(p) == 1:
        p = np.array([1 - p[0], p[0]])
    return str(names[int(y)]), f"{names[int(predicted)]} ({p[predicted]:.0%})"


def _images(run: ReportedRun, measured: Measured, wrong: HostArray, order: HostArray, side: int) -> str:
    parts = []
    for i in order.tolist():
        truth, predicted = _said(run, measured, i)
        sample = f"sample {int(measured.names_of_rows[i]):,}"
        caption = f"{escape(truth)}, predicted<br/>{escape(predicted)}<br/>{sample}"
        parts.append(picture(measured.X[i].reshape(side, side), sample, caption))
    inner = "".join(parts)
    return f'<div class="images">{inner}</div>'


def _rows(run: ReportedRun, measured: Measured, wrong: HostArray, order: HostArray, what: str) -> str:
    cells = measured.values
    if cells is None:
        names = run.model.signature.feature_names or [f"input {i}" for i in range(measured.X.shape[1])]
        cells = {
            str(name): [number(v) for v in measured.X[:, i].tolist()] for i, name in enumerate(names[:_MOST_COLUMNS])
        }
    columns = list(cells)[:_MOST_COLUMNS]
    rows = []
    for i in order.tolist():
        truth, predicted = _said(run, measured, i)
        row = [f"{int(measured.names_of_rows[i]):,}", truth, predicted, number(float(wrong[i]), 3)]
        rows.append((*row, *(cells[name][i] for name in columns)))
    left_out = len(cells) - len(columns)
    more = text(f"{left_out} more columns are left out.") if left_out > 0 else ""
    return grid(("row", "true", "predicted", what, *columns), rows) + more
