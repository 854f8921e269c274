"""How good a classification is: confusions, scores of the classes, ROC, precision and recall, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from .._types import HostArray
from ..metrics import calibration, confusion_matrix, predicted_classes
from ..pages import N_COLOURS
from ._chart import Axes, Line, lines
from ._page import charts, grid, text
from ._reported import Measured, ReportedRun

_LARGEST_MATRIX = 30
_MOST_CONFUSIONS = 20


def confusions(run: ReportedRun, measured: Measured) -> str:
    """The confusion matrix as a table; of more classes than there is room for, the most frequent confusions."""
    names = run.class_names
    if names is None or run.multilabel:
        return ""
    predicted = _predicted(run, measured)
    matrix = confusion_matrix(measured.y, predicted, len(names))
    if len(names) <= _LARGEST_MATRIX:
        return text("Rows are the true classes, columns the predicted ones; shades are shares of a row.") + _table(
            matrix, names
        )
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(wrong, axis=None)[::-1][:_MOST_CONFUSIONS]
    pairs = [(*np.unravel_index(i, wrong.shape), int(wrong.flat[i])) for i in order]
    rows = [(names[t], names[p], f"{n:,}", f"{n / matrix[t].sum():.1%}") for t, p, n in pairs if n]
    return text(f"The most frequent confusions of {len(names):,} classes.") + grid(
        ("true class", "predicted", "samples", "share of the true class"), rows
    )


def _table(matrix: HostArray, names: Sequence[str]) -> str:
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = zip(names, matrix.tolist(), (matrix / totals).tolist(), strict=True)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row" class="name">{escape(name)}</th>'
        + "".join(f'<td style="--share:{share:.3f}">{n or ""}</td>' for n, share in zip(counts, shares, strict=True))
        + "</tr>"
        for name, counts, shares in rows
    )
    return (
        f'<div class="table" tabindex="0"><table class="matrix"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _predicted(run: ReportedRun, measured: Measured) -> HostArray:
    return predicted_classes(measured.predictions, run.model.signature.threshold)


def of_each(run: ReportedRun, measured: Measured) -> tuple[list[str], HostArray, HostArray]:
    """(names, whether each sample is of a class (n, n_classes), probabilities likewise) of classes or labels.

    Of two classes it is the second alone: the first one's curves are the same, turned.
    """
    names = list(run.class_names or ())
    P = measured.predictions
    if run.multilabel:
        return names, measured.y.astype(bool), P
    truth = measured.y[:, None] == np.arange(len(names))
    if P.shape[1] == 1:
        P = np.hstack([1 - P, P])
    return (names[1:], truth[:, 1:], P[:, 1:]) if len(names) == 2 else (names, truth, P)


def scores(run: ReportedRun, measured: Measured) -> str:
    """ROC and precision-recall curves of each class against the others, and calibration."""
    names, truth, P = of_each(run, measured)
    both = [i for i in range(len(names)) if 0 < truth[:, i].sum() < len(truth)]
    found = {i: _Curves(truth[:, i], P[:, i]) for i in both}
    worst = sorted(both, key=lambda i: found[i].area)[:N_COLOURS]
    shown = [i for i in both if i in worst]
    roc = [Line(f"{names[i]} ({found[i].area:.3f})", *found[i].roc, k) for k, i in enumerate(shown)]
    recall = [Line(f"{names[i]} ({found[i].precision:.3f})", *found[i].recall, k) for k, i in enumerate(shown)]
    unit = (0.0, 1.0)
    drawn = []
    if shown:
        drawn.append(lines(roc, Axes("false positives", "true positives (ROC)", unit, (0.0, 1.02))))
        drawn.append(lines(recall, Axes("recall", "precision", unit, (0.0, 1.02))))
    drawn.append(_calibration(run, measured))
    of_many = len(both) > len(shown)
    what = f"The {len(shown)} classes with the smallest areas are drawn. " if of_many else ""
    said = f"{what}In brackets: the area under the ROC curve, and the average precision." if shown else ""
    return charts(*drawn) + (text(said) if said else "")


class _Curves:
    """Of one class against all others, as scikit-learn has them."""

    def __init__(self, truth: HostArray, probability: HostArray) -> None:
        from sklearn.metrics import (
            auc,
            average_precision_score,
            precision_recall_curve,
            roc_curve,
        )  # which a Watch does without

        false, true, _ = roc_curve(truth, probability)
        precision, recall, _ = precision_recall_curve(truth, probability)
        self.roc, self.area = (false, true), float(auc(false, true))
        self.recall, self.precision = (recall, precision), float(average_precision_score(truth, probability))


def _calibration(run: ReportedRun, measured: Measured) -> str:
    P = measured.predictions
    if run.multilabel or P.shape[1] == 1:
        positive = P if P.shape[1] > 1 else P[:, :1]
        truth = measured.y.astype(bool) if run.multilabel else (measured.y == 1)[:, None]
        confidence, right = positive.reshape(-1), truth.reshape(-1).astype(float)
        x, y = "predicted probability", "share that is true"
    else:
        confidence = P.max(axis=1)
        right = (P.argmax(axis=1) == measured.y).astype(float)
        x, y = "probability of the predicted class", "share that is right"
    found = calibration(confidence.astype(np.float64), right)
    unit = (0.0, 1.0)
    named = f"network (expected calibration error {found.error:.3f})"
    of_network = Line(named, found.confidence, found.accuracy, 0)
    return lines([of_network, Line("calibrated", unit, unit, 8, True)], Axes(x, y, unit, (0.0, 1.02)))


def class_table(scored: Sequence[dict[str, object]]) -> str:
    """Precision, recall and F1 of each class, and their means."""
    rows = [
        (str(one["name"]), *(f"{one[k]:.3f}" for k in ("precision", "recall", "f1")), f"{one['support']:,}")
        for one in scored
    ]
    return grid(("class", "precision", "recall", "F1", "samples"), rows)
