"""Boosted trees, with categories as each of them takes them.

The validation part chooses the number of trees, by what is compared: the classification error, or the RMSE. "TD" are
the settings that Holzmüller et al. (2024) found best over many tables, as pytabkit 1.8.0 has them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from fcnn_gpu._types import HostArray

from ...datasets import Task
from ..splits import Split
from ..tables import categories
from .base import Estimator, Fitted, Model

PATIENCE = 300
"""Trees that may be no better before the fit ends; those behind the best are left out in any case."""

Settings = Mapping[Task, Mapping[str, Any]]
_DEFAULTS: Settings = {"classification": {}, "regression": {}}
LIGHTGBM_TD: Settings = {
    "classification": {
        "n_estimators": 1000,
        "learning_rate": 0.04,
        "subsample": 0.75,
        "subsample_freq": 1,
        "num_leaves": 50,
        "min_child_samples": 40,
        "min_child_weight": 1e-7,
    },
    "regression": {
        "n_estimators": 1000,
        "learning_rate": 0.05,
        "subsample": 0.7,
        "subsample_freq": 1,
        "num_leaves": 100,
        "min_child_samples": 3,
        "min_child_weight": 1e-7,
    },
}
XGBOOST_TD: Settings = {
    "classification": {
        "n_estimators": 1000,
        "learning_rate": 0.08,
        "min_child_weight": 5e-6,
        "reg_lambda": 0.0,
        "max_depth": 6,
        "colsample_bylevel": 0.9,
        "subsample": 0.65,
    },
    "regression": {
        "n_estimators": 1000,
        "learning_rate": 0.05,
        "min_child_weight": 2.0,
        "reg_lambda": 0.0,
        "max_depth": 9,
        "subsample": 0.7,
    },
}
_CATBOOST = {
    "n_estimators": 1000,
    "l2_leaf_reg": 1e-5,
    "boosting_type": "Plain",
    "bootstrap_type": "Bernoulli",
    "subsample": 0.9,
    "max_bin": 254,
}
CATBOOST_TD: Settings = {
    "classification": _CATBOOST
    | {
        "learning_rate": 0.08,
        "max_depth": 7,
        "random_strength": 0.8,
        "one_hot_max_size": 15,
        "leaf_estimation_iterations": 1,
    },
    "regression": _CATBOOST
    | {
        "learning_rate": 0.09,
        "max_depth": 9,
        "random_strength": 0.0,
        "one_hot_max_size": 20,
        "leaf_estimation_iterations": 20,
    },
}


@dataclass(frozen=True)
class Trees(Model):
    """A library's boosted trees with settings for each task."""

    settings: Settings = field(default_factory=lambda: _DEFAULTS)


@dataclass(frozen=True)
class Booster(Estimator):
    """Trees whose file is the library's own."""

    suffix: str

    def n_bytes(self) -> int:
        """Of that file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{self.suffix}"
            self.estimator.save_model(str(path))
            return path.stat().st_size


@dataclass(frozen=True)
class LightGBMTrees(Estimator):
    """Whose file holds the trees up to the best."""

    def n_bytes(self) -> int:
        """Of LightGBM's own file."""
        return len(self.estimator.booster_.model_to_string(num_iteration=self.rounds).encode())


class LightGBM(Trees):
    """LGBMClassifier and LGBMRegressor."""

    def load(self, n_threads: int) -> None:
        import lightgbm  # noqa: F401

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        import lightgbm

        make = lightgbm.LGBMClassifier if part.task == "classification" else lightgbm.LGBMRegressor
        metric = "rmse" if not part.n_classes else "binary_error" if part.n_classes == 2 else "multi_error"
        model = make(random_state=seed, n_jobs=n_threads, verbose=-1, metric=metric, **self.settings[part.task])
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(part.X_train, part.y_train, eval_X=part.X_validation, eval_y=part.y_validation, callbacks=[stop])
        return LightGBMTrees(model, int(model.best_iteration_))


class XGBoost(Trees):
    """XGBClassifier and XGBRegressor."""

    def load(self, n_threads: int) -> None:
        import xgboost  # noqa: F401

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        import xgboost

        make = xgboost.XGBClassifier if part.task == "classification" else xgboost.XGBRegressor
        metric = "rmse" if not part.n_classes else "error" if part.n_classes == 2 else "merror"
        options = {"early_stopping_rounds": PATIENCE, "eval_metric": metric, "enable_categorical": True}
        model = make(random_state=seed, n_jobs=n_threads, **options, **self.settings[part.task])
        model.fit(part.X_train, part.y_train, eval_set=[(part.X_validation, part.y_validation)], verbose=False)
        return Booster(model, int(model.best_iteration) + 1, ".ubj")


@dataclass(frozen=True)
class CatBoostTrees(Booster):
    """Whose probabilities come by rows, as all others' do."""

    def predict(self, X: pd.DataFrame) -> HostArray:
        return np.ascontiguousarray(super().predict(X))


class CatBoost(Trees):
    """CatBoostClassifier and CatBoostRegressor."""

    def load(self, n_threads: int) -> None:
        import catboost  # noqa: F401

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        import catboost

        make = catboost.CatBoostClassifier if part.task == "classification" else catboost.CatBoostRegressor
        metric = "RMSE" if not part.n_classes else "ZeroOneLoss"
        options: dict[str, Any] = {"eval_metric": metric, "early_stopping_rounds": PATIENCE, "verbose": False}
        options |= {"thread_count": n_threads, "random_seed": seed, "allow_writing_files": False}
        model = make(cat_features=categories(part.X_train), **options, **self.settings[part.task])
        model.fit(part.X_train, part.y_train, eval_set=(part.X_validation, part.y_validation))
        return CatBoostTrees(model, int(model.tree_count_), ".cbm")


class HistGradientBoosting(Model):
    """HistGradientBoostingClassifier and -Regressor, which stop early as they do by default: on a part of their own."""

    def load(self, n_threads: int) -> None:
        """It is imported, and has the threads of the process."""

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        make = HistGradientBoostingClassifier if part.task == "classification" else HistGradientBoostingRegressor
        model = make(random_state=seed).fit(part.X_known, part.y_known)
        return Estimator(model, int(model.n_iter_))


TREES: tuple[Model, ...] = (
    LightGBM("LightGBM", "lightgbm", "lightgbm"),
    XGBoost("XGBoost", "xgboost", "xgboost"),
    CatBoost("CatBoost", "catboost", "catboost", pace=3e-3),
    HistGradientBoosting("HistGradientBoosting", "scikit-learn", "sklearn"),
    LightGBM("LightGBM TD", "lightgbm", "lightgbm", pace=2e-3, settings=LIGHTGBM_TD),
    XGBoost("XGBoost TD", "xgboost", "xgboost", pace=2.5e-3, settings=XGBOOST_TD),
    CatBoost("CatBoost TD", "catboost", "catboost", pace=3e-3, settings=CATBOOST_TD),
)
