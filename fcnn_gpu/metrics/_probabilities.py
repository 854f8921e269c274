"""Metrics of predicted probabilities: how well they rank samples, and how far they can be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np

from .._arrays import quietly
from .._checks import check_choice, check_integer
from .._types import HostArray
from ._base import METRICS, Metric, OneClass, Task
from ._checked import check_multilabel, most_probable, told, truth_and_scores, weights_of

RankingAverage = Literal["macro", "micro", "weighted"]
BINS = 15
"""Of probabilities from 0 to 1, as Guo et al. have them."""
_AVERAGES: tuple[RankingAverage, ...] = ("macro", "micro", "weighted")


class _OfProbabilities(Metric):
    """A metric of the probabilities of classes, or of labels that do not exclude each other."""

    task: ClassVar[Literal["classification", "regression"] | None] = "classification"
    multilabel: bool | None

    def __post_init__(self) -> None:
        check_multilabel(type(self).__name__, self.multilabel)

    def for_task(self, task: Task) -> Self:
        return told(self, task)

    def _members(
        self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None
    ) -> tuple[HostArray, HostArray, HostArray]:
        """Whether samples are of the classes, (n_samples, n_classes), with the probabilities of that; and weights.

        Of two classes that exclude each other the second alone.
        """
        truth, scores, n_classes = truth_and_scores(self.label, y_true, y_pred, self.multilabel)
        weights = weights_of(self.label, sample_weight, len(scores))
        w = np.ones(len(scores)) if weights is None else weights
        if truth.ndim == 2:
            return truth == 1, scores, w
        if n_classes == 2:
            return (truth == 1)[:, np.newaxis], scores[:, -1:], w
        return truth[:, np.newaxis] == np.arange(n_classes), scores, w


@dataclass(frozen=True)
class _Ranking(_OfProbabilities):
    """What the two areas share.

    Args:
        average: of more than two classes, each against all others, or of several labels: see `RocAUC`.
        multilabel: as in `Accuracy`.
    """

    greater_is_better: ClassVar[bool] = True
    average: RankingAverage = "macro"
    multilabel: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(f"{type(self).__name__}(average)", self.average, _AVERAGES)

    @property
    def label(self) -> str:
        return self.name if self.average == "macro" else f"{self.name}_{self.average}"

    def _averaged(
        self,
        y_true: HostArray,
        y_pred: HostArray,
        sample_weight: HostArray | None,
        area: Callable[[HostArray, HostArray, HostArray], float],
    ) -> float:
        is_of, scores, w = self._members(y_true, y_pred, sample_weight)
        n_classes = is_of.shape[1]
        if n_classes > 1 and self.average == "micro":
            return area(is_of.ravel(), scores.ravel(), np.repeat(w, n_classes))
        areas = np.array([area(is_of[:, k], scores[:, k], w) for k in range(n_classes)])
        if n_classes == 1 or self.average == "macro":
            return float(areas.mean())
        support = w @ is_of
        if not support.any():
            return 0.0
        return float(np.average(np.where(support > 0, areas, 0.0), weights=support))


@METRICS.register("roc_auc")
@dataclass(frozen=True)
class RocAUC(_Ranking):
    """P(a sample of the class is ranked before one that is not) + ½P(they are equal), per class, averaged.

    The area under the curve of true over false positives (Hanley & McNeil 1982). Of two classes that of the second; of
    more, each against all others. A class that all samples are of, or none, has no such area, and the metric is NaN, as
    in scikit-learn; a class that is not there counts for nothing in "weighted".

    Args:
        average: "macro" (the plain mean over the classes), "weighted" (by how often each occurs in the targets) or
            "micro" (all decisions at once).
        multilabel: as in `Accuracy`.

    >>> RocAUC()(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        return self._averaged(y_true, y_pred, sample_weight, _roc_auc)


@METRICS.register("average_precision")
@dataclass(frozen=True)
class AveragePrecision(_Ranking):
    """Σ_n (R_n − R_{n−1})P_n over the thresholds, P precision and R recall, per class, averaged.

    The area under the precision-recall curve without straight lines between its points, which would be too
    optimistic. Of two classes that of the second; of more, each against all others. 0 for a class that no sample is of,
    as in scikit-learn. The arguments are those of `RocAUC`.

    >>> AveragePrecision()(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.8333333333333333
    """

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        return self._averaged(y_true, y_pred, sample_weight, _average_precision)


def _roc_auc(is_of: HostArray, scores: HostArray, w: HostArray) -> float:
    from sklearn.metrics import roc_auc_score

    if not (w[is_of].any() and w[~is_of].any()):
        return float("nan")
    return float(roc_auc_score(is_of, scores, sample_weight=w))


def _average_precision(is_of: HostArray, scores: HostArray, w: HostArray) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_of, scores, sample_weight=w)) if w[is_of].any() else 0.0


