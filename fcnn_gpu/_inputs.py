"""Checks of what users pass as data, made on the host before anything changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._types import HostArray


def check_features(X: Any, n_in: int | None, dtype: Any, who: str) -> HostArray:
    """X as a C-contiguous (n_samples, n_in) array of `dtype` without NaN or infinity.

    Raises TypeError for what is not numeric (complex, text, objects, sparse matrices) and ValueError for wrong shapes
    and for values that are not finite, or not in `dtype`'s range.
    """
    array = as_array(X, f"{who}: X")
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype} values"
        raise TypeError(f"{who} expects X to hold real numbers, got {kind}. Encode categories as numbers first.")
    if array.ndim != 2:
        hint = (
            "Reshape one sample to X.reshape(1, -1)"
            if array.ndim == 1
            else "Flatten each sample: X.reshape(len(X), -1)"
        )
        raise ValueError(f"{who} expects X of shape (n_samples, n_features), got {array.shape}. {hint}.")
    if len(array) == 0:
        raise ValueError(f"{who} got an X without samples: shape {array.shape}.")
    if array.shape[1] == 0:
        raise ValueError(f"{who} got an X without features: shape {array.shape}.")
    if n_in is not None and array.shape[1] != n_in:
        hint = " Did you pass X.T instead of X?" if array.shape[0] == n_in else ""
        raise ValueError(f"{who} expects X of shape (n_samples, {n_in}), got {array.shape}.{hint}")
    if array.dtype == dtype and array.flags.c_contiguous:
        converted = array
    else:
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(array, dtype)
    if array.dtype.kind == "f" and not _surely_finite(converted) and not np.isfinite(converted).all():
        row, column = np.argwhere(~np.isfinite(converted))[0]
        value = array[row, column]
        if np.isfinite(value):
            raise ValueError(
                f"{who}: X holds {value:g} (row {row}, column {column}), outside the range of {np.dtype(dtype).name}. "
                "Scale the features, for example with sklearn.preprocessing.StandardScaler."
            )
        raise ValueError(f"{who}: X holds {value} (first in row {row}, column {column}). Remove or impute such values.")
    return converted


def _surely_finite(x: HostArray) -> bool:
    """Whether Σ x² is finite, in one pass without a temporary. It may also overflow for finite values."""
    flat = x.reshape(-1)
    return math.isfinite(np.vdot(flat, flat))  # unlike np.dot it warns of no overflow


def as_array(x: Any, what: str) -> HostArray:
    """`x` (an array, a list, a pandas object) as a NumPy array, or an error that says what is wrong with `what`."""
    if hasattr(x, "tocsr"):
        raise TypeError(f"{what} must be dense, got the sparse {type(x).__name__}. Pass its toarray().")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(f"{what} has {np.ma.count_masked(x)} masked values. Remove or impute them.")
    try:
        return np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{what} cannot be made an array. Do all rows have the same length? ({error})") from error


def check_same_length(X: HostArray, y: HostArray, who: str) -> None:
    """A ValueError unless X and y have equally many samples."""
    if len(X) != len(y):
        raise ValueError(f"{who} got {len(X)} samples in X but {len(y)} in y.")
