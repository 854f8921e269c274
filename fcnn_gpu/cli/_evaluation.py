"""How good a model is on samples: the numbers, and the table that shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._console import counted, readable
from .._types import HostArray
from ..losses import Loss, Quantile
from ..metrics import F1 as F1Score
from ..metrics import (
    METRICS,
    R2,
    ClassScores,
    Metric,
    Precision,
    Recall,
    classification_report,
    confusion_matrix,
    predicted_classes,
)
from ..model import Sequential

_MOST_ROWS = 40
_WORST_ROWS = 15
_LEAST_FOR_R2 = 2
"""One sample has no variance to explain."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        n_samples: on how many samples.
        results: "loss" and the task's metrics, by name.
        classes: precision, recall, F1 and support of each class; empty for regression.
        means: their means.
        confusion: (n_classes, n_classes), rows the true classes; None for regression and several labels per sample.
    """

    n_samples: int
    results: dict[str, float]
    classes: list[ClassScores]
    means: list[ClassScores]
    confusion: HostArray | None

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {"n_samples": self.n_samples, **self.results, "classes": [*self.classes, *self.means]}


def evaluate_model(
    model: Sequential,
    loss: Loss,
    X: HostArray,
    y: HostArray,
    class_names: list[str] | None,
    metrics: Sequence[Metric] = (),
) -> Evaluation:
    """Loss and metrics of `model` on inputs X and y, the task's own and others; without class names a regression.

    The loss, of one network, is that of what the model predicts: of several members, of the mean of their predictions.
    """
    predictions = model.infer(X, model.link, prepared=True)
    outputs = None
    if loss.link != "identity" and model.members == 1:
        outputs = model.infer(X, None, prepared=True)
    return evaluate_predictions(predictions, loss, y, class_names, metrics, outputs, model.signature.threshold)


def evaluate_predictions(
    predictions: HostArray,
    loss: Loss,
    y: HostArray,
    class_names: list[str] | None,
    metrics: Sequence[Metric] = (),
    outputs: HostArray | None = None,
    threshold: float | None = None,
) -> Evaluation:
    """The same of predictions (n, n_predictions); `outputs` are those that the loss's link made them of, if known.

    `threshold`: of two classes, where it is not ½ that the labels which metrics are of go by.
    """
    evaluation = _by_task(loss, y, class_names, predictions, outputs, threshold)
    if loss.outputs_per_target > 1:
        return evaluation  # a metric compares one prediction with a target
    told = [metric.for_task(loss.task(predictions.shape[1])) for metric in metrics]
    others = {metric.label: _at(threshold, metric) for metric in told if metric.label not in evaluation.results}
    if len(y) < _LEAST_FOR_R2:
        others.pop(R2.name, None)
    more = {label: metric(y, predictions) for label, metric in others.items()}
    return dataclasses.replace(evaluation, results=evaluation.results | more)


def _at(threshold: float | None, metric: Metric) -> Metric:
    """A metric of decided classes with this threshold, unless it has one of its own; others as they are."""
    if threshold is None or getattr(metric, "threshold", threshold) is not None:
        return metric
    settings: Any = metric  # a dataclass, as all that have a threshold
    decided: Metric = dataclasses.replace(settings, threshold=threshold)
    return decided


def _by_task(
    loss: Loss,
    y: HostArray,
    class_names: list[str] | None,
    predictions: HostArray,
    outputs: HostArray | None,
    threshold: float | None,
) -> Evaluation:
    if outputs is None:  # of values, those that are given: within their range
        outputs = predictions if loss.link == "identity" else _raw(loss.link, predictions)
    value = float(loss.forward(outputs, y))
    if class_names is None and isinstance(loss, Quantile) and loss.outputs_per_target > 1:
        return Evaluation(len(y), {"loss": value} | _of_quantiles(loss.quantiles, y, predictions), [], [], None)
    if class_names is None:
        names = ["r2", "mae", "rmse"] if len(y) >= _LEAST_FOR_R2 else ["mae", "rmse"]
        results = {name: METRICS.resolve(name)(y, predictions) for name in names}
        return Evaluation(len(y), {"loss": value} | results, [], [], None)
    if y.ndim == 2:
        measures = [METRICS.resolve(name).for_task(loss.task(predictions.shape[1])) for name in ("accuracy", "f1")]
        results = {measure.label: measure(y, predictions) for measure in measures}
        return Evaluation(len(y), {"loss": value} | results, *_label_scores(y, predictions, class_names), None)
    predicted = predicted_classes(predictions, threshold)
    report = classification_report(y, predicted, len(class_names), class_names)
    matrix = confusion_matrix(y, predicted, len(class_names))
    results = {"loss": value, "accuracy": report["accuracy"]}
    return Evaluation(len(y), results, report["classes"], [report["macro"], report["weighted"]], matrix)


def _of_quantiles(quantiles: Sequence[float], y: HostArray, predictions: HostArray) -> dict[str, float]:
    """The share of targets below each predicted quantile, and of the median, where it is one, the error."""
    targets = y.reshape(len(y), -1)
    each = predictions.reshape(*targets.shape, len(quantiles))
    results: dict[str, float] = {}
    if 0.5 in quantiles:
        results["mae"] = METRICS.resolve("mae")(targets, each[:, :, list(quantiles).index(0.5)])
    return results | {f"below_{q:g}": float((targets < each[:, :, k]).mean()) for k, q in enumerate(quantiles)}


def _raw(link: str, predictions: HostArray) -> HostArray:
    """Outputs that the link turns into these predictions, the mean of several members', which has no others."""
    least = np.finfo(predictions.dtype).tiny
    logarithms = np.log(np.maximum(predictions, least))
    return logarithms - np.log(np.maximum(1 - predictions, least)) if link == "sigmoid" else logarithms


