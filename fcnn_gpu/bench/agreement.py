"""Whether two libraries compute the same: how far their weights and outputs lie apart, and how far they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._types import HostArray
from .nets import Net

STEPS = 5
"""Training steps from the same weights over the same batches before the comparison."""

_LEARNED = 5e-2
"""Of the distance that training moved an array. Rounding alone reaches 2e-2 in float32: it decides whether a unit whose
Z is near 0 takes part, and Adam makes a whole step out of a gradient however small. A learning rate that is wrong by a
tenth, a missing bias correction or another loss scale are far beyond. Scikit-learn's ε, added to √v before the bias
correction, shortens steps along tiny gradients: up to 3e-2 here, which is a variant of Adam and no error."""
_STATISTICS = 5e-3
"""Of the distance that running means and variances moved: sums of many values, which round to some 1e-3 or less. A
running variance that divides by n, not n − 1, lies 8e-3 off at a batch of 256."""
_OUTPUTS = 1e-2
"""Of the outputs, which all weights go into: 2e-3 is usual."""


@dataclass(frozen=True)
class Deviation:
    """The array that lies farthest off in terms of its limit."""

    array: str
    value: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether every array lies within its limit."""
        return self.value <= self.limit


def deviation(
    theirs: Mapping[str, HostArray], ours: Mapping[str, HostArray], initial: Mapping[str, HostArray], net: Net
) -> Deviation:
    """Compare what two libraries learned from `initial`: ‖a − b‖/‖b − b₀‖ for each array, ‖a − b‖/‖b‖ for "outputs".

    With batch norm the biases of the hidden layers are left out: normalization takes them away again, so their true
    gradient is 0, and Adam makes steps of whole learning rates out of the rounding errors that stand in for it. The
    running means, which contain them, are compared. Something that is not finite deviates infinitely.
    """
    if theirs.keys() != ours.keys():
        raise ValueError(f"Expected the arrays {sorted(ours)}, got {sorted(theirs)}.")
    ignored = {f"b{i}" for i in range(len(net.hidden))} if net.batch_norm else set()
    found = [_compare(name, theirs[name], ours[name], initial.get(name)) for name in ours if name not in ignored]
    return max(found, key=lambda d: d.value / d.limit)


def _compare(name: str, theirs: HostArray, ours: HostArray, initial: HostArray | None) -> Deviation:
    if theirs.shape != ours.shape:
        raise ValueError(f"Expected {name} of shape {ours.shape}, got {theirs.shape}.")
    limit = _OUTPUTS if name == "outputs" else _STATISTICS if name.startswith("running") else _LEARNED
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    moved = b if initial is None else b - initial
    scale = float(np.linalg.norm(moved)) or 1.0
    value = float(np.linalg.norm(a - b)) / scale
    return Deviation(name, value if np.isfinite(value) else float("inf"), limit)
