"""What is subtracted from samples and targets, and added to predictions, in float64 and on the host.

X − c for a column of mean μ and standard deviation σ, with c ≈ μ, is exact to ε₆₄|μ|, and what is left fits the model's
dtype to ε|X − c|. In the model's dtype, or folded into a bias as W·X + (b − W·c), the difference would be exact to ε|μ|
alone, which is nothing of use where |μ| exceeds σ/ε.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import Array, HostArray
from ..backend import as_array
from ..datasets._digits import Digits, difference, may_round, some_rows, surely_held
from ..losses import Loss

_AT_ONCE = 2**17
"""Numbers that are subtracted at a time."""
FLOAT64_REMEDY = "Subtract an offset where they are measured or written, in whole numbers."
REMEDY = (
    "Standardize them in float64 before, for example with sklearn.preprocessing.StandardScaler, or give the model "
    "Sequential(input_center=X.mean(axis=0)), which is subtracted in float64."
)
TARGET_REMEDY = (
    "Standardize them in float64 before, for example with sklearn.compose.TransformedTargetRegressor, or give the "
    "model Sequential(output_center=y.mean(axis=0)), which is added to its predictions in float64."
)


def check_center(who: str, value: Any, n: int, what: str) -> HostArray | None:
    """A center (n,) float64 that is not written to; None for None, and for zeros, which change nothing.

    `value` may be a single number, for all columns alike. TypeError for what is no numbers, ValueError for another
    length, NaN and infinity.
    """
    if value is None:
        return None
    given = as_array(value, who)
    if given.dtype.kind not in "iuf":
        raise TypeError(f"{who} expects a number for each of the {n} {what}, got {given.dtype} values.")
    if given.shape not in ((), (n,)):
        raise ValueError(f"{who} expects a number for each of the {n} {what}, shape ({n},), got shape {given.shape}.")
    center = np.empty(n, np.float64)
    center[...] = given
    if not np.isfinite(center).all():
        raise ValueError(f"{who} expects finite numbers, got {center[~np.isfinite(center)][0]}.")
    center.flags.writeable = False
    return center if center.any() else None


def centered(X: HostArray, center: HostArray, out: HostArray) -> None:
    """out = X − c, (n, n_features), subtracted in float64 whatever X and `out` are, a few rows at a time."""
    rows = max(1, _AT_ONCE // max(1, X.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found in `out`
        for start in range(0, len(X), rows):
            out[start : start + rows] = difference(X[start : start + rows], center)


def centered_on_device(ops: Any, X: Array, center: HostArray, dtype: Any) -> Array:
    """X − c in `dtype` for X (n, n_features) of the device: through the host, where it is subtracted in float64."""
    ready = ops.empty(X.shape, dtype)
    rows = max(1, _AT_ONCE // max(1, X.shape[1]))
    for start in range(0, len(X), rows):
        piece = ops.to_numpy(X[start : start + rows])
        part = np.empty(piece.shape, dtype)
        centered(piece, center, part)
        ops.assign(ready[start : start + rows], part)
    return ready


def mean_over_members(predictions: HostArray, members: int) -> HostArray:
    """Predictions (n_samples, k·n_outputs) of k networks side by side as their mean, (n_samples, n_outputs)."""
    if members == 1:
        return predictions
    n, n_outputs = predictions.shape
    of_each = predictions.reshape(n, members, n_outputs // members)
    return of_each.mean(axis=1, dtype=np.float64).astype(predictions.dtype)


def check_output_center(loss: Loss, center: HostArray | None) -> None:
    """ValueError for a center of outputs that the loss takes for logits of classes, or that differs among members."""
    if center is not None and (center.reshape(loss.members, -1) != center[: len(center) // loss.members]).any():
        raise ValueError(
            "The network has an output_center that differs among members, and EnsembleLoss compares the outputs of "
            "each with the same targets. Give each member the same: numpy.tile(center, members)."
        )
    if center is not None and (loss.link != "identity" or loss.outputs_per_target > 1):
        what = "logarithms" if loss.predicts_values else "classes"
        what = "several outputs of a target" if loss.outputs_per_target > 1 else what
        raise ValueError(
            f"The network has an output_center, which is added to values, and {loss.name} is for {what}. Train with "
            "'mse', 'mae' or 'huber', or leave output_center out."
        )


def centered_targets(loss: Loss, y: Any, center: HostArray | None) -> Any:
    """y − c in float64, for targets that are values; y itself without a center, or where the loss will refuse it.

    Of several members, c is the center of the first, which is that of each.
    """
    check_output_center(loss, center)
    if center is None:
        return y
    center = center[: len(center) // loss.members]
    array = as_array(y, f"{loss.name}: the targets")
    if array.dtype.kind not in "biuf" or array.shape[1:] not in ((), (len(center),)):
        return array
    if array.ndim == 1:
        return difference(array, center) if len(center) == 1 else array
    return difference(array, center)


def restored(values: HostArray, center: HostArray | None) -> HostArray:
    """values + c in float64: what targets and outputs are outside of the network; themselves without a center."""
    if center is None:
        return values
    return values.astype(np.float64) + center


def warn_of_lost_digits(
    values: HostArray, dtype: Any, center: HostArray | None, who: str, names: Sequence[str] | None, remedy: str
) -> None:
    """A `DigitsWarning` where the model's dtype loses digits of a column, by some of its rows (of the host)."""
    dtype = np.dtype(dtype)
    if values.dtype.kind not in "iuf" or values.ndim not in (1, 2) or not may_round(values.dtype, dtype):
        return
    some = some_rows(values)
    if center is None and len(some) and surely_held(some.reshape(len(some), -1), dtype):
        return
    digits = Digits(dtype, center)
    digits.add(some)
    digits.warn(who, names, remedy)
    if center is not None:
        digits.warn_of_float64(who, names, FLOAT64_REMEDY)
