"""Metrics of decided classes: accuracy and its kin, precision, recall and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from .._arrays import quietly
from .._checks import check_choice, check_integer, check_real
from .._registry import OMITTED_IF_DEFAULT
from .._types import HostArray
from ._base import AVERAGES, METRICS, Average, Metric, OneClass, Task
from ._checked import check_multilabel, check_threshold, classes, scores_of, share, told, weights_of


@dataclass(frozen=True)
class _Decided(Metric):
    """A metric of classes that predictions are taken for.

    Args:
        threshold: the probability beyond which the second of two classes, or one of several labels, is predicted, ½
            unless given.
    """

    greater_is_better: ClassVar[bool] = True
    task: ClassVar[Literal["classification", "regression"] | None] = "classification"
    threshold: float | None = field(default=None, kw_only=True, metadata=OMITTED_IF_DEFAULT)

    def __post_init__(self) -> None:
        check_threshold(type(self).__name__, self.threshold)

    @property
    def label(self) -> str:
        return self.name + self._at_threshold

    @property
    def _at_threshold(self) -> str:
        return "" if self.threshold is None else f"_at_{self.threshold:g}"


@METRICS.register("accuracy")
@dataclass(frozen=True)
class Accuracy(_Decided):
    """(1/n) Σᵢ [ŷᵢ = yᵢ], the share of samples whose predicted class is right.

    The predicted class is the column with the largest probability, or, of a single column, 1 where it exceeds ½.
    With several labels per sample every one of them must be right (subset accuracy).

    Args:
        multilabel: whether a matrix `y_true` means several labels per sample, in zeros and ones, or one class per
            sample, in rows that sum to 1. None: as the loss of a `Trainer` says (`for_task`); called by itself, such a
            metric takes no matrix, of which zeros and ones may mean either.
        threshold: of two classes the probability beyond which the second is predicted, of several labels each; None
            takes ½. All metrics of decided classes have it; their label then ends in it, as in "f1_at_0.3".

    >>> Accuracy()(np.array([0, 1, 2]), np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]))
    0.6666666666666666
    """

    multilabel: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_multilabel(self.name, self.multilabel)

    @property
    def reads_ranks_alone(self) -> bool:
        return type(self).__call__ is Accuracy.__call__ and not self.multilabel and self.threshold is None

    @property
    def adds_up(self) -> bool:
        return type(self).__call__ is Accuracy.__call__

    def for_task(self, task: Task) -> Self:
        return told(self, task)

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        return share(self.label, self.hits(y_true, y_pred), sample_weight)

    @quietly
    def hits(self, y_true: HostArray, y_pred: HostArray) -> HostArray:
        truth, prediction, _ = classes(self.label, y_true, y_pred, self.multilabel, self.threshold)
        right = truth == prediction
        return right if right.ndim == 1 else right.all(axis=1)


@METRICS.register("balanced_accuracy")
@dataclass(frozen=True)
class BalancedAccuracy(OneClass, _Decided):
    """The mean over the classes that occur of the share of their samples whose predicted class is right.

    Source: Brodersen et al. (2010), "The balanced accuracy and its posterior distribution"; scikit-learn's without
    `adjusted`.

    >>> BalancedAccuracy()(np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]))
    0.5
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        truth, prediction, n_classes = classes(self.label, y_true, y_pred, False, self.threshold)
        weights = weights_of(self.label, sample_weight, len(truth))
        w = np.ones(len(truth)) if weights is None else weights
        of_class = np.bincount(truth, w, n_classes)
        right = np.bincount(truth, w * (truth == prediction), n_classes)
        occurs = of_class > 0
        return float((right[occurs] / of_class[occurs]).mean())


