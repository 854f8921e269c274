"""Metrics of predicted values: errors and the share of the variance that is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .._arrays import quietly
from .._types import HostArray
from ._base import METRICS, Metric
from ._checked import mean, values, weights_of


@dataclass(frozen=True)
class _OfValues(Metric):
    """A metric of values; several outputs are averaged."""

    greater_is_better: ClassVar[bool] = False
    task: ClassVar[Literal["classification", "regression"] | None] = "regression"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        truth, prediction = values(self.label, y_true, y_pred)
        weights = weights_of(self.label, sample_weight, len(truth))
        return float(self._of_outputs(truth, prediction, weights).mean())

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        """The metric of each output, from float64 (n_samples, n_outputs)."""
        raise NotImplementedError


@METRICS.register("r2")
@dataclass(frozen=True)
class R2(_OfValues):
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)², the share of the targets' variance that is explained.

    Several outputs are averaged. Constant targets give 1 if every prediction is right and 0 otherwise.
    """

    greater_is_better: ClassVar[bool] = True

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        if len(truth) < 2:
            raise ValueError("r2 needs at least 2 samples: one has no variance.")
        return _explained(np.square(truth - prediction), truth, weights)


@METRICS.register("explained_variance")
@dataclass(frozen=True)
class ExplainedVariance(_OfValues):
    """1 − Var(y − ŷ)/Var(y): R² of predictions to which the mean of their errors has been added.

    Several outputs are averaged. Constant targets give 1 if the errors are constant and 0 otherwise.
    """

    greater_is_better: ClassVar[bool] = True

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        errors = truth - prediction
        return _explained(np.square(errors - mean(errors, weights)), truth, weights)


def _explained(squares: HostArray, truth: HostArray, weights: HostArray | None) -> HostArray:
    unexplained = mean(squares, weights)
    variance = mean(np.square(truth - mean(truth, weights)), weights)
    scores, varied = np.where(unexplained == 0, 1.0, 0.0), variance != 0
    scores[varied] = 1.0 - unexplained[varied] / variance[varied]
    return scores


@METRICS.register("mae")
@dataclass(frozen=True)
class MeanAbsoluteError(_OfValues):
    """(1/n) Σ|y − ŷ|, averaged over the outputs."""

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        return mean(np.abs(truth - prediction), weights)


@METRICS.register("mse")
@dataclass(frozen=True)
class MeanSquaredError(_OfValues):
    """(1/n) Σ(y − ŷ)², averaged over the outputs; without the factor ½."""

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        return mean(np.square(truth - prediction), weights)


@METRICS.register("rmse")
@dataclass(frozen=True)
class RootMeanSquaredError(_OfValues):
    """√((1/n) Σ(y − ŷ)²) of each output, averaged over the outputs."""

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        return np.sqrt(mean(np.square(truth - prediction), weights))


@METRICS.register("median_ae")
@dataclass(frozen=True)
class MedianAbsoluteError(_OfValues):
    """The median of |y − ŷ|, averaged over the outputs: what a few large errors do not change.

    With weights, as scikit-learn's `median_absolute_error`.
    """

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        if weights is None:
            return np.median(np.abs(truth - prediction), axis=0)
        from sklearn.metrics import median_absolute_error

        of_each = median_absolute_error(truth, prediction, sample_weight=weights, multioutput="raw_values")
        return np.asarray(of_each)


@METRICS.register("mape")
@dataclass(frozen=True)
class MeanAbsolutePercentageError(_OfValues):
    """(1/n) Σ|y − ŷ|/max(|y|, ε), averaged over the outputs: a share, not in hundredths. ε is that of float64.

    As scikit-learn's: a target of 0 makes it very large.
    """

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        return mean(np.abs(truth - prediction) / np.maximum(np.abs(truth), np.finfo(np.float64).eps), weights)


@METRICS.register("log_cosh")
@dataclass(frozen=True)
class LogCoshError(_OfValues):
    """(1/n) Σ log cosh(y − ŷ), averaged over the outputs: ½e² for small errors e, |e| − log 2 for large ones."""

    def _of_outputs(self, truth: HostArray, prediction: HostArray, weights: HostArray | None) -> HostArray:
        e = np.abs(truth - prediction)
        return mean(e + np.log1p(np.exp(-2.0 * e)) - np.log(2.0), weights)
