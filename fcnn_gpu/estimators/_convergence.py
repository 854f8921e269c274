"""Whether training has come to an end, as far as its loss says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._console import counted
from .._types import HostArray
from ..callbacks import Callback
from ..training import History

_FEWEST, _WINDOW = 50, 10
"""Epochs of a run that is looked at, and those whose mean loss is taken, at least."""
_LARGE, _SMALL = 10.0, 0.1
FEWEST_EPOCHS_FOR_SCALE = 10
_OF_THE_FALL, _OF_THE_LOSS, _ERRORS = 0.02, 0.01, 3.0


class UnfinishedFitWarning(ConvergenceWarning):
    """The training loss still fell markedly when `fit` had taken all its epochs: more of them would lower it further.

    Compared are the mean losses (penalties included) of the last tenth of the epochs, ten at least, and of as many
    epochs before them. The loss still falls markedly where their difference is more than each of

    - 2 % of all that the loss has fallen since the first epoch, a fifth of what it falls on average: a loss that is on
      its way to 0 because all samples are learned falls by less, however many times smaller it gets;
    - 1 % of the loss itself, so that what a network learns by heart of many samples without a rule does not count;
    - three times its standard error. The noise of an epoch's loss is measured between neighbouring epochs, by their
      second differences, so that no trend counts as noise.

    With `tol`, and with optimizer="lbfgs", it comes wherever the epochs end before that rule does, as scikit-learn's.
    Without, it says nothing of fewer than 50 epochs: who asks for so few, for a trial or a search, knows it, and the
    first fall would look like the last. Nor does it come where something else decides on the end: `early_stopping`, a
    callback, Ctrl-C, or the user, in `partial_fit` and with `warm_start`. That samples which are not trained on gain by
    more epochs, it does not say: a network that learns noise by heart has a loss that falls, too.
    """


class TargetScaleWarning(ConvergenceWarning):
    """`FCNNRegressor` predicts its training samples no better than their mean would, and y is far from unit scale.

    That is where a column's mean or standard deviation is beyond ±10, or its deviation below 0.1, after ten epochs or
    more. A network begins with outputs about 0 and learns large, small or distant values slowly.
    """


def unscaled(who: str, loss: float, of_mean: float, mean: HostArray, deviation: HostArray) -> str | None:
    """The warning of a run that ended with this loss; `of_mean` is that of predicting the mean of each column of y."""
    far = (np.abs(mean) > _LARGE) | (deviation > _LARGE) | ((deviation > 0) & (deviation < _SMALL))
    if not (of_mean < loss and far.any()):  # nor where it is NaN
        return None
    i = int(far.argmax())
    return (
        f"{who}.fit ended with a loss of {loss:.3g}, and the mean of y as the prediction of every sample has one of "
        f"{of_mean:.3g}: nothing was learned. y is far from unit scale: mean {mean[i]:.3g}, standard deviation "
        f"{deviation[i]:.3g}. Scale it: TransformedTargetRegressor({who}(...), transformer=StandardScaler()); or take "
        "TabularRegressor, which does that."
    )


def still_falls(history: History) -> bool:
    """Whether the loss of a run falls markedly at its end (`UnfinishedFitWarning`)."""
    losses = np.add(history["loss"], history["penalty"])
    if len(losses) < _FEWEST:
        return False
    n = max(_WINDOW, len(losses) // 10)
    before, last = losses[-2 * n : -n].mean(), losses[-n:].mean()
    fall = before - last
    noise = np.sqrt(np.mean(np.diff(losses[-2 * n :], 2) ** 2) / 6)  # Var(x₁ − 2x₂ + x₃) = 6σ²
    error = noise * np.sqrt(2 / n)
    return bool(fall > max(_OF_THE_FALL * (losses[0] - last), _OF_THE_LOSS * before, _ERRORS * error))


def unfinished(who: str, history: History) -> str:
    """The warning of a run whose loss still falls."""
    n_epochs = len(history)
    n = max(_WINDOW, n_epochs // 10)
    before, last = (float(np.mean(history["loss"][part])) for part in (slice(-2 * n, -n), slice(-n, None)))
    return (
        f"{who}.fit ended after {counted(n_epochs, 'epoch')} while the training loss still fell: {before:.3g} in "
        f"epochs {n_epochs - 2 * n + 1} to {n_epochs - n}, {last:.3g} in the {n} after them. Use more epochs, or a "
        "higher learning_rate; with early_stopping=True the loss of samples that are held out ends the run."
    )


def unconverged(who: str, history: History) -> str:
    """The warning of a run that its own rule has not ended."""
    what = f"{len(history)} epochs" if history.stopped_by == "epochs" else "max_evaluations passes"
    return (
        f"{who}.fit took all its {what} before it converged: the loss is {history['loss'][-1]:.3g}. Use more of them, "
        "a larger tol, or scaled inputs."
    )


class NoMoreFall(Callback):
    """Ends a run when a loss has not come `tol` below its lowest for more than `n_epochs` epochs in a row.

    The lowest is that of all epochs, those that fell by less included: slow falls add up to none. As scikit-learn's
    MLPs count; NaN is no fall. Of the training "loss", penalties are part.
    """

    def __init__(self, tol: float, column: str, n_epochs: float) -> None:
        self._tol, self._column, self._n_epochs = tol, column, n_epochs

    def on_train_begin(self, trainer: Any) -> None:
        self._lowest, self._waited = math.inf, 0

    def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
        loss = record[self._column] + (record["penalty"] if self._column == "loss" else 0.0)
        self._waited = 0 if loss <= self._lowest - self._tol else self._waited + 1
        self._lowest = min(self._lowest, loss)
        if self._waited > self._n_epochs and trainer.stop_reason is None:
            trainer.stop_reason = f"tol: {self._column} fell by less than {self._tol:g} for {self._waited} epochs"
