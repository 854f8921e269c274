"""A table in three parts, drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from fcnn_gpu._types import HostArray

from ..datasets import Task
from .tables import Table

TEST_SHARE = VALIDATION_SHARE = 0.2
"""Of the table, and of what is then left: 64, 16 and 20 %."""


@dataclass(frozen=True)
class Split:
    """What to train on, what chooses when to stop, and what nobody was trained on.

    Values are standardized by the training part, so that their errors are alike from table to table.
    """

    task: Task
    n_classes: int
    """0 for values."""
    X_train: pd.DataFrame
    y_train: HostArray
    X_validation: pd.DataFrame
    y_validation: HostArray
    X_test: pd.DataFrame
    y_test: HostArray

    @property
    def X_known(self) -> pd.DataFrame:
        """Training and validation part, for models that make parts of their own."""
        return pd.concat([self.X_train, self.X_validation], ignore_index=True)

    @property
    def y_known(self) -> HostArray:
        """The targets of `X_known`."""
        return np.concatenate([self.y_train, self.y_validation])


def split(table: Table, seed: int) -> Split:
    """64 % to train on, 16 % to validate and 20 % to test, class by class."""
    is_classification = table.task == "classification"
    X, X_test, y, y_test = _parts(table.X, table.y, TEST_SHARE, seed, is_classification)
    X, X_validation, y, y_validation = _parts(X, y, VALIDATION_SHARE, seed, is_classification)
    if not is_classification:
        mean, std = y.mean(), y.std()
        y, y_validation, y_test = ((part - mean) / std for part in (y, y_validation, y_test))
    return Split(table.task, table.n_classes, X, y, X_validation, y_validation, X_test, y_test)


def _parts(
    X: pd.DataFrame, y: HostArray, share: float, seed: int, is_classification: bool
) -> tuple[pd.DataFrame, pd.DataFrame, HostArray, HostArray]:
    labels = y if is_classification else None
    X, other, y, y_other = train_test_split(X, y, test_size=share, random_state=seed, stratify=labels)
    return X.reset_index(drop=True), other.reset_index(drop=True), y, y_other
