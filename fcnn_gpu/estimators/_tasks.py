"""What a network for tables is trained for: its loss, what its best epoch is chosen by, and what is done at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from .._types import HostArray
from ..layers import Dense, DenseEnsemble
from ..losses import MSE, CrossEntropy, Loss, Quantile
from ..metrics import Accuracy, Metric, RootMeanSquaredError
from ..model import Sequential, Standardization, fold_targets
from ..placement import assign_array
from ._recipes import Recipe
from ._samples import Samples


class Task(Protocol):
    """Classification or regression."""

    def monitor(self) -> tuple[str, bool]:
        """The column of the history that says which epoch is best, and whether more of it is better."""

    def loss(self, recipe: Recipe) -> Loss: ...

    def metrics(self, targets: HostArray) -> list[Metric]:
        """What is measured of each epoch, of predictions of such targets, which are scaled already."""

    def scaling(self, targets: HostArray, precision: str) -> Standardization | None:
        """How targets are scaled for training, if they are. ValueError where weights could not take up their spread."""

    def finish(self, model: Sequential, held_out: Samples | None, scaling: Any) -> float:
        """What becomes of a trained network before it is used. Returns its temperature."""


@dataclass(frozen=True)
class Classification:
    """Cross-entropy; the best epoch by "accuracy" or "log_loss"; `calibrate`: probabilities calibrated at the end."""

    metric: str = "accuracy"
    calibrate: bool = True

    def monitor(self) -> tuple[str, bool]:
        return ("val_accuracy", True) if self.metric == "accuracy" else ("val_loss", False)

    def loss(self, recipe: Recipe) -> Loss:
        return CrossEntropy(label_smoothing=recipe.label_smoothing)

    def metrics(self, targets: HostArray) -> list[Metric]:
        return [Accuracy()]

    def scaling(self, targets: HostArray, precision: str) -> None:
        return None

    def finish(self, model: Sequential, held_out: Samples | None, scaling: Any) -> float:
        """Divide the last layer by the temperature that fits the held-out samples."""
        if not self.calibrate or held_out is None:
            return 1.0
        Z = model.infer(held_out.inputs, None, None, "calibration").astype(np.float64)
        temperature = best_temperature(Z.reshape(len(Z), model.members, -1), held_out.targets, held_out.weights)
        last = model.layers[-1]
        assert isinstance(last, Dense | DenseEnsemble)
        for array in (last.W, last.b):
            assign_array(model.ops, array, model.ops.to_numpy(array) * model.dtype.type(1.0 / temperature))
        model.refresh_low_precision()
        return temperature


@dataclass(frozen=True)
class Regression:
    """Squared error of standardized targets, or the pinball losses of `quantiles`; the best epoch by them.

    `target_names` are the targets', for messages.
    """

    quantiles: Sequence[float] | None = None
    target_names: Sequence[str] | None = None

    def monitor(self) -> tuple[str, bool]:
        return "val_loss" if self.quantiles is not None else "val_rmse", False

    def loss(self, recipe: Recipe) -> Loss:
        return MSE() if self.quantiles is None else Quantile(self.quantiles)

    def metrics(self, targets: HostArray) -> list[Metric]:
        return [_ErrorWithinRange(targets.min(axis=0), targets.max(axis=0))] if self.quantiles is None else []

    def scaling(self, targets: HostArray, precision: str) -> Standardization:
        found = Standardization.of(targets)
        found.check_units(precision, "targets", self.target_names)
        return found

    def finish(self, model: Sequential, held_out: Samples | None, scaling: Any) -> float:
        """Let the network predict raw values."""
        fold_targets(model, scaling)
        return 1.0


@dataclass(frozen=True, eq=False)
class _ErrorWithinRange(RootMeanSquaredError):
    """Of predictions that are kept within a range, (n_outputs,) each, as those of the estimator are."""

    low: HostArray
    high: HostArray

    def __call__(self, y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
        return super().__call__(y_true, np.clip(y_pred, self.low, self.high), sample_weight)


def best_temperature(Z: HostArray, labels: HostArray, weights: HostArray | None = None) -> float:
    """T for which the log loss of softmax(Z/T), Z (n_samples, n_classes), is smallest, between 1/30 and 30.

    Of the outputs of several members, Z (n_samples, members, n_classes): of the mean over members of softmax(Z/T).
    Labels are y + s(1/n_classes − y) with s = 1/(n + 1), as if one more sample were of each class equally: where all of
    a few samples are right, the smallest loss is that of T → 0, which is as sure of the first mistake to come. Of
    weighted samples, n = (Σ w)²/Σ w².

    >>> Z = np.log([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    >>> T = best_temperature(3 * Z, np.array([0, 0, 0, 1]))  # right 3.5 times of 5: log(3.5/1.5) = 3 log 9/T
    >>> round(T, 2), round(float(3 * np.log(9) / np.log(3.5 / 1.5)), 2)
    (7.78, 7.78)
    """
    of_members = Z if Z.ndim == 3 else Z[:, np.newaxis]
    w = np.ones(len(Z)) if weights is None else weights.astype(np.float64)
    s = 1.0 / (w.sum() ** 2 / (w**2).sum() + 1.0)
    targets = np.full((len(Z), Z.shape[-1]), s / Z.shape[-1])
    targets[np.arange(len(Z)), labels] += 1.0 - s

    def log_loss(log_temperature: float) -> float:
        each = log_softmax(of_members * np.exp(-log_temperature), axis=2)
        of_mean = logsumexp(each, axis=1) - np.log(of_members.shape[1])
        return float(np.average(-(targets * of_mean).sum(axis=1), weights=w))

    found = minimize_scalar(log_loss, bounds=(-np.log(30.0), np.log(30.0)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
