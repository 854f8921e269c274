"""Folds: which samples each network of a bagged ensemble leaves out, and how many networks a time is enough for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv

from .._checks import check_integer
from .._types import HostArray

Fold = tuple[HostArray, HostArray]
"""The rows that are trained on, and those that are held out."""


@dataclass(frozen=True)
class Deadline:
    """A moment until which all shall be done."""

    seconds: float
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds from now on, at least 0."""
        return max(0.0, self.started + self.seconds - time.perf_counter())


def deal(targets: HostArray, n_folds: int, seed: int) -> list[Fold]:
    """Each sample is held out by one of the folds, drawn by the seed; integer labels are dealt class by class.

    >>> [held_out.tolist() for _, held_out in deal(np.array([0, 0, 1, 1]), 2, seed=0)]
    [[0, 2], [1, 3]]
    """
    n, rng = len(targets), np.random.default_rng([seed, 0xF01D])
    order = rng.permutation(n)
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        order = order[np.argsort(targets[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % n_folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def folds_of(cv: Any, targets: HostArray, seed: int, who: str) -> list[Fold]:
    """The folds that `cv` stands for: a number, a splitter of scikit-learn's, or pairs of rows themselves."""
    n = len(targets)
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        n_folds = check_integer(who, cv, low=2)
        if n_folds > n:
            raise ValueError(f"{who}={n_folds} folds cannot be made of {n} samples. Take fewer folds.")
        return deal(targets, n_folds, seed)
    splitter = check_cv(cv, targets, classifier=targets.ndim == 1)
    rows = [(np.asarray(train), np.asarray(held_out)) for train, held_out in splitter.split(np.zeros((n, 1)), targets)]
    if not rows:
        raise ValueError(f"{who} gives no folds: {cv!r}.")
    for train, held_out in rows:
        if not len(train) or not len(held_out):
            raise ValueError(f"{who} gives a fold of {len(train)} samples to train on and {len(held_out)} held out.")
        if np.intersect1d(train, held_out).size:
            raise ValueError(f"{who} gives a fold that trains on samples which it holds out.")
    return rows


def affordable(
    seconds: float, per_epoch: float, epochs: int, n_folds: int, fewest: int = 2, at_once: int = 1
) -> tuple[int, int]:
    """(folds, epochs) that fit into a time: fewer folds first, `fewest` at least, then fewer epochs, two at least.

    (The first step of a run has the learning rate 0.) `per_epoch` seconds are an epoch's, and `at_once` networks are
    trained at the same time.

    >>> affordable(100.0, 0.1, epochs=256, n_folds=8)
    (3, 256)
    >>> affordable(30.0, 0.1, epochs=256, n_folds=8)
    (2, 150)
    """
    possible = min(n_folds, int(seconds / (per_epoch * epochs)) * at_once)
    if possible >= fewest:
        return possible, epochs
    least = min(n_folds, max(fewest, at_once))
    rounds = -(-least // at_once)
    return least, min(epochs, max(2, int(seconds / (per_epoch * rounds))))


def in_rounds(n: int, at_once: int) -> Iterator[range]:
    """0, 1, ..., n − 1, so many at a time.

    >>> list(in_rounds(5, 2))
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return (range(first, min(first + at_once, n)) for first in range(0, n, at_once))
