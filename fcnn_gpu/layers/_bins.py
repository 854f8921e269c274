"""Edges of bins for PiecewiseLinearEmbedding, from training data."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import as_array
from .._checks import check_integer
from .._types import HostArray


def piecewise_linear_bins(X: Any, n_bins: int = 48, y: Any = None) -> list[list[float]]:
    """The edges of up to `n_bins` bins for each column of X (n_samples, n_features), the ends of its values included.

    Without y they are quantiles, equal ones once: every bin holds about as many samples. With y they are the thresholds
    of a decision tree of up to `n_bins` leaves that predicts y from the column alone (scikit-learn's, with its
    defaults): classes where y holds integers, booleans or text, values where it holds real numbers.

    ValueError for a column of one value, for NaN and infinity, and unless 2 ≤ n_bins < n_samples.
    Source: Gorishniy, Rubachev & Babenko (2022), sections 3.2.1 and 3.2.2.

    >>> import numpy as np
    >>> piecewise_linear_bins(np.array([[0.0], [1.0], [2.0], [4.0], [4.0]]), n_bins=2)
    [[0.0, 2.0, 4.0]]
    """
    who = "piecewise_linear_bins"
    n_bins = check_integer(f"{who}(n_bins)", n_bins, low=2)
    values = np.asarray(as_array(X, f"{who}: X"), np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{who} expects X of shape (n_samples, n_features), got {values.shape}.")
    if not n_bins < len(values):
        raise ValueError(f"{who} expects fewer bins than samples, got n_bins={n_bins} for {len(values)} samples.")
    finite = np.isfinite(values).all(axis=0)
    if not finite.all():
        raise ValueError(f"{who}: column {int(np.argmin(finite))} of X holds NaN or infinity. Remove or impute them.")
    constant = values.max(axis=0) == values.min(axis=0)
    if constant.any():
        raise ValueError(f"{who}: column {int(np.argmax(constant))} of X has one value only. Leave it out.")
    if y is None:
        edges = np.quantile(values, np.linspace(0.0, 1.0, n_bins + 1), axis=0)
        return [np.unique(column).tolist() for column in edges.T]
    targets = np.asarray(y)
    if targets.shape[:1] != values.shape[:1]:
        raise ValueError(f"{who} got {len(values)} samples in X but y of shape {targets.shape}.")
    return [_split(column, targets, n_bins) for column in values.T]


def _split(column: HostArray, y: HostArray, n_bins: int) -> list[float]:
    """The ends of a column and the thresholds of a tree between them."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # takes longer to import than this package

    kind = DecisionTreeRegressor if y.dtype.kind == "f" else DecisionTreeClassifier
    tree = kind(max_leaf_nodes=n_bins, random_state=0).fit(column.reshape(-1, 1), y).tree_
    splits = tree.threshold[tree.children_left != tree.children_right]
    return np.unique(np.concatenate([[column.min(), column.max()], splits])).tolist()
