"""What `load` returns, and how samples are divided into a training and a test part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .._checks import check_integer, check_real
from .._console import counted
from .._types import HostArray
from ._cells import is_number

Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A training and a test part with what a model needs to know about them.

    Attributes:
        name: the catalogue's name, or the file's.
        X_train: (n_train, n_features), C-contiguous; pixels in [0, 1]. float32, or float64 where rounding to float32
            would move a column by more than 10⁻⁵ of its standard deviation: a time stamp, for example.
        y_train: classification: (n_train,) int64 class indices from 0, or (n_train, n_classes) int64 zeros and ones
            if a sample may have several labels. Regression: (n_train,) or (n_train, n_outputs), float32 or float64
            by the same rule.
        X_test: (n_test, n_features), like X_train; n_test may be 0.
        y_test: like y_train.
        feature_shape: the shape of one sample before it was flattened, for example (28, 28).
        class_names: what class 0, 1, ... is called; None for regression.
        task: "classification" or "regression".
        source: where the data comes from and who made it.
        licence: the licence it is under; None for the user's own files.
        feature_names: the columns' names, where the file has them.
        target_name: the target column's name, where the file has it.
        byte_scale: what the file's unsigned bytes were multiplied by to become X; None where it holds other numbers.
    """

    name: str
    X_train: HostArray
    y_train: HostArray
    X_test: HostArray
    y_test: HostArray
    feature_shape: tuple[int, ...]
    class_names: tuple[str, ...] | None
    task: Task
    source: str
    licence: str | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    byte_scale: float | None = None

    @property
    def n_features(self) -> int:
        """How many numbers a sample has."""
        return int(self.X_train.shape[1])

    @property
    def n_classes(self) -> int | None:
        """How many classes there are; None for regression."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def multilabel(self) -> bool:
        """Whether a sample may belong to several classes at once."""
        return self.task == "classification" and self.y_train.ndim == 2

    @property
    def n_outputs(self) -> int:
        """How many outputs a network for this data has: one per class, or one per regression target."""
        if self.class_names is not None:
            return len(self.class_names)
        return 1 if self.y_train.ndim == 1 else int(self.y_train.shape[1])

    def __repr__(self) -> str:
        kind = counted(len(self.class_names), "class") if self.class_names else counted(self.n_outputs, "target")
        return (
            f"Dataset({self.name!r}: {len(self.X_train)} training and {len(self.X_test)} test samples, "
            f"features {self.feature_shape}, {self.task}, {kind})"
        )


class TooFewSamples(ValueError):
    """Samples cannot be divided into a training and a test part."""


def split_indices(
    n_samples: int, test_fraction: float, seed: int, labels: HostArray | None = None
) -> tuple[HostArray, HostArray]:
    """Shuffled indices of the training and of the test part.

    The test part has round(test_fraction · n_samples) samples, at least one. With labels it is stratified: class c
    gives test_fraction of its own samples, rounded so that the whole adds up (largest remainders first), and always
    keeps one sample for training. NumPy's PCG64 generator started at `seed` shuffles, so the division is the same on
    every machine.

    Args:
        n_samples: how many samples there are.
        test_fraction: in [0, 1); 0 puts every sample into the training part, in the given order.
        seed: of the shuffle.
        labels: (n_samples,) class indices to stratify by.

    Raises:
        TooFewSamples: there are too few to give both parts one. A ValueError.

    >>> train, test = split_indices(6, 1 / 3, seed=0, labels=np.array([0, 0, 0, 1, 1, 1]))
    >>> sorted(int(i) // 3 for i in test)
    [0, 1]
    """
    fraction = check_real("test_fraction", test_fraction, low=0, high=1, high_open=True)
    seed = check_integer("seed", seed, low=0)
    if fraction == 0:
        return np.arange(n_samples), np.arange(0)
    if n_samples < 2:
        raise TooFewSamples(f"A test part needs at least 2 samples, got {n_samples}. Pass test_fraction=0 for none.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_samples)
    n_test = min(max(round(fraction * n_samples), 1), n_samples - 1)
    if labels is None:
        return order[n_test:], order[:n_test]
    is_test = np.zeros(n_samples, dtype=bool)
    shuffled = labels[order]
    counts = np.bincount(labels)
    shares = class_shares(counts, n_test)
    if not shares.any():
        raise TooFewSamples("No class has 2 samples: a stratified test part is empty. Pass test_fraction=0 for none.")
    for label, share in enumerate(shares):
        is_test[np.flatnonzero(shuffled == label)[:share]] = True
    return order[~is_test], order[is_test]


def check_shares(labels: HostArray, test_fraction: float, class_names: Sequence[str] | None) -> None:
    """TooFewSamples where the classes cannot give a test part of the size that is asked for: each keeps one sample.

    Where they are numbers (`class_names`; None: somebody has named them) and most of them have no other sample, these
    are hardly classes.
    """
    n, counts = len(labels), np.bincount(labels)
    n_classes, single = np.count_nonzero(counts), np.count_nonzero(counts == 1)
    found = f"the targets have {n_classes} different values in {n} samples, and {single} of them occur only once"
    if 2 * single > n_classes and class_names is not None and all(map(is_number, class_names)):
        raise TooFewSamples(
            f"{found}: these are hardly classes. Predict them as numbers, task='regression'; if they are classes, pass "
            "test_fraction=0 for no test part."
        )
    room = n - n_classes
    if 0 < room < min(round(test_fraction * n), n - 1):  # without any, `split_indices` says so
        share = math.floor(100 * room / n) / 100
        raise TooFewSamples(
            f"{found}. Each class keeps one sample for training, which leaves {room} for a test part, fewer than "
            f"test_fraction={test_fraction:g} asks for. Pass test_fraction={share:g}"
            f"{' or less' if share else ' for none'}, or give more samples of each class."
        )


def class_shares(counts: HostArray, n_test: int) -> HostArray:
    """How many test samples each class gives: proportional to its count (largest remainders first), at most count − 1.

    >>> class_shares(np.array([60, 4, 4, 4]), 7)
    array([6, 1, 0, 0])
    """
    exact = counts * (n_test / counts.sum())
    most = np.maximum(counts - 1, 0)
    shares = np.minimum(np.floor(exact).astype(np.int64), most)
    by_remainder = np.argsort(-(exact - np.floor(exact)), kind="stable")
    while shares.sum() < n_test:
        open_classes = [label for label in by_remainder if shares[label] < most[label]]
        if not open_classes:
            break
        for label in open_classes[: n_test - int(shares.sum())]:
            shares[label] += 1
    return shares
