"""Folds: which samples each network of a bagged ensemble trains on, and which it is validated by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._checks import check_integer
from .._console import counted
from .._types import HostArray
from ..training import deal_folds

Fold = tuple[HostArray, HostArray]
"""The rows that are trained on, and those that are held out."""


def folds_of(cv: Any, targets: HostArray, seed: int, who: str) -> list[Fold]:
    """The folds that `cv` stands for: a number, a splitter of scikit-learn's, or pairs of rows or masks themselves.

    ValueError or TypeError, in the name of `who`, for what makes none.
    """
    n = len(targets)
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        n_folds = check_integer(who, cv, low=2)
        if n_folds > n:
            raise ValueError(f"{who}={n_folds} folds cannot be made of {n} samples. Take fewer folds.")
        fold = deal_folds(n_folds, seed, targets)
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]
    if isinstance(cv, bool | str) or not (hasattr(cv, "split") or isinstance(cv, Iterable)):
        raise TypeError(f"{who} expects a number of folds, a splitter of scikit-learn's or pairs of rows, got {cv!r}.")
    try:
        parts = list(cv.split(np.zeros((n, 1)), targets) if hasattr(cv, "split") else cv)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error
    if not parts:
        raise ValueError(f"{who} gives no folds: {cv!r}. (An iterator gives them once: make a list of it.)")
    return [_checked(fold, n, f"{who}, fold {i}") for i, fold in enumerate(parts)]


def _checked(fold: Any, n: int, who: str) -> Fold:
    if not isinstance(fold, Sequence) or len(fold) != 2:
        raise ValueError(f"{who} expects a pair, (rows to train on, rows to hold out), got {fold!r}.")
    train, held_out = (_rows(part, n, who) for part in fold)
    if not len(train) or not len(held_out):
        raise ValueError(
            f"{who} has {counted(len(train), 'sample')} to train on and {len(held_out)} held out; both need one."
        )
    if np.intersect1d(train, held_out).size:
        raise ValueError(f"{who} trains on samples which it holds out.")
    return train, held_out


def _rows(part: Any, n: int, who: str) -> HostArray:
    """Numbers of rows, each once."""
    rows = np.asarray(part)
    if rows.dtype == bool and rows.shape == (n,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise TypeError(f"{who} expects the numbers of rows, or a mask of {n}, got {rows.dtype} of shape {rows.shape}.")
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(f"{who} has rows from {rows.min()} to {rows.max()}; there are those from 0 to {n - 1}.")
    if len(np.unique(rows)) < len(rows):
        raise ValueError(f"{who} has a row more than once. Weights say that a sample counts more.")
    return rows.astype(np.int64)