@METRICS.register("log_loss")
@dataclass(frozen=True)
class LogLoss(_OfProbabilities):
    """−(1/n) Σᵢ log p_{i, yᵢ}, p at least ε of its dtype: cross-entropy, without smoothing.

    Of several labels, the mean over them. Soft targets count as their largest class. As scikit-learn's `log_loss`.

    Args:
        multilabel: as in `Accuracy`.

    >>> LogLoss()(np.array([1, 0]), np.array([0.5, 0.5]))
    0.6931471805599453
    """

    greater_is_better: ClassVar[bool] = False
    multilabel: bool | None = None

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        is_of, p, w = self._members(y_true, y_pred, sample_weight)
        given = np.asarray(y_pred).dtype
        eps = float(np.finfo(given if given.kind == "f" else np.float64).eps)
        p = np.clip(p, eps, 1.0 - eps)
        if is_of.shape[1] > 1 and not self.multilabel:
            losses = -np.log(p[is_of])
        else:
            losses = -np.log(np.where(is_of, p, 1.0 - p)).mean(axis=1)
        return float(np.average(losses, weights=w))


@METRICS.register("brier")
@dataclass(frozen=True)
class BrierScore(_OfProbabilities):
    """(1/n) Σᵢ (pᵢ − yᵢ)² of two classes, p the probability of the second; of more (1/n) Σᵢ Σ_k (p_ik − y_ik)².

    As scikit-learn's `brier_score_loss`: that of two classes is half of what the sum over both would be. Of several
    labels, the mean over them. Source: Brier (1950), "Verification of forecasts expressed in terms of probability".

    Args:
        multilabel: as in `Accuracy`.

    >>> BrierScore()(np.array([1, 0]), np.array([0.5, 1.0]))
    0.625
    """

    greater_is_better: ClassVar[bool] = False
    multilabel: bool | None = None

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        is_of, p, w = self._members(y_true, y_pred, sample_weight)
        squares = np.square(p - is_of)
        return float(np.average(squares.mean(axis=1) if self.multilabel else squares.sum(axis=1), weights=w))


@METRICS.register("calibration_error")
@dataclass(frozen=True)
class CalibrationError(OneClass):
    """Σ_m (|B_m|/n)·|acc(B_m) − conf(B_m)|, B_m the samples whose largest probability is in the m-th of equal bins.

    The expected calibration error (Naeini et al. 2015; Guo et al. 2017, "On calibration of modern neural networks",
    eq. 3): how far the share that is right is from the probability that was given. Bins are open below, closed above.

    Args:
        bins: how many there are between 0 and 1.

    >>> float(round(CalibrationError()(np.array([1, 1, 0, 1]), np.array([0.9, 0.9, 0.9, 0.9])), 3))
    0.15
    """

    greater_is_better: ClassVar[bool] = False
    task: ClassVar[Literal["classification", "regression"] | None] = "classification"
    bins: int = BINS

    def __post_init__(self) -> None:
        check_integer("CalibrationError(bins)", self.bins, low=1)

    @property
    def label(self) -> str:
        return self.name if self.bins == BINS else f"{self.name}_{self.bins}"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        truth, scores, _ = truth_and_scores(self.label, y_true, y_pred, False)
        weights = weights_of(self.label, sample_weight, len(scores))
        confidence = np.maximum(scores[:, 0], 1.0 - scores[:, 0]) if scores.shape[1] == 1 else scores.max(axis=1)
        return calibration(confidence, most_probable(scores) == truth, self.bins, weights).error


class Calibration(NamedTuple):
    """`confidence` and `accuracy`, their means in each bin that is not empty, and `error` Σ_m w_m·|acc_m − conf_m|."""

    confidence: HostArray
    accuracy: HostArray
    error: float


def calibration(
    confidence: HostArray, right: HostArray, bins: int = BINS, sample_weight: HostArray | None = None
) -> Calibration:
    """How far probabilities (n,) are from the shares that are right, (n,), bin by bin of `CalibrationError`."""
    w = np.ones(len(confidence)) if sample_weight is None else sample_weight
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    in_bin = np.bincount(bin_of, w, bins)
    filled = in_bin > 0
    means = (np.bincount(bin_of, w * x, bins)[filled] / in_bin[filled] for x in (confidence, right))
    mean, share = next(means), next(means)
    return Calibration(mean, share, float(in_bin[filled] @ np.abs(share - mean) / in_bin.sum()))
