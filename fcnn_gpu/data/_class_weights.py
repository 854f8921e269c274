"""Weights of classes, and of their samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._checks import check_real
from .._types import HostArray


def class_weights_to_sample_weights(
    class_weight: str | Mapping[Any, float], labels: HostArray, n_classes: int
) -> HostArray:
    """w_j = v_{y_j} as float64, by `weights_of_classes` of these labels."""
    return weights_of_classes(class_weight, np.bincount(labels, minlength=n_classes))[labels]


def weights_of_classes(class_weight: str | Mapping[Any, float], counts: HostArray) -> HostArray:
    """A weight v_c for each class as float64, from the samples n_c that each has.

    "balanced" is v_c = n/(n_classes_present · n_c), as in scikit-learn.
    """
    n_classes = len(counts)
    weights = np.ones(n_classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight is 'balanced' or a dict of label: weight, got {class_weight!r}.")
        present = counts > 0
        weights[present] = counts.sum() / (present.sum() * counts[present])
    elif isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < n_classes:
                raise ValueError(f"class_weight names the class {label!r}; the classes are 0 ... {n_classes - 1}.")
            weights[label] = check_real(f"class_weight of class {label}", weight, low=0.0)
    else:
        raise TypeError(f"class_weight is 'balanced' or a dict of label: weight, got {type(class_weight).__name__}.")
    return weights