def _label_scores(
    y: HostArray, predictions: HostArray, class_names: list[str]
) -> tuple[list[ClassScores], list[ClassScores]]:
    """One row per label that a sample may have beside others; and their plain mean."""
    measures = Precision("binary"), Recall("binary"), F1Score("binary")
    rows: list[ClassScores] = []
    for i, name in enumerate(class_names):
        precision, recall, f1 = (measure(y[:, i], predictions[:, i]) for measure in measures)
        rows.append({"name": name, "precision": precision, "recall": recall, "f1": f1, "support": int(y[:, i].sum())})
    macro: ClassScores = {
        "name": "macro mean",
        "precision": float(np.mean([row["precision"] for row in rows])),
        "recall": float(np.mean([row["recall"] for row in rows])),
        "f1": float(np.mean([row["f1"] for row in rows])),
        "support": len(y),
    }
    return rows, [macro]


def headline(evaluation: Evaluation, what: str) -> str:
    """The main numbers in a line."""
    numbers = "  ".join(f"{name} {readable(value)}" for name, value in evaluation.results.items())
    return f"{what} ({counted(evaluation.n_samples, 'sample')}):  {numbers}"


def print_evaluation(console: Console, evaluation: Evaluation, what: str) -> None:
    """One line with the main numbers, then the classes' table; of very many classes only the worst."""
    print(headline(evaluation, what))
    if not evaluation.classes:
        return
    classes, title = evaluation.classes, None
    if len(classes) > _MOST_ROWS:
        classes = sorted(classes, key=lambda row: row["f1"])[:_WORST_ROWS]
        title = f"The {_WORST_ROWS} classes with the lowest F1"
    table = Table("class", title=title, box=box.SIMPLE_HEAD)
    for name in ("precision", "recall", "F1", "samples"):
        table.add_column(name, justify="right")
    for row in classes:
        table.add_row(*_cells(row))
    table.add_section()
    for row in evaluation.means:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: ClassScores) -> list[str | Text]:
    return [Text(row["name"]), *(f"{row[k]:.3f}" for k in ("precision", "recall", "f1")), f"{row['support']:,}"]
