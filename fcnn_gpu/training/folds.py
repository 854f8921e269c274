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


def fold_weights(y: Any, n_folds: int = 5, *, seed: int = 0) -> HostArray:
    """Weights (n_samples, n_folds) of 0 and 1, for `fit(sample_weight=)`: column g leaves fold g out.

    y: class labels (n_samples,), of which each fold gets the same shares (scikit-learn's StratifiedKFold), or a number
    of samples, which are cut at random (KFold); for values and several labels pass len(y). Each sample is in one fold.
    ValueError where there are fewer samples, or fewer of a class, than folds.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    n_folds = check_integer("fold_weights(n_folds)", n_folds, low=2)
    seed = check_integer("fold_weights(seed)", seed, low=0)
    folds: KFold | StratifiedKFold
    if isinstance(y, numbers.Number):
        n, labels = check_integer("fold_weights(y), a number of samples,", y, low=1), None
        if n < n_folds:
            raise ValueError(f"fold_weights: {n} samples do not make {n_folds} folds. Ask for fewer.")
        folds = KFold(n_folds, shuffle=True, random_state=seed)
    else:
        labels = np.asarray(as_labels(y, "fold_weights: y"))
        if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
            labels = labels.astype(str)
        if labels.ndim != 1 or labels.dtype.kind not in "biuUS":
            raise ValueError(
                f"fold_weights expects class labels (n_samples,) or a number of samples, got {labels.dtype} of shape "
                f"{labels.shape}. For values, and several labels of a sample, pass len(y); floats that are labels "
                "become classes by astype(int)."
            )
        n, (classes, counts) = len(labels), np.unique(labels, return_counts=True)
        if n == 0 or counts.min() < n_folds:
            what = "no samples" if n == 0 else f"{counts.min()} samples of class {classes[counts.argmin()]!s}"
            raise ValueError(
                f"fold_weights: {what} cannot be in each of {n_folds} folds. Ask for fewer, or pass len(y), which cuts "
                "without looking at classes."
            )
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    weights = np.ones((n, n_folds), np.float32)
    for g, (_, left_out) in enumerate(folds.split(np.empty((n, 0)), labels)):
        weights[left_out, g] = 0.0
    return weights


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
