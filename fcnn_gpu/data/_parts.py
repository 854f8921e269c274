"""Data sets with a training and a test part (`fcnn_gpu.datasets.Dataset`), where X and y are expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._arrays import is_data_set

if TYPE_CHECKING:
    from ..datasets import Dataset


def data_set_of(X: Any, y: Any, who: str) -> Dataset | None:
    """X if it is a data set, which has its targets; None where it is something else. TypeError for both."""
    if not is_data_set(X):
        return None
    if y is not None:
        raise TypeError(
            f"{who}: the data set has targets of its own. Leave y out, or pass its X_train and other targets."
        )
    data: Dataset = X
    return data


def measured_part(X: Any, y: Any, who: str) -> tuple[Any, Any]:
    """X and y, of a data set those of its test part. ValueError where it has none."""
    data = data_set_of(X, y, who)
    if data is None:
        return X, y
    if not len(data.X_test):
        raise ValueError(f"{who}: {data.name} has no test part. Pass data.X_train, data.y_train to measure that.")
    return data.X_test, data.y_test
