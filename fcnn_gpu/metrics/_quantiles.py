"""Metrics of predicted quantiles: their loss, and how many targets lie between the outer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from .._arrays import quietly
from .._checks import check_integer, check_real
from .._types import HostArray
from ._base import METRICS, Metric
from ._checked import mean, scores_of, targets_of, weights_of


@dataclass(frozen=True)
class _OfQuantiles(Metric):
    task: ClassVar[Literal["classification", "regression"] | None] = "regression"

    def _by_target(self, y_true: HostArray, y_pred: HostArray, n_quantiles: int) -> tuple[HostArray, HostArray]:
        """Targets (n_samples, n_targets, 1) and predictions (n_samples, n_targets, n_quantiles), as float64.

        Targets may stand as many times side by side as there are quantiles, as the loss `Quantile` has them.
        """
        prediction = scores_of(self.label, y_pred)
        n_samples, width = prediction.shape
        truth = targets_of(self.label, y_true, n_samples).astype(np.float64).reshape(n_samples, -1)
        if width % n_quantiles or truth.shape[1] not in (width, width // n_quantiles):
            raise ValueError(
                f"{self.label} got targets of width {truth.shape[1]} for predictions of {width}; expected "
                f"{n_quantiles} predicted quantiles of each target."
            )
        n_targets = width // n_quantiles
        if truth.shape[1] == width:
            truth = truth[:, ::n_quantiles]
        return truth[:, :, np.newaxis], prediction.reshape(n_samples, n_targets, n_quantiles)


def _quantile(who: str, value: Any) -> float:
    return check_real(who, value, low=0.0, high=1.0, low_open=True, high_open=True)


@METRICS.register("pinball")
@dataclass(frozen=True)
class Pinball(_OfQuantiles):
    """(1/n) Σᵢ max(qe, (q − 1)e), e = y − ŷ, averaged over quantiles q and targets: the loss `Quantile` itself.

    As scikit-learn's `mean_pinball_loss`, quantile by quantile.

    Args:
        quantiles: one number, or those that the network predicts of each target, side by side.

    >>> Pinball(0.9)(np.array([1.0, 2.0]), np.array([0.0, 3.0]))
    0.5
    """

    greater_is_better: ClassVar[bool] = False
    quantiles: float | Sequence[float] = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.quantiles, Sequence | np.ndarray) and not isinstance(self.quantiles, str):
            if len(self.quantiles) == 0:
                raise ValueError("Pinball(quantiles) expects at least one quantile, got none.")
            kept: Any = tuple(_quantile("Pinball(quantiles): each of them", q) for q in self.quantiles)
        else:
            kept = _quantile("Pinball(quantiles)", self.quantiles)
        object.__setattr__(self, "quantiles", kept)

    @property
    def predictions_per_target(self) -> int | None:
        return len(self.quantiles) if isinstance(self.quantiles, Sequence) else None

    @property
    def label(self) -> str:
        plain = isinstance(self.quantiles, Sequence) or self.quantiles == 0.5
        return self.name if plain else f"{self.name}_{self.quantiles:g}"

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        q = np.atleast_1d(np.asarray(self.quantiles, np.float64))
        truth, prediction = self._by_target(y_true, y_pred, len(q))
        e = truth - prediction
        return float(mean(np.maximum(q * e, (q - 1.0) * e), weights_of(self.label, sample_weight, len(e))).mean())


@METRICS.register("coverage")
@dataclass(frozen=True)
class Coverage(_OfQuantiles):
    """The share of the targets between the lowest and the highest of the predicted quantiles, bounds included.

    For quantiles 0.05 and 0.95 it should be near 0.9. By itself it says nothing of how wide the intervals are: see it
    beside `Pinball`, by which runs are compared. Several targets are averaged.

    Args:
        quantiles: how many the network predicts of each target, side by side, at least 2.

    >>> Coverage()(np.array([1.0, 2.0]), np.array([[0.0, 1.5], [2.5, 3.0]]))
    0.5
    """

    greater_is_better: ClassVar[bool] = True
    quantiles: int = 2

    @property
    def predictions_per_target(self) -> int:
        return self.quantiles

    def __post_init__(self) -> None:
        check_integer("Coverage(quantiles)", self.quantiles, low=2)

    @quietly
    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        truth, prediction = self._by_target(y_true, y_pred, self.quantiles)
        within = (prediction.min(axis=2) <= truth[:, :, 0]) & (truth[:, :, 0] <= prediction.max(axis=2))
        return float(mean(within, weights_of(self.label, sample_weight, len(within))).mean())
