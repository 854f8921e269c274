"""What losses check of targets and of weights, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import RowError
from .._types import DType, HostArray
from ..backend import as_array


def sum_dtype(dtype: Any) -> DType:
    """The dtype of losses, weights and target matrices beside outputs of `dtype`: theirs, or float32 for 16 bits."""
    return np.dtype(np.float32) if np.dtype(dtype).itemsize == 2 else np.dtype(dtype)


def target_array(y: Any, who: str) -> HostArray:
    """`y` as a numeric host array of one or two dimensions without NaN or infinity."""
    array = as_array(y, f"{who}: the targets")
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype} values"
        hint = "For names of classes use FCNNClassifier, which encodes them, or number them from 0."
        raise TypeError(
            f"{who} expects targets that are numbers, got {kind}.{'' if array.dtype.kind == 'c' else ' ' + hint}"
        )
    if array.ndim not in (1, 2):
        raise ValueError(f"{who} expects targets of shape (n_samples,) or (n_samples, n_outputs), got {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise RowError(f"{who}: the targets hold NaN or infinity (first in {{row}}). Remove or impute them.", row)
    return array


def check_labels(labels: HostArray, n_classes: int, who: str) -> HostArray:
    """Integer labels in 0 ... n_classes − 1 as int64, or a ValueError that names the first bad one."""
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(labels != np.floor(labels))
        if bad.size:
            raise RowError(
                f"{who} expects integer labels, got {labels[bad[0]]:g} in {{row}}. "
                "For real-valued targets use 'mse', 'mae' or 'huber'.",
                int(bad[0]),
            )
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))  # before the cast, which wraps what is too large
    if bad.size:
        raise RowError(
            f"{who} with {n_classes} outputs expects labels 0 ... {n_classes - 1}, got {labels[bad[0]]} in {{row}}. "
            "Give the last layer one output per class, and number the classes from 0.",
            int(bad[0]),
        )
    return labels.astype(np.int64)


def check_target_matrix(targets: HostArray, n_outputs: int, dtype: Any, who: str) -> HostArray:
    """A C-contiguous (n, n_outputs) matrix of `dtype`."""
    if targets.ndim != 2 or targets.shape[1] != n_outputs:
        expected = f"(n_samples, {n_outputs})" + (" or (n_samples,)" if n_outputs == 1 else "")
        outputs = f"{n_outputs} output{'s' if n_outputs != 1 else ''}"
        raise ValueError(f"{who} with {outputs} expects targets of shape {expected}, got {targets.shape}.")
    return _in_range(targets, dtype, f"{who}: the targets hold", "Scale them.")


def check_sample_weight(
    weight: Any,
    n_samples: int,
    dtype: Any,
    what: str = "sample_weight",
    purpose: str = "learn from",
    members: int = 1,
) -> HostArray:
    """Per-sample weights (n_samples,) of `dtype`: finite, at least 0, not all 0. `what` they are, and what for.

    Or (n_samples, members), those of each of several members, and so for each of them.
    """
    weights = finite_weights(weight, n_samples, dtype, members)
    empty = np.flatnonzero(~np.atleast_1d(weights.any(axis=0)))
    if n_samples and empty.size:
        of = f" of member {empty[0]}" if weights.ndim > 1 else ""
        given = as_array(weight, "sample_weight")
        if not (given[:, empty[0]] if weights.ndim > 1 else given).any():
            raise ValueError(f"{what}{of} is 0 for every sample: there is nothing to {purpose}.")
        raise ValueError(f"{what}{of} rounds to 0 in {np.dtype(dtype).name} for every sample. Divide it by its mean.")
    return weights


def finite_weights(weight: Any, n_samples: int, dtype: Any, members: int = 1) -> HostArray:
    """Weights (n_samples,), or (n_samples, members), of `dtype`, finite and at least 0: of all samples, or of some."""
    array = as_array(weight, "sample_weight")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight expects numbers, got {array.dtype} values.")
    if array.shape != (n_samples,) and (members == 1 or array.shape != (n_samples, members)):
        or_each = f", or ({n_samples}, {members}), one per sample and member" if members > 1 else ""
        hint = " Weights of each member are for EnsembleLoss." if members == 1 and array.ndim == 2 else ""
        if array.shape == (n_samples, 1):
            hint = " Give its only column: sample_weight[:, 0]."
        raise ValueError(
            f"sample_weight expects shape ({n_samples},), one weight per sample{or_each}, got {array.shape}.{hint}"
        )
    bad = np.argwhere(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise RowError(
            f"sample_weight expects finite weights of at least 0, got {array[tuple(bad[0])]:g} in {{row}}.",
            int(bad[0][0]),
        )
    return _in_range(array, dtype, "sample_weight holds", "Divide the weights by their mean.")


def _in_range(array: HostArray, dtype: Any, holds: str, remedy: str) -> HostArray:
    """A finite array as a C-contiguous one of `dtype`; a ValueError names the first value outside its range."""
    with np.errstate(all="ignore"):
        converted = np.ascontiguousarray(array, dtype)
    if array.dtype.kind == "f" and not np.isfinite(converted).all():
        index = np.argwhere(~np.isfinite(converted))[0]
        raise RowError(
            f"{holds} {array[tuple(index)]:g} ({{row}}), outside the range of {np.dtype(dtype).name}. {remedy}",
            int(index[0]),
        )
    return converted
