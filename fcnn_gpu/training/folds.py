"""Cross-validation in one run: each member of an ensemble leaves out a fold of its own.

>>> import numpy as np, fcnn_gpu as fcnn
>>> data = fcnn.datasets.load("digits")
>>> X, y, k = data.X_train, data.y_train, 5
>>> layers = [fcnn.Members(k), fcnn.DenseEnsemble(32, k, activation="relu"), fcnn.DenseEnsemble(10, k)]
>>> model = fcnn.Sequential(layers, n_in=64, seed=0, backend="numpy")
>>> weights = fcnn.fold_weights(y, k, seed=0)
>>> trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", k), fcnn.Adam(3e-3))
>>> _ = trainer.fit(X, y, sample_weight=weights, epochs=10, batch_size=32, progress=False)
>>> P = fcnn.out_of_fold(model, X, weights)  # of each sample by the member that has not seen it
>>> P.shape, bool((P.argmax(axis=1) == y).mean() > 0.9)
((1438, 10), True)
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from .._arrays import as_array, as_labels
from .._checks import check_integer
from .._types import HostArray
from ..model import Sequential


def deal_folds(n_folds: int, seed: int, labels: HostArray) -> HostArray:
    """In which fold, from 0, each sample is, (n_samples,): dealt one after the other in an order drawn by the seed.

    `labels` (n_samples,) that are whole numbers are classes, and dealt class by class: each fold has its share of each,
    as in scikit-learn's StratifiedKFold, and of a class with fewer samples than there are folds some have none.

    >>> deal_folds(2, 0, np.array([0, 0, 1, 1])).tolist()
    [0, 1, 0, 1]
    """
    n, rng = len(labels), np.random.default_rng([seed, 0xF01D])
    order = rng.permutation(n)
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(n, np.int64)
    folds[order] = np.arange(n) % n_folds
    return folds


def fold_weights(y: Any, n_folds: int = 5, *, seed: int = 0) -> HostArray:
    """Weights (n_samples, n_folds) of 0 and 1, for `fit(sample_weight=)`: column g leaves fold g out.

    y: class labels (n_samples,), of which each fold gets the same shares, or a number of samples, which are cut at
    random; for values and several labels pass len(y). Each sample is in one fold. ValueError where there are fewer
    samples than folds.
    """
    n_folds = check_integer("fold_weights(n_folds)", n_folds, low=2)
    seed = check_integer("fold_weights(seed)", seed, low=0)
    if isinstance(y, numbers.Number):
        labels = np.zeros(check_integer("fold_weights(y), a number of samples,", y, low=1), np.int64)
    else:
        names = np.asarray(as_labels(y, "fold_weights: y"))
        if names.dtype == object and all(isinstance(name, str) for name in names.flat):
            names = names.astype(str)
        if names.ndim != 1 or names.dtype.kind not in "biuUS":
            raise ValueError(
                f"fold_weights expects class labels (n_samples,) or a number of samples, got {names.dtype} of shape "
                f"{names.shape}. For values, and several labels of a sample, pass len(y); floats that are labels "
                "become classes by astype(int)."
            )
        labels = np.unique(names, return_inverse=True)[1]
    if len(labels) < n_folds:
        raise ValueError(f"fold_weights: {len(labels)} samples do not make {n_folds} folds. Ask for fewer.")
    return (deal_folds(n_folds, seed, labels)[:, np.newaxis] != np.arange(n_folds)).astype(np.float32)


def out_of_fold(model: Sequential, X: Any, sample_weight: Any, batch_size: int | None = None) -> HostArray:
    """Predictions (n_samples, n_outputs) of each sample by the members that have not been trained on it.

    `sample_weight` (n_samples, members) is what `fit` was given: 0 where a member was to leave the sample out. Where
    several were, the mean of their predictions. ValueError where none was.
    """
    weights = as_array(sample_weight, "out_of_fold: sample_weight")
    predictions = model.predict_members(X, batch_size)
    if model.members == 1 and weights.ndim == 1:
        weights = weights[:, np.newaxis]
    if weights.shape != predictions.shape[:2]:
        raise ValueError(
            f"out_of_fold expects sample_weight of shape {predictions.shape[:2]}, one for each sample and member, as "
            f"fit was given, got {weights.shape}."
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("out_of_fold expects sample_weight as fit was given it, finite and of at least 0.")
    unseen = weights == 0
    by_all = np.flatnonzero(~unseen.any(axis=1))
    if by_all.size:
        raise ValueError(
            f"out_of_fold: every member was trained on sample {by_all[0]} ({by_all.size} samples in all), and none can "
            "predict it as one that it has not seen. Take these samples out, of X and of sample_weight."
        )
    total = np.einsum("jg,jgi->ji", unseen, predictions, dtype=np.float64)
    return (total / unseen.sum(axis=1)[:, np.newaxis]).astype(predictions.dtype)