@METRICS.register("mcc")
@dataclass(frozen=True)
class MatthewsCorrelation(OneClass, _Decided):
    """(cs − Σ_k p_k t_k)/√((s² − Σ p_k²)(s² − Σ t_k²)): the correlation of classes and predicted classes, −1 to 1.

    Of s samples, c are right, t_k are of class k and p_k are predicted as it; of two classes (TP·TN − FP·FN)/√(...). 0
    where all are predicted as one class, or are of one. Source: Gorodkin (2004), "Comparing two K-category assignments
    by a K-category correlation coefficient", eq. 8.

    >>> MatthewsCorrelation()(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9]))
    0.5773502691896258
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        truth, prediction, n_classes = classes(self.label, y_true, y_pred, False, self.threshold)
        weights = weights_of(self.label, sample_weight, len(truth))
        w = np.full(len(truth), 1.0 / len(truth)) if weights is None else weights / weights.sum()
        t, p = np.bincount(truth, w, n_classes), np.bincount(prediction, w, n_classes)
        if (t > 0).sum() < 2 or (p > 0).sum() < 2:
            return 0.0
        right = w[truth == prediction].sum()
        correlation = (right - t @ p) / np.sqrt((1.0 - p @ p) * (1.0 - t @ t))
        return float(np.clip(correlation, -1.0, 1.0))


@METRICS.register("top_k_accuracy")
@dataclass(frozen=True)
class TopKAccuracy(OneClass):
    """The share of samples whose class is among the k columns with the largest probabilities.

    The string "top_3_accuracy" is short for `TopKAccuracy(k=3)`. Among equal probabilities the higher class index comes
    first, as in scikit-learn.

    Args:
        k: at least 1, and at most the number of classes (where it is 1 by definition).
    """

    greater_is_better: ClassVar[bool] = True
    task: ClassVar[Literal["classification", "regression"] | None] = "classification"
    k: int = 5

    def __post_init__(self) -> None:
        check_integer("TopKAccuracy(k)", self.k, low=1)

    @property
    def label(self) -> str:
        return f"top_{self.k}_accuracy"

    @property
    def reads_ranks_alone(self) -> bool:
        return type(self).__call__ is TopKAccuracy.__call__

    @property
    def adds_up(self) -> bool:
        return type(self).__call__ is TopKAccuracy.__call__

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        return share(self.label, self.hits(y_true, y_pred), sample_weight)

    @quietly
    def hits(self, y_true: HostArray, y_pred: HostArray) -> HostArray:
        truth, prediction, n_classes = classes(self.label, y_true, y_pred, False)
        if self.k > n_classes:
            raise ValueError(f"{self.label} needs at least {self.k} classes, the predictions have {n_classes}.")
        if self.k == n_classes:
            return np.ones(len(truth), dtype=bool)
        if n_classes == 2:
            return truth == prediction
        best = np.argsort(scores_of(self.label, y_pred), axis=1, kind="stable")[:, -self.k :]
        return (best == truth[:, np.newaxis]).any(axis=1)


@dataclass(frozen=True)
class _Averaged(_Decided):
    """What precision, recall and F share.

    Args:
        average: "macro", "weighted", "micro" or "binary"; see `Precision`.
        multilabel: as in `Accuracy`.
    """

    average: Average = "macro"
    multilabel: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(f"{type(self).__name__}(average)", self.average, AVERAGES)
        check_multilabel(type(self).__name__, self.multilabel)

    @property
    def label(self) -> str:
        return (self.name if self.average == "macro" else f"{self.name}_{self.average}") + self._at_threshold

    def for_task(self, task: Task) -> Self:
        if task == "multilabel" and self.average == "binary":
            raise ValueError(f"{self.label} is for two classes, not for several labels. Use average='macro'.")
        return told(self, task)

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        truth, prediction, average = self._decisions(y_true, y_pred)
        weights = weights_of(self.label, sample_weight, len(truth))
        return self._score(truth, prediction, average=average, zero_division=0, sample_weight=weights)

    def _score(self, truth: HostArray, prediction: HostArray, **options: Any) -> float:
        """scikit-learn's function of this name, with its arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define _score(truth, prediction, **options).")

    def _decisions(self, y_true: HostArray, y_pred: HostArray) -> tuple[HostArray, HostArray, Average]:
        """Targets, predictions, and the average for scikit-learn."""
        truth, prediction, n_classes = classes(self.label, y_true, y_pred, self.multilabel, self.threshold)
        if self.average == "binary" and (n_classes != 2 or truth.ndim == 2):
            kind = "several labels per sample" if truth.ndim == 2 else f"{n_classes} classes"
            raise ValueError(f"{self.label} is for two classes, got {kind}. Use average='macro'.")
        if truth.ndim == 2 and truth.shape[1] == 1:  # of one label, every mean over the labels is its own number
            return truth[:, 0], prediction[:, 0], "binary"
        return truth, prediction, self.average


@METRICS.register("precision")
@dataclass(frozen=True)
class Precision(_Averaged):
    """TP / (TP + FP) per class, averaged: of the samples predicted as a class, the share that are of it.

    A class that is never predicted counts as 0.

    Args:
        average: "macro" (the plain mean over the classes that occur in targets or predictions), "weighted" (by how
            often each occurs in the targets), "micro" (all decisions counted at once) or "binary" (class 1 alone).
        multilabel, threshold: as in `Accuracy`.
    """

    def _score(self, truth: HostArray, prediction: HostArray, **options: Any) -> float:
        from sklearn.metrics import precision_score

        return float(precision_score(truth, prediction, **options))


@METRICS.register("recall")
@dataclass(frozen=True)
class Recall(_Averaged):
    """TP / (TP + FN) per class, averaged: of the samples of a class, the share predicted as it.

    A class that never occurs among the targets counts as 0. The arguments are those of `Precision`.
    """

    def _score(self, truth: HostArray, prediction: HostArray, **options: Any) -> float:
        from sklearn.metrics import recall_score

        return float(recall_score(truth, prediction, **options))


@METRICS.register("f1")
@dataclass(frozen=True)
class F1(_Averaged):
    """2·TP / (2·TP + FP + FN) per class, averaged: the harmonic mean of precision and recall.

    The arguments are those of `Precision`.
    """

    def _score(self, truth: HostArray, prediction: HostArray, **options: Any) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(truth, prediction, **options))


@METRICS.register("f_beta")
@dataclass(frozen=True)
class FBeta(_Averaged):
    """(1 + β²)·TP / ((1 + β²)·TP + FP + β²·FN) per class, averaged: recall counts β times as much as precision.

    The strings "f2" and "f0.5" are short for `FBeta(beta=2)` and `FBeta(beta=0.5)`. The other arguments are those of
    `Precision`. Source: van Rijsbergen (1979), "Information retrieval", chapter 7.
    """

    beta: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("FBeta(beta)", self.beta, low=0.0)

    @property
    def label(self) -> str:
        return super().label.replace(self.name, f"f{self.beta:g}", 1)

    def _score(self, truth: HostArray, prediction: HostArray, **options: Any) -> float:
        from sklearn.metrics import fbeta_score

        return float(fbeta_score(truth, prediction, beta=self.beta, **options))
