"""What a person reads of a classifier beside one number: predicted classes, the confusion matrix, a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from .._arrays import quietly
from .._types import HostArray
from ._checked import label_pair, most_probable, scores_of


class ClassScores(TypedDict):
    """Precision, recall and F1 of one class, and how many samples of it there are."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class Report(TypedDict):
    """What `classification_report` returns: plain data, ready for a table or JSON."""

    accuracy: float
    classes: list[ClassScores]
    macro: ClassScores
    weighted: ClassScores


@quietly
def predicted_classes(y_pred: HostArray, threshold: float | None = None) -> HostArray:
    """Class indices (n_samples,) from probabilities (n_samples, n_outputs); one column is that of class 1.

    The most probable class, of equal ones the first; with a `threshold`, of two classes the second where its
    probability is larger.

    >>> predicted_classes(np.array([[0.2, 0.8], [0.9, 0.1]]))
    array([1, 0])
    >>> predicted_classes(np.array([0.7, 0.5]))
    array([1, 0])
    >>> predicted_classes(np.array([[0.7, 0.3], [0.9, 0.1]]), threshold=0.2)
    array([1, 0])
    """
    scores = scores_of("predicted_classes", y_pred)
    if threshold is None:
        return most_probable(scores)
    if scores.shape[1] > 2:
        raise ValueError(f"predicted_classes(threshold) is of two classes, got predictions of {scores.shape[1]}.")
    return (scores[:, -1] > threshold).astype(np.int64)


@quietly
def confusion_matrix(y_true: HostArray, y_pred: HostArray, n_classes: int) -> HostArray:
    """C (n_classes, n_classes) int64: C[i, j] samples of class i were predicted as class j.

    Args:
        y_true: (n_samples,) class indices.
        y_pred: (n_samples,) predicted class indices (`predicted_classes` makes them from probabilities).
        n_classes: how many classes there are.

    Raises:
        ValueError: different lengths, no samples, or labels that are not 0 to n_classes − 1.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), n_classes=2)
    array([[1, 0],
           [1, 1]])
    """
    from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

    truth, prediction = label_pair("confusion_matrix", y_true, y_pred, n_classes)
    return sklearn_confusion_matrix(truth, prediction, labels=np.arange(n_classes)).astype(np.int64)


@quietly
def classification_report(
    y_true: HostArray, y_pred: HostArray, n_classes: int, class_names: Sequence[str] | None = None
) -> Report:
    """Accuracy, and precision, recall, F1 and support of every class, with their plain and weighted means.

    Args:
        y_true: (n_samples,) class indices.
        y_pred: (n_samples,) predicted class indices.
        n_classes: how many classes there are; those without samples are listed too, and count in the means.
        class_names: what to call them; default "0", "1", ...

    Raises:
        ValueError: as `confusion_matrix`; or class_names of another length.

    >>> report = classification_report(np.array([0, 1, 1]), np.array([0, 1, 0]), 2, ["cat", "dog"])
    >>> report["classes"][1]
    {'name': 'dog', 'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666, 'support': 2}
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, prediction = label_pair("classification_report", y_true, y_pred, n_classes)
    names = [str(i) for i in range(n_classes)] if class_names is None else [str(name) for name in class_names]
    if len(names) != n_classes:
        raise ValueError(f"classification_report expects {n_classes} class_names, got {len(names)}.")
    labels = np.arange(n_classes)

    def scores_of(average: str | None) -> Any:
        return precision_recall_fscore_support(truth, prediction, labels=labels, average=average, zero_division=0)

    def mean(average: str) -> ClassScores:
        precision, recall, f1, _ = scores_of(average)
        return _class_scores(f"{average} mean", precision, recall, f1, len(truth))

    rows = zip(names, *scores_of(None), strict=True)
    return {
        "accuracy": float(np.mean(truth == prediction)),
        "classes": [_class_scores(*row) for row in rows],
        "macro": mean("macro"),
        "weighted": mean("weighted"),
    }


def _class_scores(name: str, precision: float, recall: float, f1: float, support: int) -> ClassScores:
    return {
        "name": name,
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "support": int(support),
    }
