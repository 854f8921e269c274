"""fcnn_gpu: the estimators for tables by their presets, and the plain ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning

import fcnn_gpu as fcnn

from ...models import MODELS, Job, Rules
from ..splits import Split
from .base import Estimator, Fitted, Model
from .encoded import encoded

EPOCHS = 100
"""Where all settings are equal."""


@dataclass(frozen=True)
class Preset(Model):
    """TabularClassifier and TabularRegressor, which take the table as it is."""

    preset: str = "default"
    chooses_parts: bool = False
    """Whether it makes parts of its own, and has no use for a validation part."""

    def load(self, n_threads: int) -> None:
        fcnn.set_threads(n_threads)

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        make = fcnn.TabularClassifier if part.task == "classification" else fcnn.TabularRegressor
        estimator = make(self.preset, random_state=seed, backend="cpu")
        if self.chooses_parts:
            estimator.fit(part.X_known, part.y_known)
        else:
            estimator.fit(part.X_train, part.y_train, validation_data=(part.X_validation, part.y_validation))
        return Estimator(estimator, int(np.median(estimator.best_epoch_)))  # of folds, one each


@dataclass(frozen=True)
class Plain(Model):
    """FCNNClassifier and FCNNRegressor, or scikit-learn's MLPs, as the older contest makes them, on encoded columns."""

    rules: Rules = "default"

    def load(self, n_threads: int) -> None:
        fcnn.set_threads(n_threads)

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        X, y = part.X_known, part.y_known
        made = MODELS[self.package].make(Job(self.rules, part.task, len(X), EPOCHS, seed))
        pipeline = encoded(X, made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it ends where its settings say, converged or not
            pipeline.fit(X, y)
        return Estimator(pipeline, int(getattr(pipeline[-1], "n_iter_", 0)))


OURS: tuple[Model, ...] = (
    Preset("fcnn_gpu default", "fcnn_gpu", "fcnn_gpu", pace=4e-3, preset="default"),
    Preset("fcnn_gpu fast", "fcnn_gpu", "fcnn_gpu", pace=2e-3, preset="fast"),
    Preset("fcnn_gpu tabm", "fcnn_gpu", "fcnn_gpu", pace=5.5e-2, preset="tabm"),
    Preset("fcnn_gpu best", "fcnn_gpu", "fcnn_gpu", pace=5.5e-2, preset="best", chooses_parts=True),
    Plain("fcnn_gpu FCNN", "fcnn_gpu", "fcnn_gpu", rules="default"),
    Plain("fcnn_gpu FCNN equal", "fcnn_gpu", "fcnn_gpu", rules="equal"),
)
MLPS: tuple[Model, ...] = (
    Plain("scikit-learn MLP", "scikit-learn", "sklearn", rules="default"),
    Plain("scikit-learn MLP equal", "scikit-learn", "sklearn", rules="equal"),
)
