"""The scikit-learn regressor."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from .._arrays import quietly, refuse_masked
from .._types import DType, HostArray
from ..data import warn_of_lost_digits
from ..losses import LOSSES, VALUE_LINKS, Loss
from ..training import History, loss_of_constant
from ._array_api import follows_input
from ._base import FCNNEstimator, has_partial_fit
from ._constructor import constructor_of
from ._convergence import FEWEST_EPOCHS_FOR_SCALE, TargetScaleWarning, unscaled
from ._network import Design
from ._parameters import Parameters


@constructor_of("FCNNRegressor", before="optimizer")
class RegressorParameters(Parameters):
    """What a regressor takes beside the shared parameters."""

    loss: str | Loss = "mse"


class FCNNRegressor(RegressorMixin, RegressorParameters, FCNNEstimator):
    """A fully-connected network as a scikit-learn regressor, for y (n_samples,) or (n_samples, n_outputs).

    Neither X nor y is scaled: put `StandardScaler` before it for X, and wrap it in `TransformedTargetRegressor(...,
    transformer=StandardScaler())` for a y far from mean 0 and variance 1, which a network learns slowly otherwise:
    where it ends worse than the mean of y, `TargetScaleWarning` says so. A `DigitsWarning` names columns, of time
    stamps for example, whose digits the network's dtype loses: those must be.

    Parameters and attributes are those of `FCNNClassifier`, with `loss` ("mse", "mae", "huber", "log_cosh", "poisson",
    "quantile" or an instance, such as `Huber(delta=2.0)`) in place of label_smoothing and class_weight, and without
    `classes_`. Of `Quantile` with several quantiles, predictions have a column for each of them and each target, those
    of a target side by side.
    scikit-learn's alpha is batch_size·n_outputs·λ₂ for SGD and Adam, because its squared error is half of the sum over
    the outputs.

    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> regressor = FCNNRegressor((32,), "tanh", learning_rate=0.01, random_state=0, backend="numpy")
    >>> regressor.fit(X, np.sin(3 * X[:, 0])).score(X, np.sin(3 * X[:, 0])) > 0.99
    True
    """

    _loss_parameter = "loss"
    _task = "regression"
    _y_ndim: int
    _y_dtype: DType

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (n_samples, n_features) and y (n_samples,) or (n_samples, n_outputs).

        `sample_weight` (n_samples,) is scaled to mean 1: a weight of 2 is a sample that is there twice.
        """
        return self._fit(X, y, sample_weight)

    @available_if(has_partial_fit)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one more epoch, on these samples. Nothing is held out; `sample_weight` is used as it is."""
        return self._fit(X, y, sample_weight, partial=True)

    @follows_input
    @quietly
    def predict(self, X: Any) -> HostArray:
        """Values in the shape that y had, (n_samples,) or (n_samples, n_outputs), and in its dtype: float32 or float64.

        What scales predictions back, such as `TransformedTargetRegressor`, computes in the dtype that it gets.
        """
        outputs = self._outputs(X)
        if self._network.design.loss.link == "exp":
            with np.errstate(over="ignore"):  # where the network says so
                np.exp(outputs, out=outputs)
        outputs = outputs.astype(self._y_dtype, copy=False)
        return outputs if self._y_ndim == 2 or outputs.shape[1] > 1 else outputs[:, 0]

    @quietly
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² on X and y, the share of the targets' variance that is explained; several outputs are averaged."""
        refuse_masked(y, "FCNNRegressor.score: y")
        refuse_masked(sample_weight, "FCNNRegressor.score: sample_weight")
        n_quantiles = LOSSES.resolve(self.loss).outputs_per_target
        if n_quantiles > 1:
            raise ValueError(
                f"{type(self).__name__}.score: predictions have {n_quantiles} quantiles of each target, of which none "
                "is compared with it. Use sklearn.metrics.mean_pinball_loss, quantile by quantile."
            )
        return super().score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _advice(
        self, design: Design, history: History, targets: HostArray, sample_weight: HostArray | None
    ) -> tuple[str, type[Warning]] | None:
        message = self._unscaled(design, history, targets, sample_weight)
        if message is not None:
            return message, TargetScaleWarning
        return super()._advice(design, history, targets, sample_weight)

    def _unscaled(
        self, design: Design, history: History, targets: HostArray, sample_weight: HostArray | None
    ) -> str | None:
        """What is to be said of a network that is worse than the mean of targets far from unit scale."""
        loss = design.loss
        if len(history) < FEWEST_EPOCHS_FOR_SCALE or loss.name not in LOSSES or LOSSES[loss.name] is not type(loss):
            return None
        y = np.asarray(targets, design.dtype).reshape(len(targets), -1)
        mean = np.average(y.astype(np.float64), axis=0, weights=sample_weight)
        deviation = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=sample_weight))
        with np.errstate(all="ignore"):
            outputs = np.repeat(np.log(mean) if loss.link == "exp" else mean, loss.outputs_per_target)
        prepared = loss.prepare_targets(targets, self.n_outputs_, design.dtype)
        of_mean = loss_of_constant(loss, outputs.astype(design.dtype), prepared, sample_weight)
        record = history.records[-1 if history.best_epoch is None else history.best_epoch - 1]
        return unscaled(type(self).__name__, record["loss"], of_mean, mean, deviation)

    def _check_loss(self) -> Loss:
        loss = LOSSES.resolve(self.loss)
        if not loss.predicts_values:
            fitting = ", ".join(repr(name) for name in LOSSES if LOSSES[name].link in VALUE_LINKS)
            raise ValueError(f"{self._who('loss')} is one of {fitting}, or an instance, got {self.loss!r}.")
        return dataclasses.replace(loss)

    def _check_targets(self, y: Any, classes: Any, continues: bool, partial: bool) -> tuple[HostArray, int]:
        n_out = (1 if y.ndim == 1 else y.shape[1]) * LOSSES.resolve(self.loss).outputs_per_target
        if continues and (n_out, y.ndim) != (self.n_outputs_, self._y_ndim):
            raise ValueError(
                f"{type(self).__name__} began with {self.n_outputs_} outputs and a {self._y_ndim}-dimensional y; "
                f"it cannot go on with a y of shape {y.shape}."
            )
        self._y_ndim = y.ndim
        if y.dtype.kind != "f":  # whole numbers are values here, not labels that a validation part is balanced by
            remedy = "Subtract their mean from them while they are whole."
            warn_of_lost_digits(y, np.float64, None, f"{type(self).__name__}.fit: y", None, remedy)
            y = y.astype(np.float64)
        self._y_dtype = np.result_type(y.dtype, np.float32)
        return y, n_out
